"""One compressed model for all tests that look at one; commands run in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from clusters import make_workshop, run

from lilliput.cli import main


@dataclass
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("LILLIPUT_DEBUG", raising=False)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process."""

    def caller(*words: object) -> Said:
        capfd.readouterr()
        status = main([str(word) for word in words])
        told = capfd.readouterr()
        return Said(status, told.out, told.err)

    return caller


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.py, net.pt, points.npz, task.py; to be read only."""
    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def here(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workshop in a folder of one's own, which is the current one."""
    for path in workshop.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "task.py").read_text()
    (tmp_path / "task.py").write_text(text.replace(str(workshop), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletedProcess[str]]:
    """A compressed model and what was said when it was made, by a process of its own."""
    folder = make_workshop(tmp_path_factory.mktemp("proved"))
    words = "compress task.py --storage 45% --drop 3% --out out --threads 1 --json"
    return folder, run(*words.split(), folder=folder)
