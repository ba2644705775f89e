import pytest
import torch
from clusters import files
from torch import nn

from lilliput.cli.options import size_in_bytes
from lilliput.errors import InputError
from lilliput.runtime.onnx_export import export_original


@pytest.fixture
def onnx(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.onnx"
    torch.manual_seed(0)
    net, inputs = nn.Linear(64, 200), (torch.randn(2, 64),)
    return export_original(net.eval(), inputs, path).path


def test_there_and_back(call, onnx):
    said = call("pack", "net.onnx")
    assert said.status == 0 and said.out.startswith("net.lilliput: ")
    said = call("unpack", "net.lilliput", "back", "--max-bytes", "4GB")
    assert said.status == 0 and said.out.startswith("back/net.onnx: ")
    assert files(onnx.parent / "back") == {"net.onnx": onnx.read_bytes()}


def test_documents(call, onnx):
    packed = call("pack", "net.onnx", "small.lilliput", "--json").document
    size = (onnx.parent / "small.lilliput").stat().st_size
    assert packed == {
        "packed": "small.lilliput",
        "bytes": size,
        "original_bytes": onnx.stat().st_size,
    }
    said = call("unpack", "small.lilliput", "back", "--json")
    assert said.document == {"back/net.onnx": onnx.stat().st_size}


def test_only_packed_files_are_replaced_and_only_by_force(call, onnx):
    whole = onnx.read_bytes()
    for force in ([], ["--force"]):
        said = call("pack", "net.onnx", "net.onnx", *force)
        assert said.status == 2 and "exists and is not a packed file" in said.err
    assert onnx.read_bytes() == whole
    assert call("pack", "net.onnx").status == 0
    said = call("pack", "net.onnx")
    assert (said.status, said.err) == (2, "error: net.lilliput exists\nhint: --force replaces it\n")
    assert call("pack", "net.onnx", "--force").status == 0


def test_a_truncated_file_and_one_that_is_too_large(call, onnx):
    call("pack", "net.onnx")
    packed = onnx.with_suffix(".lilliput")
    whole = packed.read_bytes()
    said = call("unpack", packed, "back", "--max-bytes", "1kB")
    assert said.status == 2 and "more than the limit of 1000" in said.err
    said = call("unpack", packed, "back", "--max-bytes", "much")
    assert said.err == "error: --max-bytes 'much' is not a size\nhint: e.g. 4GB or 4000000\n"
    for size in (0, 7, 30, len(whole) // 2, len(whole) - 1):
        packed.write_bytes(whole[:size])
        said = call("unpack", packed, "back")
        assert said.status == 2 and len(said.err.splitlines()) == 2, said
    assert not (onnx.parent / "back").exists()
    packed.write_bytes(whole)
    (onnx.parent / "back").mkdir()
    (onnx.parent / "back" / "mine.txt").write_text("mine")
    assert call("unpack", packed, "back").status == 2
    assert files(onnx.parent / "back") == {"mine.txt": b"mine"}


def test_sizes():
    assert size_in_bytes("--max-bytes", "4GB") == 4_000_000_000
    assert size_in_bytes("--max-bytes", "4 MiB") == 4 * 2**20
    assert size_in_bytes("--max-bytes", "123") == 123
    for text in ("50%", "-1", "5ms", ""):
        with pytest.raises(InputError, match="is not a size"):
            size_in_bytes("--max-bytes", text)
