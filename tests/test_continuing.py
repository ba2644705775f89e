import pytest
import torch
from torch import nn

from lilliput.continuing import load_into as load
from lilliput.continuing import save_weights
from lilliput.edits import Edits, ModuleSpec
from lilliput.errors import CheckpointError, OutputError
from lilliput.folders import MANIFEST, WEIGHTS, file_entry
from lilliput.rebuilding import apply_edits, edits_between
from lilliput.records import Artifact, Plan


class Tied(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 6, bias=False)
        self.head.weight = self.embed.weight


def folder_of(model, path):
    save_weights(model.state_dict(), path / WEIGHTS)
    files = {WEIGHTS: file_entry(path / WEIGHTS)}
    artifact = Artifact(files=files, plan=Plan(model_hash="0", steps=()))
    (path / MANIFEST).write_text(artifact.model_dump_json())
    return path


def test_the_users_class_takes_the_weights_and_keeps_its_ties(tmp_path):
    torch.manual_seed(0)
    model = Tied()
    model.norm.running_mean.normal_()
    folder_of(model, tmp_path)
    fresh = Tied()
    assert load(tmp_path, model=fresh) is fresh
    for name, value in model.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=0, atol=0)
    assert fresh.head.weight is fresh.embed.weight
    assert (tmp_path / WEIGHTS).stat().st_size < 800  # the tied matrix is stored once


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Tied(5), r"embed\.weight has shape \(6, 4\) in the artifact and \(6, 5\)"),
        (nn.Sequential(Tied()), "no weights for 0.embed.weight"),
        (nn.Module(), "no place for embed.weight"),
    ],
)
def test_a_class_that_does_not_fit_is_refused(tmp_path, other, said):
    with pytest.raises(CheckpointError, match=said):
        load(folder_of(Tied(), tmp_path), model=other)


def test_a_changed_file_is_refused(tmp_path):
    folder_of(Tied(), tmp_path)
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match="not the file the manifest describes"):
        load(tmp_path, model=Tied())


def test_a_folder_without_an_artifact_is_refused(tmp_path):
    with pytest.raises(OutputError, match="holds no manifest"):
        load(tmp_path, model=Tied())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.conv = nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        x = self.conv(x).mean((-1, -2))
        for layer in self.layers:
            x = layer(x)
        return x.view(len(x), self.heads, -1).sum(1)


def reshaped():
    """Two of four groups, one layer less, one layer rebuilt of two; two heads."""
    model = Block()
    model.heads = 2
    model.conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
    model.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4)), nn.Linear(4, 4)])
    return model


def test_a_fresh_instance_takes_the_changed_shape(tmp_path):
    torch.manual_seed(0)
    changed, fresh = reshaped(), Block()
    edits = edits_between(fresh, changed)
    assert edits is not None
    assert edits.attributes["conv"] == {"in_channels": 2, "out_channels": 4, "groups": 2}
    assert edits.removed == ("layers.2",) and set(edits.modules) == {"layers.0"}
    edits = Edits.model_validate_json(edits.model_dump_json())
    apply_edits(fresh, edits, state=changed.state_dict())
    fresh.load_state_dict(changed.state_dict())
    x = torch.randn(2, 2, 5, 5)
    torch.testing.assert_close(fresh(x), changed(x), rtol=0, atol=0)
    fresh(x).sum().backward()


def test_a_module_of_somebody_else_is_never_built():
    edits = Edits(modules={"conv": ModuleSpec(kind="os.path.Linear")})
    with pytest.raises(CheckpointError, match="neither a module of torch nor one of ours"):
        apply_edits(Block(), edits, state={})
    assert edits_between(nn.Sequential(nn.ReLU()), nn.Sequential(Block())) is None
