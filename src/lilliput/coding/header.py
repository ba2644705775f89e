"""The header of a container: which files it holds and how each is cut. docs/format.md, "Header"."""

import json
import struct
import zlib
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lilliput.coding.names import check_names
from lilliput.coding.payload_decoder import inflate
from lilliput.errors import ContainerError

MAGIC = b"\x89LLP\r\n\x1a\n"
FIXED = struct.Struct("<8sIII")  # magic, coded bytes, decoded bytes, CRC-32 of the coded bytes
MAX_HEADER = 1 << 22
MAX_FILES = 1 << 12
CRC_BYTES = 4  # at the end of each stream

Size = Annotated[int, Field(ge=0, lt=1 << 48)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PackedFile(_Strict):
    """One file of a container.

    Attributes:
        name: Relative to the folder, parts joined by ``/``.
        bytes: Size of the file.
        sha256: Of the file, in hexadecimal.
        skeleton: Bytes of the stream that holds everything between the cuts.
        cuts: Per tensor: bytes since the end of the last cut, bytes of the tensor, bytes of its
            stream.
    """

    name: str
    bytes: Size
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    skeleton: Size
    cuts: tuple[tuple[Size, Size, Size], ...] = ()

    @property
    def skeleton_bytes(self) -> int:
        """Decoded size of the skeleton."""
        return self.bytes - sum(cut[1] for cut in self.cuts)


class Header(_Strict):
    """What a container says about itself."""

    format: Literal["lilliput"] = "lilliput"
    version: Literal[1] = 1
    files: Annotated[tuple[PackedFile, ...], Field(max_length=MAX_FILES)]


def write_header(header: Header) -> bytes:
    """The bytes before the first stream."""
    text = header.model_dump_json(exclude_defaults=False).encode()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = packer.compress(text) + packer.flush()
    return FIXED.pack(MAGIC, len(coded), len(text), zlib.crc32(coded)) + coded


def read_header(path: Path) -> Header:
    """The header of a container, checked: names, sizes, and that they account for every byte.

    Raises:
        ContainerError: Not a container, a newer one, or a damaged one.
    """
    try:
        with path.open("rb") as file:
            return load_header(file, path.stat().st_size)
    except OSError as error:
        raise ContainerError(f"cannot read {path.name}: {error.strerror}") from error


def load_header(file: BinaryIO, size: int) -> Header:
    """As `read_header`, from an open file of `size` bytes, left at the first stream."""
    fixed = file.read(FIXED.size)
    if len(fixed) < FIXED.size or not fixed.startswith(MAGIC):
        raise ContainerError("not a .lilliput file", "it does not begin as one")
    _, coded_bytes, text_bytes, crc = FIXED.unpack(fixed)
    if coded_bytes > size - FIXED.size or max(coded_bytes, text_bytes) > MAX_HEADER:
        raise ContainerError("the .lilliput file is damaged: its header is cut short or too large")
    coded = file.read(coded_bytes)
    if zlib.crc32(coded) != crc:
        raise ContainerError("the .lilliput file is damaged: its header's checksum is wrong")
    header = _parse(inflate(coded, text_bytes))
    _check(header, size - FIXED.size - coded_bytes)
    return header


def _parse(text: bytes) -> Header:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContainerError("the .lilliput file is damaged: its header is no JSON") from error
    if isinstance(found, dict) and found.get("format") == "lilliput" and found.get("version") != 1:
        raise ContainerError(
            "a .lilliput file of another version of the format", "update Lilliput and try again"
        )
    try:
        return Header.model_validate_json(text)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ContainerError(f"the .lilliput file is damaged: bad {where} in its header") from error


def _check(header: Header, streams: int) -> None:
    check_names([file.name for file in header.files])
    declared = 0
    for file in header.files:
        if file.skeleton_bytes < sum(cut[0] for cut in file.cuts):
            raise ContainerError("the .lilliput file is damaged: its cuts exceed their file")
        declared += file.skeleton + sum(cut[2] for cut in file.cuts)
    if declared != streams:
        raise ContainerError(
            f"the .lilliput file is damaged: {streams} bytes of streams where {declared} belong"
        )
