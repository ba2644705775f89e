import torch
from benchmarks.peers.parts import fp32_bytes, join, split
from torch import nn


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU())
    model(torch.randn(8, 3, 8, 8))
    return model.eval()


def test_batchnorm_kept_apart_computes_the_same():
    model, inputs = network(), torch.randn(2, 3, 8, 8)
    arrays = split(model)
    assert set(arrays) == {"0.weight", "1.scale", "1.shift"}
    changed = torch.func.functional_call(model, join(model, arrays), (inputs,))
    assert torch.allclose(changed, model(inputs), atol=1e-5)


def test_shares_refer_to_the_parameters():
    assert fp32_bytes(network()) == 4 * (3 * 4 * 9 + 4 + 4)
