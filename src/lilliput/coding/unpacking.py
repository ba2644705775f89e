"""Reading a container back: bit for bit, within limits, all or nothing."""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lilliput.coding.folders import new_folder
from lilliput.coding.header import CRC_BYTES, PackedFile, load_header
from lilliput.coding.payload_decoder import decode_streams
from lilliput.errors import ContainerError

GROUP_BYTES = 48 << 20  # decoded together: long enough a row of lanes, small enough for memory


def unpack(packed_path: Path, folder: Path, *, max_bytes: int = 4 << 30) -> list[Path]:
    """Write a container's files into a new folder and return their paths, the model first.

    Args:
        packed_path: The container; may be hostile.
        folder: Must not exist, or be empty. It appears whole or not at all.
        max_bytes: Refuse a container that declares more than this in all.

    Raises:
        ContainerError: Not a container, a damaged one, or one that declares too much.
        OutputError: The folder exists, or cannot be written.
    """
    try:
        size = packed_path.stat().st_size
        file = packed_path.open("rb")
    except OSError as error:
        raise ContainerError(f"cannot read {packed_path.name}: {error.strerror}") from error
    with file:
        header = load_header(file, size)
        declared = sum(entry.bytes for entry in header.files)
        if declared > max_bytes:
            raise ContainerError(
                f"the .lilliput file declares {declared} bytes, more than the limit of {max_bytes}",
                "raise --max-bytes where you trust the file",
            )
        with new_folder(folder) as partial:
            for entry in header.files:
                target = partial / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    _restore(file, entry, out)
    return [folder / entry.name for entry in header.files]


def _restore(file: BinaryIO, entry: PackedFile, out: BinaryIO) -> None:
    """Write one file: its skeleton with the tensors between."""
    digest = hashlib.sha256()
    for part in _parts(file, entry):
        digest.update(part)
        out.write(part)
    if digest.hexdigest() != entry.sha256:
        raise ContainerError(f"the .lilliput file is damaged: {entry.name!r} has a wrong hash")


def _parts(file: BinaryIO, entry: PackedFile) -> Iterator[bytes]:
    [skeleton] = decode_streams([(_stream(file, entry.skeleton), entry.skeleton_bytes)])
    position = 0
    for group in _groups(entry):
        streams = [(_stream(file, coded), size) for _, size, coded in group]
        for (gap, _, _), tensor in zip(group, decode_streams(streams), strict=True):
            yield skeleton[position : position + gap]
            position += gap
            yield tensor
    yield skeleton[position:]


def _groups(entry: PackedFile) -> Iterator[list[tuple[int, int, int]]]:
    """Consecutive cuts that are decoded together."""
    group: list[tuple[int, int, int]] = []
    for cut in entry.cuts:
        if group and sum(size for _, size, _ in group) + cut[1] > GROUP_BYTES:
            yield group
            group = []
        group.append(cut)
    if group:
        yield group


def _stream(file: BinaryIO, size: int) -> bytes:
    """The next stream, its checksum checked and taken off."""
    data = file.read(size)
    if len(data) != size or size < CRC_BYTES:
        raise ContainerError("the .lilliput file is damaged: a stream is cut short")
    stream, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
    if zlib.crc32(stream).to_bytes(CRC_BYTES, "little") != crc:
        raise ContainerError("the .lilliput file is damaged: a stream's checksum is wrong")
    return stream
