"""What teachers answered, kept for every example: in memory, or in a file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lilliput.batches import Batch, flatten_tensors, pad_stack
from lilliput.errors import OutputError, TrainingError
from lilliput.learning.distilling.teachers import Teachers
from lilliput.learning.distilling.teaching import Teaching
from lilliput.learning.material import Material


class KeptAnswers:
    """Answers by the place of the example.

    Args:
        material: The examples, in the order of the answers.
        shapes: Of each answer, (examples, axes); the first axis counts the teachers.
        values: All answers one after the other, float32.
    """

    def __init__(self, material: Material, shapes: np.ndarray, values: np.ndarray) -> None:
        self.material, self.shapes, self.values = material, shapes, values
        self.starts = np.concatenate([[0], np.cumsum(shapes.prod(1))])
        self._rows = {place: row for row, place in enumerate(material.places)}

    def answers(self, batch: Batch) -> Tensor:
        """Outputs of all teachers, (teachers, N, ...), padded as the batch is.

        Raises:
            TrainingError: The batch holds other inputs than those that were answered.
        """
        self._check_unchanged(batch)
        found = pad_stack([self._answer(self._rows[int(one)]) for one in batch.indices])
        if batch.mask is not None and found.ndim > 2 and len(set(self.shapes[:, 1])) > 1:
            lacking = batch.mask.shape[1] - found.shape[2]
            found = F.pad(found, (0, 0) * (found.ndim - 3) + (0, lacking))
        return found.transpose(0, 1)

    def _check_unchanged(self, batch: Batch) -> None:
        """Looks at one example of every batch: what changes inputs soon changes it."""
        asked = self.material.task.batch([self.material.example(int(batch.indices[0]))])
        for given, known in zip(
            flatten_tensors(batch.inputs), flatten_tensors(asked.inputs), strict=True
        ):
            if not given[tuple(map(slice, known.shape))].cpu().equal(known):
                raise TrainingError(
                    "the teachers' kept answers are of other inputs than these",
                    "keep='no' where inputs are augmented or drawn anew",
                )

    def _answer(self, row: int) -> Tensor:
        part = self.values[self.starts[row] : self.starts[row + 1]]
        return torch.from_numpy(np.array(part)).reshape(*self.shapes[row])


def keep_answers(
    teachers: Teachers, material: Material, *, teaching: Teaching, size: int
) -> tuple[KeptAnswers | None, str]:
    """Asks the teachers about every example, once, unless a file of their answers is there.

    Args:
        teachers: Who is asked.
        material: The examples.
        teaching: Where the answers are kept, and how many bytes they may have.
        size: Examples in a batch.

    Returns:
        The answers, and a note; None where they would need too many bytes.

    Raises:
        OutputError: They cannot be written.
    """
    if isinstance(teaching.keep, Path):
        return _in_folder(teachers, material, teaching, teaching.keep, size)
    rows: list[np.ndarray] = []
    held = 0
    for row in _asked(teachers, material, size):
        held += row.nbytes
        if held > teaching.most_bytes:
            return None, _too_many(teaching, held, len(rows) + 1, len(material))
        rows.append(row)
    shapes = np.array([row.shape for row in rows])
    kept = KeptAnswers(material, shapes, np.concatenate([row.ravel() for row in rows]))
    return kept, f"the teachers' answers are kept: {held:,} bytes"


def _in_folder(
    teachers: Teachers, material: Material, teaching: Teaching, folder: Path, size: int
) -> tuple[KeptAnswers | None, str]:
    path = folder / f"answers-{_name(teachers, material, teaching)}.npy"
    sizes = path.with_suffix(".shapes.npy")
    if not (path.exists() and sizes.exists()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as scratch:
                part = Path(scratch) / path.name
                shapes, held = _write(part, _asked(teachers, material, size), teaching.most_bytes)
                if held > teaching.most_bytes:
                    return None, _too_many(teaching, held, len(shapes), len(material))
                np.save(sizes, np.array(shapes))
                part.replace(path)
        except OSError as error:
            raise OutputError(f"answers cannot be kept in {folder}: {error.strerror}") from error
    values = np.memmap(path, dtype=np.float32, mode="r")
    note = f"the teachers' answers are kept in {path.name}: {values.nbytes:,} bytes"
    return KeptAnswers(material, np.load(sizes), values), note


def _write(path: Path, rows: Iterator[np.ndarray], most: int) -> tuple[list[tuple[int, ...]], int]:
    shapes, held = [], 0
    with path.open("wb") as file:
        for row in rows:
            held += row.nbytes
            shapes.append(row.shape)
            if held > most:
                break
            file.write(row.tobytes())
    return shapes, held


def _asked(teachers: Teachers, material: Material, size: int) -> Iterator[np.ndarray]:
    """Every example's answers, (teachers, ...), in the order of the places."""
    places = material.places
    for start in range(0, len(places), size):
        some = [material.example(place) for place in places[start : start + size]]
        found: dict[int, np.ndarray] = {}
        for batch in material.batches(some, size):
            answers = teachers.answers(batch).transpose(0, 1).float()  # (N, teachers, ...)
            for index, answer, length in zip(
                batch.indices, answers, _lengths(batch, answers), strict=True
            ):
                found[int(index)] = answer[:, :length].numpy() if length else answer.numpy()
        yield from (found[example.index] for example in some)


def _lengths(batch: Batch, answers: Tensor) -> list[int]:
    """Positions up to the last real one, where answers are per position; else 0."""
    if batch.mask is None or answers.ndim < 4 or answers.shape[2] != batch.mask.shape[1]:
        return [0] * len(batch)
    real = batch.mask.bool() * torch.arange(1, batch.mask.shape[1] + 1)
    return [max(1, int(one)) for one in real.amax(1)]


def _name(teachers: Teachers, material: Material, teaching: Teaching) -> str:
    digest = hashlib.sha256()
    for told in (*teachers.hashes, teaching.precision, str(material.task.output)):
        digest.update(f"{told}\n".encode())
    for place in material.places:
        digest.update(material.task.fingerprint(place))
    return digest.hexdigest()[:16]


def _too_many(teaching: Teaching, held: int, rows: int, total: int) -> str:
    needed = held * total // rows
    return (
        f"the teachers' answers need about {needed:,} bytes, most_bytes is "
        f"{teaching.most_bytes:,}: they are not kept"
    )
