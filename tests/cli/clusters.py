"""A small classifier of points in six clusters: what the command line is tried on."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(32, 64)
        self.head = nn.Linear(64, 6)

    def forward(self, x):
        return self.head(self.hidden(x).relu())
"""

TASK = """
import lilliput
from net import Net

task = lilliput.Task(
    model=lilliput.load_weights(Net(), {folder!r} + "/net.pt"),
    examples=lilliput.arrays({folder!r} + "/points.npz"),
    metric="accuracy",
    name="clusters",
)
"""


def make_workshop(folder: Path, examples: int = 3000) -> Path:
    """A folder with net.py, net.pt, points.npz and task.py; nearly every point is classified."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(6, 32))
    labels = draw.integers(0, 6, size=examples)
    points = (centres[labels] + 0.7 * draw.normal(size=(examples, 32))).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "points.npz", inputs=points, targets=labels)
    torch.manual_seed(0)
    names = {"0": "hidden", "2": "head"}
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 6))
    best = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        best.zero_grad()
        nn.functional.cross_entropy(
            net(torch.from_numpy(points)), torch.from_numpy(labels)
        ).backward()
        best.step()
    state = {f"{names[n[0]]}{n[1:]}": value for n, value in net.state_dict().items()}
    torch.save(state, folder / "net.pt")
    (folder / "net.py").write_text(NET)
    (folder / "task.py").write_text(TASK.format(folder=str(folder)))
    return folder


def start(*words: str, folder: Path) -> subprocess.Popen[str]:
    """The program as a user starts it, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lilliput", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A job in a shell's background is told to ignore Ctrl-C, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    process = start(*words, folder=folder)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def files(folder: Path) -> dict[str, bytes]:
    """Every file in and below a folder and what it holds, compiled Python left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
