import pytest
import torch
from benchmarks.peers import rounding


def test_round_to_nearest_errs_by_half_a_step_at_most():
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(0))
    item = rounding.round_to_nearest(weight, 4)
    steps = item.scales.float().repeat_interleave(64).reshape(8, 128)
    assert ((item.decode() - weight).abs() <= steps * 0.5 + 0.02 * steps).all()
    assert item.zeros.dtype == torch.uint8


def test_round_to_nearest_keeps_what_is_on_its_grid():
    weight = torch.arange(16.0).repeat(4).reshape(1, 64)
    assert torch.equal(rounding.round_to_nearest(weight, 4).decode(), weight)


def test_weights_that_do_not_fill_their_groups_are_padded():
    weight = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    item = rounding.round_to_nearest(weight, 8)
    assert len(item.codes) == 64
    assert item.decode().shape == (3, 7)
    assert torch.allclose(item.decode(), weight, atol=0.02)


@pytest.mark.parametrize("peer", ["hqq", "torchao_intx"])
def test_package_peers_come_close_to_rounding(peer):
    pytest.importorskip("hqq" if peer == "hqq" else "torchao")
    weight = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    plain = rounding.squared_error(rounding.round_to_nearest(weight, 4), weight)
    assert rounding.squared_error(getattr(rounding, peer)(weight, 4), weight) < 1.2 * plain
