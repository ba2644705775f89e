import math

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lilliput.batches import flatten_inputs, flatten_tensors
from lilliput.errors import CaptureError, ContainerError, InternalError
from lilliput.model.calls import run_with
from lilliput.model.encodings import Dense, Grouped, LowRank
from lilliput.model.sites import Site
from lilliput.runtime.torch_processes import TorchWorker, stored_state
from lilliput.runtime.weights_file import read_weights, write_weights


def test_weights_come_back_as_they_decode(language, make_grids, tmp_path):
    state = stored_state(language.model)
    grids = make_grids(language, columns=True)
    write_weights(state, grids, tmp_path / "w.onnx")
    found = read_weights(tmp_path / "w.onnx")
    assert found.keys() == state.keys() and "head.weight" not in found
    for name, value in found.items():
        wanted = grids[name].decode() if name in grids else state[name]
        assert torch.equal(value, wanted)


def test_products_are_multiplied_when_they_are_read(language, make_grid, tmp_path):
    state = stored_state(language.model)
    first, last = torch.randn(4, 32), torch.randn(32, 4)
    site = Site("raw", "matmul", (4, 32), 4, 32)
    raw = LowRank((make_grid(site, first), Dense(last)), (32, 32), transposed=True)
    write_weights(state, {"raw": raw}, tmp_path / "w.onnx")
    found = read_weights(tmp_path / "w.onnx")
    assert found.keys() == state.keys()
    assert torch.equal(found["raw"], raw.decode())
    held = sum(math.prod(t.dims) for t in onnx.load(tmp_path / "w.onnx").graph.initializer)
    assert held == sum(value.numel() for value in state.values()) - 32 * 32 + 2 * 4 * 32 + 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_every_type_is_kept(dtype, tmp_path):
    value = torch.arange(5).to(dtype)
    write_weights({"a": value}, {}, tmp_path / "w.onnx")
    found = read_weights(tmp_path / "w.onnx")["a"]
    assert found.dtype == dtype and torch.equal(found, value)


def test_a_file_without_weights_is_refused(language, tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"nothing")
    for path in (tmp_path / "w.onnx", language.exported.path):
        with pytest.raises(ContainerError, match="holds no weights of Lilliput's"):
            read_weights(path)


def test_the_users_class_runs_in_a_fresh_process_with_the_files_weights(
    language, make_grids, tmp_path
):
    grids = make_grids(language)
    write_weights(stored_state(language.model), grids, tmp_path / "w.onnx")
    replaced = {name: grid.decode() for name, grid in grids.items()}
    wanted = flatten_tensors(run_with(language.model, replaced, language.inputs))
    with TorchWorker(
        tmp_path / "w.onnx", language.model, inputs=language.inputs, threads=1
    ) as worker:
        found = worker.run(flatten_inputs(language.inputs))
    for answer, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(answer, want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_class_from_nowhere_is_an_error_of_one_line(tmp_path):
    class Local(nn.Linear):
        pass

    write_weights({}, {}, tmp_path / "w.onnx")
    with pytest.raises(CaptureError, match="cannot be sent to a fresh process") as caught:
        TorchWorker(tmp_path / "w.onnx", Local(2, 2), inputs=torch.ones(1, 2))
    assert "\n" not in str(caught.value)
    with pytest.raises(InternalError, match=r"status 1: .*weight"):
        TorchWorker(tmp_path / "w.onnx", nn.Linear(2, 2), inputs=torch.ones(1, 2))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("whole", [True, False])
def test_codes_of_few_bits_are_packed_and_come_back(bits, whole, tmp_path):
    torch.manual_seed(0)
    encoding = Grouped(
        codes=torch.randint(0, 2**bits, (6, 37)).to(torch.uint8),
        steps=torch.rand(6, 3) + 0.1,
        zeros=torch.randint(0, 2**bits, (6, 3)).to(torch.uint8) if whole else None,
        bits=bits,
        group=16,
        column_steps=torch.rand(37) + 0.5 if whole else None,
        shape=(37, 6),
        transposed=True,
    )
    write_weights({"a": torch.zeros(37, 6)}, {"a": encoding}, tmp_path / "w.onnx")
    found = read_weights(tmp_path / "w.onnx")["a"]
    assert torch.equal(found, encoding.decode())
    width = {2: 2, 3: 4}.get(bits, bits)
    assert onnx_sizes(tmp_path / "w.onnx")["a.codes"] == 6 * -(-37 * width // 8)


def onnx_sizes(path):
    return {t.name: len(t.raw_data) for t in onnx.load(path).graph.initializer}
