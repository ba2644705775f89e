"""An output folder appears as a whole or not at all."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import ValidationError

from lilliput.errors import OutputError
from lilliput.records import Artifact, FileEntry

MANIFEST = "manifest.json"
RUNNABLE = "model.onnx"
CODES = "weights.onnx"  # of the weights-only path: the weights without a graph
PACKED = "model.lilliput"
WEIGHTS = "model.safetensors"
GRAPH = "model.pt2"  # where the user's class cannot take the new shape: its graph
PLAN = "plan.toml"
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def fresh_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its name when the block ends well.

    When the block fails, or is interrupted, nothing stays. What a killed process left behind is
    removed at the next start, and a folder it was about to replace gets its name back.

    Args:
        path: The folder to be. It may not exist, unless it is empty, or `force` is set and it
            holds a manifest of ours; then it is replaced at the very end, by rename.
        force: Replace a folder of ours.

    Raises:
        OutputError: `path` exists and may not be replaced, cannot be written, or the disk is full.
    """
    path = path.resolve()
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean_up(path)
        _check_replaceable(path, force)
        folder = path.with_name(f".{path.name}.partial-{os.getpid()}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
            _check_replaceable(path, force)
            _put_in_place(folder, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_manifest(folder: Path) -> Artifact:
    """The record of the artifact in a folder.

    Raises:
        OutputError: There is none, or it is not one of ours.
    """
    try:
        return Artifact.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise OutputError(f"{folder} holds no {MANIFEST}", "is it an output folder?") from error
    except ValidationError as error:
        raise OutputError(f"{folder / MANIFEST} is not a manifest of Lilliput's") from error


def file_entry(path: Path) -> FileEntry:
    """Hash and size of a file, read back from disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=path.stat().st_size)


def _check_replaceable(path: Path, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise OutputError(f"{path} exists and is not a folder", "choose another name")
    if not any(path.iterdir()):
        return
    try:
        read_manifest(path)
    except OutputError as error:
        raise OutputError(
            f"{path} exists and is not an output folder of Lilliput's",
            "it is never replaced; choose another name",
        ) from error
    if not force:
        raise OutputError(f"{path} exists", "--force replaces it")


def _put_in_place(folder: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.replaced-{os.getpid()}")
    if path.exists():
        path.rename(old)
    try:
        folder.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clean_up(path: Path) -> None:
    """Removes what dead processes left; what they had moved aside is moved back first."""
    for old in path.parent.glob(f".{path.name}.replaced-*"):
        if _is_dead(old) and not path.exists():
            old.rename(path)
        elif _is_dead(old):
            shutil.rmtree(old, ignore_errors=True)
    for partial in path.parent.glob(f".{path.name}.partial-*"):
        if _is_dead(partial):
            shutil.rmtree(partial, ignore_errors=True)


def _is_dead(folder: Path) -> bool:
    number = folder.name.rpartition("-")[2]
    return number.isdigit() and not psutil.pid_exists(int(number))


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(f"the disk is full, {path} was not written") from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR}:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        raise
