import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lilliput.errors import CheckpointError
from lilliput.sources import load_weights


class Net(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, classes)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def saved(seed=0, classes=2):
    torch.manual_seed(seed)
    return Net(classes).state_dict()


def same(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model_state_dict": {f"_orig_mod.{n}": v for n, v in state.items()}},
        lambda state: {f"a.b.{name}": value for name, value in state.items()},
        lambda state: {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_in_their_wrappings(tmp_path, wrap, zipped):
    state = saved()
    path = tmp_path / "net.pt"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)
    model = Net()
    assert not same(model, state)
    assert load_weights(model, path) is model
    assert same(model, state)


def test_safetensors(tmp_path):
    state = saved()
    save_file(state, tmp_path / "net.safetensors")
    assert same(load_weights(Net(), tmp_path / "net.safetensors"), state)


def test_weights_of_a_part_get_the_prefix_of_the_whole(tmp_path):
    save_file(saved(), tmp_path / "net.safetensors")
    whole = nn.ModuleDict({"net": Net()})
    assert same(load_weights(whole, tmp_path / "net.safetensors")["net"], saved())


def test_a_tied_weight_is_stored_once(tmp_path):
    weight = torch.randn(5, 3)
    save_file({"embedding.weight": weight}, tmp_path / "tied.safetensors")
    model = load_weights(Tied(), tmp_path / "tied.safetensors")
    assert torch.equal(model.head.weight, weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {n.replace("head", "haed"): v for n, v in s.items()},
            r"lacks head.weight and 1 more \(nearest names: haed.weight",
        ),
        (
            lambda s: {**s, "head2.bias": s["head.bias"]},
            r"holds head2.bias, which the model does not have \(nearest names: head.bias",
        ),
        (
            lambda s: saved(classes=7),
            r"head.weight has shape \(7, 4\), the model's has \(2, 4\) and 1 more",
        ),
    ],
)
def test_weights_that_do_not_fit_change_nothing(tmp_path, change, message):
    torch.save(change(saved()), tmp_path / "net.pt")
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, tmp_path / "net.pt")
    assert same(model, before)


class Bomb:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("make", [Net, Bomb, lambda: {"state_dict": saved(), "extra": Bomb()}])
def test_pickled_objects_are_refused_with_the_way_out(tmp_path, capsys, make, zipped):
    path = tmp_path / "net.pt"
    torch.save(make(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"is a pickled module.*weights_only=False"):
        load_weights(Net(), path)
    assert "unpickled" not in capsys.readouterr().out


def test_other_files_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"holds no weights: .* arrays"):
        load_weights(Net(), tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_weights(Net(), tmp_path / "nowhere.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match="holds no state dict but Tensor"):
        load_weights(Net(), tmp_path / "tensor.pt")
    torch.save({"lr": 0.1}, tmp_path / "settings.pt")
    with pytest.raises(CheckpointError, match="holds no state dict but dict"):
        load_weights(Net(), tmp_path / "settings.pt")


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_truncated_files(tmp_path, name, kept):
    path = tmp_path / name
    save_file(saved(), path) if name.endswith("safetensors") else torch.save(saved(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(CheckpointError, match=name):
        load_weights(Net(), path)
