import json
import tomllib

import pytest
import torch

from lilliput.errors import InternalError
from lilliput.folders import file_entry, read_manifest
from lilliput.loading import load
from lilliput.model.encodings import Dense
from lilliput.stages.export import compressed_state


def test_every_file_is_there_and_in_the_manifest(shipped):
    names = {path.name for path in shipped.folder.iterdir()}
    files = {"model.onnx", "model.lilliput", "model.safetensors", "plan.toml"}
    assert names == files | {"manifest.json"}
    manifest = read_manifest(shipped.folder)
    assert manifest == shipped.exported.artifact and set(manifest.files) == files
    assert all(file_entry(shipped.folder / name) == e for name, e in manifest.files.items())
    assert manifest.inputs == ("tokens", "attention_mask") and len(manifest.outputs) == 2
    assert manifest.plan.steps[0].technique == "round" and "torch" in manifest.versions
    assert shipped.exported.warnings == ()


def test_the_packed_file_is_smaller_than_the_integers(shipped):
    files = shipped.exported.artifact.files
    original = shipped.bindings.original.path.stat().st_size
    assert files["model.lilliput"].bytes < files["model.onnx"].bytes < 0.4 * original


def test_plan_and_manifest_name_no_path_of_this_machine(shipped):
    for name in ("manifest.json", "plan.toml", "model.onnx"):
        text = (shipped.folder / name).read_bytes()
        assert str(shipped.folder.parent).encode() not in text and b"site-packages" not in text
    tomllib.loads((shipped.folder / "plan.toml").read_text())
    json.loads((shipped.folder / "manifest.json").read_text())


def test_the_users_class_goes_on_with_the_compressed_weights(shipped):
    fresh = type(shipped.task.model)()
    load(shipped.folder, model=fresh)
    for name, encoding in shipped.encodings.items():
        assert torch.equal(fresh.state_dict()[name], encoding.decode())


def test_the_users_model_keeps_its_own_weights(shipped):
    weight = shipped.task.model.hidden.weight
    assert not torch.equal(weight, shipped.encodings["hidden.weight"].decode())


def test_tied_names_share_the_new_weight():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    state = compressed_state(model, {"a.weight": Dense(torch.ones(3, 3))})
    assert state["a.weight"] is state["b.weight"]
    with pytest.raises(InternalError, match="do not exist"):
        compressed_state(model, {"c.weight": Dense(torch.ones(3, 3))})
