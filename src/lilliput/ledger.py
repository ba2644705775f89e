"""The ledger of looks: how often a proof set has already been asked.

Whoever tries artifact after artifact on one proof set will prove something sooner or later. So the
k-th look at a set is tested at ``alpha / (k (k + 1))``, which sums to alpha over all looks there
will ever be. Asking again about the same files is no new look.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lilliput.errors import InputError, OutputError

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows: the rename alone protects the file
    fcntl = None  # type: ignore[assignment]

ALPHA = 0.05


@dataclass(frozen=True)
class Look:
    """The how-manyth look at a proof set it is (from 1), and the confidence it is tested at."""

    number: int
    confidence: float


class _Entries(BaseModel):
    """The file: proof set's hash -> hashes of the artifacts that looked at it, in order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: int = 1
    looks: dict[str, list[str]] = {}


def look_confidence(number: int) -> float:
    """Confidence of the `number`-th look (from 1): 1 - 0.05 / (k (k + 1))."""
    if number < 1:
        raise InputError(f"look number {number} does not exist", "looks count from 1")
    return 1 - ALPHA / (number * (number + 1))


class Ledger:
    """Looks at proof sets, kept in a JSON file beside the task.

    Args:
        path: The file; it is created by the first look.

    Raises:
        InputError: The file is damaged. It is never reset: that would forget looks.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def peek(self, proof_hash: str, artifact_hash: str = "") -> Look:
        """The look that would come next, without taking it (for forecasts)."""
        return _find(self._read().looks.get(proof_hash, []), artifact_hash)

    def look(self, proof_hash: str, artifact_hash: str) -> Look:
        """Takes a look: records it on disk before anything is shown.

        Args:
            proof_hash: SHA-256 of the proof set.
            artifact_hash: SHA-256 of the shipped files; the same files are no new look.
        """
        with self._locked():
            entries = self._read()
            seen = entries.looks.setdefault(proof_hash, [])
            found = _find(seen, artifact_hash)
            if artifact_hash not in seen:
                seen.append(artifact_hash)
                self._write(entries)
        return found

    def _read(self) -> _Entries:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return _Entries()
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(str(error)) from error
        try:
            entries = _Entries.model_validate_json(text)
        except ValidationError as error:
            raise self._damaged(error.errors()[0]["msg"]) from error
        if entries.schema_version != 1:
            raise self._damaged(f"its version is {entries.schema_version}, not 1")
        return entries

    def _damaged(self, why: str) -> InputError:
        why = " ".join(why.split())
        return InputError(
            f"the ledger of looks {self.path} cannot be read: {why}",
            "restore it from a backup; without it, only a new proof set can be judged",
        )

    def _write(self, entries: _Entries) -> None:
        text = json.dumps(entries.model_dump(), indent=1) + "\n"
        try:
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(name, self.path)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"the ledger of looks {self.path} cannot be written: {error.strerror}",
            "looks must be recorded before a verdict is shown",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds a lock beside the file, so that two processes cannot take the same look."""
        try:
            stream = self.path.with_name(self.path.name + ".lock").open("a")
        except OSError as error:
            raise self._unwritable(error) from error
        with stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _find(seen: list[str], artifact_hash: str) -> Look:
    number = seen.index(artifact_hash) + 1 if artifact_hash in seen else len(seen) + 1
    return Look(number, look_confidence(number))
