"""docs/format.md is enough: a decoder of one page, written from it, agrees; so do its examples."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import laplace_codes
from lilliput.coding import decode_matrix, encode_matrix, family, pack

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
DOCUMENT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")


def test_tables_of_the_document() -> None:
    rows = re.findall(r"^\| (\d+), (\d+), (\d+), (\d+), (\d+) \| ([\d ]+) \|$", DOCUMENT, re.M)
    assert len(rows) == 3
    for *parameters, wanted in rows:
        scale, shape, zero, split, escape = map(int, parameters)
        [found] = family.frequencies(np.array([scale]), shape, zero, split=split, escape=escape)
        assert found.tolist() == [int(number) for number in wanted.split()]


def test_constants_of_the_document() -> None:
    for root in family._roots():
        assert str(root) in DOCUMENT
    assert family.log2(np.array([3])).tolist() == [103872]
    assert family.exp2_negative(np.array([100000])).tolist() == [23304753]
    assert family.density(np.array([33]), np.array(72), 15).tolist() == [32201571]


def test_matrices_of_the_document() -> None:
    found = re.findall(r"`((?:[0-9a-f]{2} ){4,}[0-9a-f]{2})`", DOCUMENT)
    assert len(found) == 2
    wanted = [np.array([[1, -2, 0], [0, 3, -1]]), np.full((2, 3), 7)]
    for text, matrix in zip(found, wanted, strict=True):
        assert np.array_equal(decode_matrix(bytes.fromhex(text)), matrix)
        assert encode_matrix(matrix) == bytes.fromhex(text)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_javascript_decoder_agrees(tmp_path: Path, model_path: Path) -> None:
    extras = {"plan.toml": b"seed = 0\n" * 20, "a/codes": bytes(range(256)) * 3}
    pack(model_path, tmp_path / "model.lilliput", extras=extras)
    run_decoder(tmp_path / "model.lilliput", tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == model_path.read_bytes()
    for name, data in extras.items():
        assert (tmp_path / "out" / name).read_bytes() == data


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_javascript_decoder_agrees_on_larger_tensors(tmp_path: Path) -> None:
    import onnx

    random = np.random.default_rng(0)
    arrays = [
        np.clip(laplace_codes(300, 200, 2.0), -127, 127).astype(np.int8),
        laplace_codes(120, 100, 300.0).astype(np.int16),
        laplace_codes(100, 100, 1e6).astype(np.int32),
        random.choice([-60, -7, 0, 3, 50], (150, 100), p=[0.1, 0.3, 0.1, 0.2, 0.3]).astype("i1"),
        random.normal(size=(30, 40)).astype(np.float32),
    ]
    arrays[0][3, 5] = arrays[0][100, 7] = -128
    tensors = [onnx.numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(arrays)]
    path = tmp_path / "m.onnx"
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    pack(path, tmp_path / "m.lilliput")
    run_decoder(tmp_path / "m.lilliput", tmp_path / "out")
    assert (tmp_path / "out" / "m.onnx").read_bytes() == path.read_bytes()


def run_decoder(packed: Path, folder: Path) -> None:
    assert NODE is not None
    decoder = ROOT / "examples" / "decoder.js"
    result = subprocess.run(
        [NODE, str(decoder), str(packed), str(folder)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
