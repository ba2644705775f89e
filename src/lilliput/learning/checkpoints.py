"""Where a training run stands, on disk: whole or not at all, and only for the run that wrote it."""

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lilliput.errors import CheckpointError, OutputError

NAME = "checkpoint.pt"
EARLIER = "checkpoint-earlier.pt"
_MAGIC = b"lilliput training 1\n"
_DIGEST = 32


class Checkpoints:
    """The newest state of a run and the one before, in a folder.

    Args:
        folder: It is made where it is missing.
        run: Plain data that tells this run from others.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder, self.run = folder, dict(run)

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes a state beside the last one, then puts it in its place.

        Raises:
            OutputError: It cannot be written; the last one is as it was.
        """
        buffer = io.BytesIO()
        torch.save({"run": self.run, "state": dict(state)}, buffer)
        data = buffer.getbuffer()
        path, part = self.folder / NAME, self.folder / f"{NAME}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(_MAGIC + hashlib.sha256(data).digest())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                path.replace(self.folder / EARLIER)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(
                f"the checkpoint could not be written to {self.folder}: {error.strerror}",
                "the last one is kept: make room and start again, it goes on from there",
            ) from error

    def load(self) -> tuple[dict[str, Any] | None, str]:
        """The newest whole state, or None before the first; and what has to be said about it.

        Raises:
            CheckpointError: It is of another run, or all that was written is damaged.
        """
        reasons = []
        for name in (NAME, EARLIER):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                found = _read(path)
            except CheckpointError as error:
                reasons.append(error.message)
                continue
            self._check_run(found["run"], path)
            note = f"{reasons[0]}; went on from the checkpoint before" if reasons else ""
            return found["state"], note
        if reasons:
            raise CheckpointError(reasons[0], f"remove {self.folder} to start anew")
        return None, ""

    def _check_run(self, other: Mapping[str, Any], path: Path) -> None:
        names = sorted(set(other) | set(self.run))
        changed = [name for name in names if other.get(name) != self.run.get(name)]
        if changed:
            told = "; ".join(f"{n} was {other.get(n)}, is {self.run.get(n)}" for n in changed)
            raise CheckpointError(
                f"{path} is of another run: {told[:300]}",
                "give another folder, or the settings it was begun with",
            )


def forget(folder: Path) -> None:
    """Removes the checkpoints of a run that has come to its end; logs stay."""
    for name in (NAME, EARLIER):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    head, body = data[: len(_MAGIC) + _DIGEST], data[len(_MAGIC) + _DIGEST :]
    if head != _MAGIC + hashlib.sha256(body).digest():
        raise CheckpointError(f"{path} is damaged or no checkpoint of a training run")
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(body), weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not from this version of torch") from error
    return found
