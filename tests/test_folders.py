import errno
import os
import subprocess
import sys

import pytest

from lilliput.errors import OutputError
from lilliput.folders import MANIFEST, file_entry, fresh_folder, read_manifest
from lilliput.records import Artifact, Plan


def manifest(folder):
    artifact = Artifact(files={}, plan=Plan(model_hash="0", steps=()))
    (folder / MANIFEST).write_text(artifact.model_dump_json())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_at_the_end(tmp_path):
    with fresh_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert names(tmp_path / "deep") == ["out"] and names(tmp_path / "deep" / "out") == ["a"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_nothing_stays_of_a_failed_run(tmp_path, failure):
    with pytest.raises(failure), fresh_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        raise failure
    assert names(tmp_path) == []


def test_a_full_disk_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), fresh_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_foreign_folder_is_never_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    for force in (False, True):
        with (
            pytest.raises(OutputError, match="not an output folder of Lilliput's"),
            fresh_folder(out, force=force),
        ):
            pytest.fail("the block must not run")
    (out / MANIFEST).write_text('{"name": "somebody else\'s manifest"}')
    with (
        pytest.raises(OutputError, match="not an output folder of Lilliput's"),
        fresh_folder(out, force=True),
    ):
        pytest.fail("the block must not run")
    assert (out / "thesis.txt").read_text() == "years"


def test_a_file_is_never_replaced(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="is not a folder"), fresh_folder(tmp_path / "out"):
        pytest.fail("the block must not run")


def test_a_folder_of_ours_is_replaced_by_force_only(tmp_path):
    out = tmp_path / "out"
    with fresh_folder(out) as folder:
        manifest(folder)
        (folder / "old").touch()
    with pytest.raises(OutputError, match="--force replaces it"), fresh_folder(out):
        pytest.fail("the block must not run")
    with pytest.raises(ValueError), fresh_folder(out, force=True):
        raise ValueError
    assert names(out) == [MANIFEST, "old"]
    with fresh_folder(out, force=True) as folder:
        manifest(folder)
        (folder / "new").touch()
    assert names(out) == [MANIFEST, "new"] and names(tmp_path) == ["out"]


def test_what_killed_processes_left_is_cleared_and_put_back(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from lilliput.folders import fresh_folder\n"
        "with fresh_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert died.returncode < 0
    [left] = names(tmp_path)
    assert left.startswith(".out.partial-")
    moved = tmp_path / f".out.replaced-{left.rpartition('-')[2]}"
    moved.mkdir()
    manifest(moved)
    running = tmp_path / f".out.partial-{os.getppid()}"
    running.mkdir()
    with pytest.raises(OutputError, match="--force replaces it"), fresh_folder(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == [running.name, "out"]
    assert read_manifest(tmp_path / "out").files == {}


def test_a_manifest_is_read_or_refused(tmp_path):
    with pytest.raises(OutputError, match=f"holds no {MANIFEST}"):
        read_manifest(tmp_path)
    (tmp_path / "a").write_bytes(b"abc")
    entry = file_entry(tmp_path / "a")
    assert entry.bytes == 3 and entry.sha256.startswith("ba7816bf8f01cfea")
