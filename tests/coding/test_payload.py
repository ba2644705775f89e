import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conftest import laplace_codes
from lilliput.coding.drafts import finish
from lilliput.coding.matrix import encode_matrix
from lilliput.coding.payload import Form, draft_bytes, draft_parts, draft_tensor
from lilliput.coding.payload_decoder import decode_streams, inflate
from lilliput.errors import ContainerError
from lilliput.tensor.packing import pack_codes

TYPES = ["<f4", "<f2", "<f8", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"]


def coded(array: np.ndarray) -> bytes:
    return finish([draft_tensor(array.tobytes(), array.dtype, array.shape)])[0]


def round_trip(array: np.ndarray) -> bytes:
    stream = coded(array)
    assert decode_streams([(stream, array.nbytes)])[0] == array.tobytes()
    return stream


@settings(max_examples=50)
@given(st.data())
def test_any_tensor_round_trips(data: st.DataObject) -> None:
    kind = np.dtype(data.draw(st.sampled_from(TYPES)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    round_trip(data.draw(hnp.arrays(kind, shape)))


@pytest.mark.parametrize("kind", TYPES)
def test_tensors_of_every_type_with_structure_round_trip(kind: str) -> None:
    random = np.random.default_rng(0)
    round_trip((random.normal(size=(40, 50)) * 60).astype(np.int8).astype(kind))
    round_trip(random.choice(np.arange(9), (40, 50)).astype(kind))
    round_trip(random.integers(0, 256, 400 * 8, np.uint8).view(kind).reshape(-1, 40))


def test_each_form_is_chosen_where_it_is_shortest() -> None:
    random = np.random.default_rng(0)
    normal = random.normal(size=5000).astype(np.float32)
    forms = {
        Form.MATRIX: laplace_codes(60, 60, 2.0).astype(np.int8),
        Form.HALF: normal.astype(np.float16).astype(np.float32),
        Form.PALETTE: random.choice(normal[:20], (50, 60)),
        Form.PLANES: normal,
        Form.RAW: random.integers(0, 256, 999).astype(np.uint8),
        Form.DEFLATE: np.tile(random.integers(0, 256, 999).astype(np.uint8), 9),
    }
    for form, array in forms.items():
        assert coded(array)[0] == form


def test_float32_is_coded_well() -> None:
    values = np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)
    assert len(round_trip(values)) < 0.855 * values.nbytes
    halves = values.astype(np.float16).astype(np.float32)
    assert len(round_trip(halves)) < 0.46 * values.nbytes
    few = np.random.default_rng(0).choice(values[0, :16], (300, 400))
    assert len(round_trip(few)) < 0.127 * values.nbytes


def test_not_a_number_keeps_its_bits() -> None:
    array = np.array([0x7FC00001, 0x7F800001, 0xFFC00000] * 40, "<u4").view("<f4")
    round_trip(array)
    round_trip(np.array([-0.0, 0.0, np.inf, -np.inf] * 40, np.float32))


def test_nibbles_are_coded_as_codes() -> None:
    codes = np.clip(laplace_codes(64, 128, 1.0) + 8, 0, 15).astype(np.uint8)
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).tobytes()
    [stream] = finish([draft_parts(packed, 64, width=4)])
    assert decode_streams([(stream, len(packed))]) == [packed]
    _, counts = np.unique(codes, return_counts=True)
    assert len(stream) < float((counts * np.log2(codes.size / counts)).sum()) / 8


def test_crumbs_are_coded_as_codes() -> None:
    codes = np.clip(laplace_codes(64, 128, 0.6) + 2, 0, 3).astype(np.uint8)
    packed = pack_codes(codes, 2).tobytes()
    [stream] = finish([draft_parts(packed, 64, width=2)])
    assert decode_streams([(stream, len(packed))]) == [packed]
    _, counts = np.unique(codes, return_counts=True)
    assert len(stream) < float((counts * np.log2(codes.size / counts)).sum()) / 8 + 40


def test_any_bytes_may_be_taken_apart() -> None:
    data = np.random.default_rng(0).integers(0, 256, 640, np.uint8).tobytes()
    for width in (2, 4):
        [stream] = finish([draft_parts(data, 8, width=width)])
        assert decode_streams([(stream, len(data))]) == [data]


@given(st.binary(max_size=500))
def test_bytes_round_trip(data: bytes) -> None:
    [stream] = finish([draft_bytes(data)])
    assert decode_streams([(stream, len(data))]) == [data]
    assert len(stream) <= len(data) + 1


def test_inflate_never_allocates_more_than_declared() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(1 << 24)) + packer.flush()
    assert inflate(bomb, 1 << 24) == bytes(1 << 24)
    for data, size in [(bomb, 10), (bomb, (1 << 24) + 1), (bomb + b"x", 1 << 24), (bomb[:-5], 99)]:
        with pytest.raises(ContainerError, match="does not inflate"):
            inflate(data, size)
    with pytest.raises(ContainerError, match="a stream is damaged"):
        inflate(b"\xff\xff", 3)


def damaged_parts(width: int, code: int) -> bytes:
    """One byte's worth of codes, the first of which is too large."""
    codes = np.zeros((1, 8 // width), np.int8)
    codes[0, 0] = code
    return bytes([Form.NIBBLES if width == 4 else Form.CRUMBS]) + encode_matrix(codes)


@pytest.mark.parametrize(
    ("stream", "size", "message"),
    [
        (b"", 3, "ends too early"),
        (b"\x09", 3, "unknown form"),
        (damaged_parts(4, 16), 1, "more than 4 bits"),
        (damaged_parts(2, 4), 1, "more than 2 bits"),
        (b"\x00ab", 3, "2 bytes where 3"),
        (b"\x02\x09", 4, "unknown element type"),
        (b"\x02\x02\x00\x01\x01", 3, "no multiple"),
        (b"\x03\x00ab", 3, "no multiple"),
        (b"\x03" * 9, 1 << 30, "unknown form"),
        (b"\x05\x03", 9, "unknown element size"),
        (b"\x05\x00", 9, "no multiple"),
        (b"\x04\x04\x01\x03\x02\x01\x00", 4, "may not have|no multiple|ends too early|holds"),
    ],
)
def test_bad_streams_are_named(stream: bytes, size: int, message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        decode_streams([(stream, size)])


def test_mutated_streams_are_refused_or_have_the_right_size() -> None:
    random = np.random.default_rng(0)
    normal = random.normal(size=(12, 30)).astype(np.float32)
    arrays = [
        laplace_codes(30, 30, 2.0).astype(np.int8),
        normal.astype(np.float16).astype(np.float32),
        random.choice(normal[0, :5], (20, 20)),
        normal,
    ]
    refused = 0
    for array in arrays:
        good = coded(array)
        for _ in range(40):
            bad = bytearray(good)
            bad[random.integers(0, min(60, len(bad)))] = random.integers(0, 256)
            try:
                [found] = decode_streams([(bytes(bad), array.nbytes)])
            except ContainerError:
                refused += 1
            else:
                assert len(found) == array.nbytes
    assert refused > 50


def test_streams_together_are_the_same_as_alone() -> None:
    arrays = [laplace_codes(30 * n, 20, 2.0, n).astype(np.int8) for n in range(1, 6)]
    drafts = [draft_tensor(array.tobytes(), array.dtype, array.shape) for array in arrays]
    assert finish(drafts) == [coded(array) for array in arrays]
    sizes = [len(coded(array)) for array in arrays]
    assert all(first < second for first, second in pairwise(sizes))
    for draft, size in zip(drafts, sizes, strict=True):
        assert draft.size == pytest.approx(size, abs=4)
