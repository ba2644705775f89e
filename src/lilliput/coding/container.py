"""The packed container: an ONNX model and small files as one file. docs/format.md."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lilliput.coding import cuts
from lilliput.coding.drafts import Draft, finish
from lilliput.coding.folders import new_file
from lilliput.coding.header import CRC_BYTES, Header, PackedFile, write_header
from lilliput.coding.names import check_names
from lilliput.coding.payload import draft_bytes
from lilliput.coding.protobuf import find_tensors
from lilliput.errors import ContainerError

GROUP_BYTES = 48 << 20  # of tensors coded together


@dataclass(frozen=True)
class PackStats:
    """Where a container's bytes went.

    Attributes:
        total_bytes: Size of the container.
        tensors: Name of the tensor -> bytes of its stream, checksum included. Tensors of the same
            name are summed up.
        skeleton_bytes: Bytes of everything that is no tensor: graph, extras, header, checksums.
    """

    total_bytes: int
    tensors: dict[str, int]
    skeleton_bytes: int


def pack(
    onnx_path: Path, packed_path: Path, *, extras: Mapping[str, bytes] | None = None
) -> PackStats:
    """Pack an ONNX model, its external data and some small files, losslessly.

    The same input always gives the same bytes. Nothing is left behind on an error.

    Args:
        onnx_path: Any ONNX file; external data must lie in its folder or below.
        packed_path: Where to write; replaced where it exists.
        extras: File name -> contents of small files to carry along.

    Raises:
        ContainerError: Not an ONNX file, or external data outside its folder, missing or short.
        OutputError: `packed_path` cannot be written.
    """
    model = _read(onnx_path)
    tensors = find_tensors(memoryview(model))
    sources = [_source(onnx_path.name, model, cuts.inside(tensors))]
    for name, found in cuts.outside(tensors, onnx_path.parent).items():
        sources.append(_source(name, _read(onnx_path.parent / name), found))
    for name, data in sorted((extras or {}).items()):
        sources.append(_source(name, data, []))
    check_names([source.file.name for source in sources])
    header = write_header(Header(files=tuple(source.file for source in sources)))
    with new_file(packed_path) as file:
        file.write(header)
        for source in sources:
            file.writelines(source.streams)
        total = file.tell()
    coded: dict[str, int] = {}
    for source in sources:
        for name, stream in zip(source.names, source.streams[1:], strict=True):
            coded[name] = coded.get(name, 0) + len(stream)
    return PackStats(total, coded, total - sum(coded.values()))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContainerError(f"cannot read {path.name}: {error.strerror}") from error


@dataclass(frozen=True)
class _Source:
    """A file to be packed: its entry, its streams (skeleton first), and its tensors' names."""

    file: PackedFile
    streams: list[bytes]
    names: list[str]


def _source(name: str, data: bytes, found: Sequence[cuts.Cut]) -> _Source:
    edges = [0, *(edge for cut in found for edge in (cut.start, cut.stop)), len(data)]
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    skeleton = draft_bytes(b"".join(data[start:stop] for start, stop in gaps))
    streams = [_sealed(stream) for stream in _finished(data, found, skeleton)]
    entry = PackedFile(
        name=name,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        skeleton=len(streams[0]),
        cuts=tuple(
            (gap[1] - gap[0], cut.stop - cut.start, len(stream))
            for gap, cut, stream in zip(gaps, found, streams[1:], strict=False)
        ),
    )
    return _Source(entry, streams, [cut.name for cut in found])


def _finished(data: bytes, found: Sequence[cuts.Cut], skeleton: Draft) -> list[bytes]:
    """The skeleton's stream and those of the cuts, coded in groups of bounded size."""
    streams: list[bytes] = []
    waiting, size = [skeleton], 0
    for cut in found:
        waiting.append(cut.draft(data[cut.start : cut.stop]))
        size += cut.stop - cut.start
        if size > GROUP_BYTES:
            streams += finish(waiting)
            waiting, size = [], 0
    return streams + finish(waiting)


def _sealed(stream: bytes) -> bytes:
    return stream + zlib.crc32(stream).to_bytes(CRC_BYTES, "little")
