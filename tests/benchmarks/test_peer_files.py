import numpy as np
import pytest
import torch
from benchmarks.peers.files import (
    PACKED,
    ZSTD,
    Grouped,
    Plain,
    Shared,
    pack_bits,
    read,
    unpack_bits,
    write,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 8), st.data())
def test_packed_codes_come_back_and_take_their_bits(bits, data):
    codes = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=50)), dtype=np.uint8)
    packed = pack_bits(codes, bits)
    assert len(packed) == -(-len(codes) * bits // 8)
    assert unpack_bits(packed, bits, len(codes)).tolist() == codes.tolist()


def items():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 8, (128,), generator=generator, dtype=torch.uint8)
    return {
        "a.weight": Grouped(codes, torch.rand(2).half(), torch.tensor([3, 4]).byte(), 3, (10, 12)),
        "b.weight": Grouped(codes, torch.rand(2).half(), torch.rand(2).half(), 3, (128,)),
        "c.weight": Shared(codes, torch.rand(8).half(), torch.rand(16).half(), 3, (16, 8)),
        "d.bias": Plain(torch.rand(5).half()),
    }


@pytest.mark.parametrize("form", [PACKED, ZSTD])
def test_a_file_decodes_to_what_was_written(tmp_path, form):
    if form == ZSTD:
        pytest.importorskip("zstandard")
    written = items()
    sizes = write(tmp_path / "x", written, (form,))
    decoded = read(tmp_path / "x")
    assert sizes["file"] == (tmp_path / "x").stat().st_size
    assert list(decoded) == list(written)
    for name, item in written.items():
        assert torch.equal(decoded[name], item.decode())


def test_grouped_decodes_by_the_formula():
    item = Grouped(torch.tensor([0, 1, 2, 3]).byte(), torch.tensor([0.5, 2.0]).half(),
                   torch.tensor([1, 2]).byte(), 2, (1, 3))  # fmt: skip
    assert item.decode().tolist() == [[-0.5, 0.0, 0.0]]


def test_packed_size_is_bits_and_side_information(tmp_path):
    codes = torch.zeros(64 * 1000, dtype=torch.uint8)
    item = Grouped(codes, torch.ones(1000).half(), torch.zeros(1000).byte(), 4, (1000, 64))
    sizes = write(tmp_path / "x", {"w": item}, (PACKED,))
    assert 0 <= sizes["packed"] - (32_000 + 3_000) < 200
