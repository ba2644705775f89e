"""Times of operations, and which site each belongs to."""

import numpy as np
import pytest
import torch
from torch import nn

from lilliput.errors import InternalError
from lilliput.model.capture import capture
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.op_times import by_site, operation_times


class Net(nn.Module):
    """A convolution with an activation, a pooling, and a layer that takes next to no time."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 64, 5, padding=2)
        self.deep = nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Linear(64, 2)

    def forward(self, image):
        hidden = self.deep(self.wide(image).relu()).relu()
        return self.head(hidden.mean((2, 3)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    net, image = Net().eval(), torch.randn(2, 3, 32, 32)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    original = export_original(net, image, path)
    found = bind(original, capture(net, image).sites, dict(net.named_parameters()))
    readers = {
        piece.parameter: tuple(node for node, _ in binding.uses)
        for binding in found.found
        for piece in binding.pieces
        if piece.parameter.endswith("weight")
    }
    return path, [image.numpy()], readers


def test_every_site_finds_its_operation_and_the_largest_takes_longest(exported):
    path, arrays, readers = exported
    times = operation_times(path, arrays, threads=1, calls=5)
    sites, others = by_site(path, times, readers=readers)
    assert sites.keys() == {"wide.weight", "deep.weight", "head.weight"}
    assert max(sites, key=sites.get) == "deep.weight" and sites["head.weight"] < 0.2
    total = sum(time.milliseconds for time in times)
    assert sum(sites.values()) + sum(o.milliseconds for o in others) == pytest.approx(total)
    assert {other.kind for other in others} & {"ReduceMean", "GlobalAveragePool"}


def test_a_file_that_cannot_be_opened_is_told(exported, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(InternalError, match=r"cannot open the file"):
        operation_times(tmp_path / "broken.onnx", [np.zeros(1, np.float32)])
