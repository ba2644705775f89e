"""Messages between two processes: a JSON header and NumPy arrays, each with its length in front."""

import io
import json
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

_LARGEST = 2**34  # bytes of one frame; more is a damaged stream


def write_message(
    stream: IO[bytes], header: dict[str, Any], arrays: Sequence[np.ndarray] = ()
) -> None:
    """Writes one message: the header, then each array in NumPy's own format, without pickle."""
    _write(stream, json.dumps({**header, "arrays": len(arrays)}).encode())
    for array in arrays:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
        _write(stream, buffer.getbuffer())
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads one message.

    Raises:
        EOFError: The stream ended, or what it holds is no message.
    """
    header = json.loads(bytes(_read(stream)))
    arrays = []
    for _ in range(header.pop("arrays")):
        buffer = io.BytesIO(_read(stream))
        arrays.append(np.lib.format.read_array(buffer, allow_pickle=False))
    return header, arrays


def _write(stream: IO[bytes], data: bytes | memoryview) -> None:
    stream.write(len(data).to_bytes(8, "little"))
    stream.write(data)


def _read(stream: IO[bytes]) -> bytes:
    length = int.from_bytes(_exactly(stream, 8), "little")
    if length > _LARGEST:
        raise EOFError(f"a frame of {length} bytes is no frame")
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError("the other process ended")
    return data
