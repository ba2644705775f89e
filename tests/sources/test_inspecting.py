import json
import warnings

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from lilliput.errors import InputError
from lilliput.sources import inspect_file
from lilliput.sources.inspecting import LEGACY_TORCH, pickled_names

NET = nn.Linear(2, 3)


def onnx_model():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    )


def script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(NET, torch.ones(1, 2)), path)


def exported(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(NET, (torch.ones(1, 2),)), path)


def write(content):
    return lambda path: path.write_bytes(content)


MAKERS = {
    "a.pt": (lambda p: torch.save(NET.state_dict(), p), "state dict", "2 tensors", "--weights"),
    "b.pth": (lambda p: torch.save(NET, p), "pickled module", "Linear", "weights_only=False"),
    "c.bin": (
        lambda p: torch.save(NET.state_dict(), p, _use_new_zipfile_serialization=False),
        "state dict", "old format", "--weights",
    ),
    "d.pt": (
        lambda p: torch.save(NET, p, _use_new_zipfile_serialization=False),
        "pickled module", "Linear", "weights_only=False",
    ),
    "e.pt": (script, "TorchScript", "tensors", "NET.py:CLASS"),
    "f.pt2": (exported, "exported program", "torch.export", "NET.py:CLASS"),
    "g.safetensors": (
        lambda p: save_file(NET.state_dict(), p), "safetensors", "2 tensors", "--weights",
    ),
    "h.onnx": (
        lambda p: onnx.save(onnx_model(), p), "ONNX", "1 nodes, inputs x", "lilliput compress",
    ),
    "i.onnx": (write(b"this is no model"), "unknown", "not an ONNX file", ""),
    "j.npz": (lambda p: np.savez(p, inputs=np.zeros(2)), "arrays", "inputs", "--data"),
    "k.txt": (write(b"one\n\ntwo\n"), "texts", "2 lines", "--texts"),
    "l.py": (write(b"task = lilliput.Task()"), "task file", "", "lilliput compress"),
    "m.py": (write(b"class Net: ..."), "unknown", "Python", ":CLASS"),
    "n.gguf": (write(b"GGUF\x03"), "unsupported", "GGUF", ""),
    "o.tflite": (write(b"\x1c\0\0\0TFL3"), "unsupported", "TensorFlow Lite", ""),
    "p.zip": (write(b"PK\x03\x04"), "unknown", "damaged zip", ""),
    "q.dat": (write(b""), "unknown", "", ""),
    "r.pkl": (write(b"\x80\x04\x95"), "unknown", "damaged pickle", ""),
    "s.toml": (write(b"schema_version = 1"), "plan", "", "lilliput apply"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_file_is(tmp_path, name):
    make, kind, details, command = MAKERS[name]
    make(tmp_path / name)
    found = inspect_file(tmp_path / name)
    assert found.kind == kind
    assert details in found.details
    assert command in found.next_command


def test_a_packed_model_and_a_name_with_a_blank(tmp_path):
    from lilliput.coding.header import MAGIC

    (tmp_path / "my model").write_bytes(MAGIC + b"\0" * 40)
    found = inspect_file(tmp_path / "my model")
    assert found.kind == "packed model"
    assert found.next_command == f"lilliput unpack '{tmp_path}/my model' FOLDER"


def test_what_a_folder_is(tmp_path):
    assert inspect_file(tmp_path).kind == "unknown"
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "cat" / "a.png")
    assert inspect_file(tmp_path).details == "1 images in 1 folder(s)"
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    assert inspect_file(tmp_path).kind == "Hugging Face folder"
    assert inspect_file(tmp_path).details == "BertModel"
    (tmp_path / "config.json").write_text("[")
    assert "cannot be read" in inspect_file(tmp_path).details
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "model.onnx").write_text("")
    assert inspect_file(tmp_path).next_command.startswith("lilliput verify")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        inspect_file(tmp_path / "nowhere")


def test_a_pickle_is_read_but_not_run():
    import pickle

    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    assert pickled_names(pickle.dumps(Bomb(), protocol=4)) == ["builtins.exec"]
    assert pickled_names(pickle.dumps(Bomb(), protocol=2)) == ["__builtin__.exec"]


HEADS = [
    b"",
    b"PK\x03\x04",
    LEGACY_TORCH,
    b"\x80\x02",
    b"\x80\x05",
    b"\x10" + b"\0" * 7 + b"{",
    b"GGUF",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(HEADS), st.binary(max_size=80), st.sampled_from([".pt", ".onnx", ".txt"]))
def test_no_bytes_break_it(tmp_path, head, tail, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(head + tail)
    assert inspect_file(path).kind


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["a.pt", "c.bin", "d.pt", "g.safetensors", "h.onnx"]), st.data())
def test_no_changed_byte_breaks_it(tmp_path, name, data):
    path = tmp_path / name
    MAKERS[name][0](path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(place, len(content)))])
    assert inspect_file(path).kind
