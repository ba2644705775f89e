"""Damaged and hostile containers: an error of ours in one line, quickly, nothing left behind."""

import json
import random
import resource
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lilliput.coding import pack, read_header, unpack
from lilliput.coding.header import FIXED, MAGIC
from lilliput.errors import ContainerError


@pytest.fixture
def packed(tmp_path: Path, model_path: Path) -> bytes:
    pack(model_path, tmp_path / "model.lilliput", extras={"plan.toml": b"seed = 0\n"})
    return (tmp_path / "model.lilliput").read_bytes()


def refused(tmp_path: Path, data: bytes, match: str = ".") -> None:
    path, out = tmp_path / "bad.lilliput", tmp_path / "out"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ContainerError, match=match) as caught:
        unpack(path, out, max_bytes=1 << 24)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.process_time() - start < 5
    assert not out.exists()
    assert not list(tmp_path.glob(".*partial*"))


def refused_or_same(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.lilliput").write_bytes(data)
    try:
        unpack(tmp_path / "bad.lilliput", tmp_path / "out", max_bytes=1 << 24)
    except ContainerError:
        return
    assert (tmp_path / "out/model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    shutil.rmtree(tmp_path / "out")


def with_header(packed: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The container with its header changed and sealed again."""
    _, coded, _, _ = FIXED.unpack_from(packed)
    header = json.loads(zlib.decompress(packed[FIXED.size : FIXED.size + coded], -15))
    change(header)
    return sealed(json.dumps(header).encode()) + packed[FIXED.size + coded :]


def sealed(text: bytes, declared: int | None = None) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = packer.compress(text) + packer.flush()
    size = len(text) if declared is None else declared
    return FIXED.pack(MAGIC, len(coded), size, zlib.crc32(coded)) + coded


def test_every_truncation(tmp_path: Path, packed: bytes) -> None:
    sizes = {*range(0, 60), *range(60, len(packed), 211), *range(len(packed) - 20, len(packed))}
    for size in sorted(sizes):
        refused(tmp_path, packed[:size])
    refused(tmp_path, packed + b"x", "bytes of streams where")


def test_random_bit_flips(tmp_path: Path, packed: bytes) -> None:
    chance = random.Random(0)
    for _ in range(80):
        bad = bytearray(packed)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        refused(tmp_path, bytes(bad))


def test_flips_behind_a_valid_checksum(tmp_path: Path, packed: bytes) -> None:
    """The stream's checksum is made right: whatever is not the same file must be refused."""
    header = read_header(tmp_path / "model.lilliput")
    _, coded, _, _ = FIXED.unpack_from(packed)
    chance = random.Random(1)
    start = FIXED.size + coded
    for size in [header.files[0].skeleton, *(cut[2] for cut in header.files[0].cuts)]:
        for _ in range(3):
            stream = bytearray(packed[start : start + size - 4])
            stream[chance.randrange(min(40, len(stream)))] ^= 1 << chance.randrange(8)
            crc = zlib.crc32(stream).to_bytes(4, "little")
            refused_or_same(tmp_path, packed[:start] + stream + crc + packed[start + size :])
        start += size


def put(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["files"][0].__setitem__(key, value)


def cut(place: int, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["files"][0]["cuts"][0].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("name", "../model.onnx"), "an unsafe file name"),
        (put("name", "/tmp/model.onnx"), "an unsafe file name"),
        (put("name", "a\\b"), "an unsafe file name"),
        (put("name", "nul\0"), "an unsafe file name"),
        (put("name", "aux.txt"), "an unsafe file name"),
        (put("name", "plan.toml"), "two files of the same name"),
        (put("name", "plan.toml/x"), "two files of the same name"),
        (put("name", 7), "bad files.0.name"),
        (put("bytes", 1 << 40), "more than the limit"),
        (put("bytes", 1 << 60), "bad files.0.bytes"),
        (put("bytes", -1), "bad files.0.bytes"),
        (put("bytes", 1.5), "bad files.0.bytes"),
        (put("bytes", True), "bad files.0.bytes"),
        (put("bytes", 100), "exceed their file"),
        (put("sha256", "0" * 64), "wrong hash"),
        (put("sha256", "zz"), "bad files.0.sha256"),
        (put("skeleton", 5), "bytes of streams where"),
        (put("cuts", []), "bytes of streams where"),
        (put("link", "x"), "bad files.0.link"),
        (cut(0, 1 << 30), "exceed their file"),
        (cut(0, -1), "bad files.0.cuts"),
        (cut(1, 1 << 47), "exceed their file"),
        (cut(1, 1), "damaged"),
        (cut(2, 0), "bytes of streams where"),
        (cut(2, 1 << 70), "bad files.0.cuts"),
        (lambda header: header.update(version=2), "another version"),
        (lambda header: header.update(format="zip"), "bad format"),
        (lambda header: header.update(files=header["files"] * 5000), "bad files"),
        (lambda header: header.update(files={}), "bad files"),
    ],
)
def test_hostile_headers(
    tmp_path: Path, packed: bytes, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    refused(tmp_path, with_header(packed, change), message)


def test_headers_that_are_no_headers(tmp_path: Path) -> None:
    refused(tmp_path, b"", "not a .lilliput file")
    refused(tmp_path, b"PK\x03\x04" + bytes(100), "not a .lilliput file")
    refused(tmp_path, sealed(b"not json"), "no JSON")
    refused(tmp_path, sealed(b"[" * 200_000), "no JSON|bad")
    refused(tmp_path, sealed(b"9" * 10_000), "no JSON|bad")
    refused(tmp_path, sealed(b"\xff\xfe"), "no JSON")
    refused(tmp_path, sealed(b"[]"), "bad")
    refused(tmp_path, sealed(b"{}" + b" " * (1 << 22)), "too large")
    refused(tmp_path, sealed(b" " * 1000, 10), "does not inflate")
    refused(tmp_path, FIXED.pack(MAGIC, 1 << 31, 5, 0) + b"abc", "cut short or too large")


def test_bombs_do_not_allocate(tmp_path: Path, packed: bytes) -> None:
    """A deflate stream of 256 MB behind an honest-looking header."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"\x01" + b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    stream = bomb + zlib.crc32(bomb).to_bytes(4, "little")
    entry = {"name": "x", "bytes": 1000, "sha256": "0" * 64, "skeleton": len(stream), "cuts": []}
    header = {"format": "lilliput", "version": 1, "files": [entry]}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, sealed(json.dumps(header).encode()) + stream, "does not inflate")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
