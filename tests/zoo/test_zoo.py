"""Every network of the zoo, every width of it: equal to the proof, trainable, exportable; else
refused with the reason. Nothing changes silently."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lilliput.batches import call
from lilliput.model.calls import arguments
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.sessions import default_session
from zoo.examined import ZOO, distance, examined, floats, outputs

MOST_REFUSED = 0.1
ROUNDING = 1e-4  # the masked original works in float32 and adds up in another order


@pytest.fixture(params=ZOO)
def seen(request):
    return examined(request.param)


def test_every_cut_is_equal_or_refused_and_the_original_stays(seen):
    assert any(width.free for width in seen.widths.values())
    for tried in seen.tried:
        assert tried.refusal or (tried.equal and tried.checks >= 2)
        assert tried.masked is None or tried.masked < ROUNDING, tried.units
    assert seen.untouched


def test_every_cut_makes_weights_smaller_under_the_same_names(seen):
    whole = {name: tuple(one.shape) for name, one in seen.model.state_dict().items()}
    for tried in (one for one in seen.tried if not one.refusal):
        assert tried.sizes.keys() == whole.keys()
        lost = {name: np.subtract(whole[name], size) for name, size in tried.sizes.items()}
        for name, kept in tried.units.items():
            gone = seen.widths[name].units - len(kept)
            for tie in seen.widths[name].ties:
                if tie.weight in whole:
                    assert lost[tie.weight][tie.axis] >= gone * tie.positions.shape[1]


def test_half_of_every_width_moves_the_outputs(seen):
    assert not seen.tried[-1].refusal
    assert seen.tried[-1].moved > 1e-3


def test_known_widths_are_found(seen):
    free = {name: width.units for name, width in seen.widths.items() if width.free}
    assert seen.net.tied.items() <= free.items()


def test_the_cut_network_learns(seen):
    model = copy.deepcopy(seen.halved).train()
    inputs = seen.net.example()

    def loss() -> Tensor:
        torch.manual_seed(3)
        args, kwargs = arguments(inputs)
        return sum((one - 0.5).square().mean() for one in floats(model(*args, **kwargs)))

    before = loss()
    before.backward()
    moved = [one for one in model.parameters() if one.grad is not None and one.grad.abs().sum() > 0]
    assert moved and all(one.grad.isfinite().all() for one in moved)
    length = torch.stack([one.grad.square().sum() for one in moved]).sum().sqrt()
    with torch.no_grad():
        for one in moved:
            one -= 1e-3 * one.grad / length
    assert loss() < before


def test_norms_and_dropout_still_switch(seen):
    original, changed = seen.model, seen.halved
    assert _switches(changed, seen.net.example()) == _switches(original, seen.net.example())


def _switches(model, inputs):
    """Whether training changes statistics, and whether it draws random numbers."""
    model = copy.deepcopy(model)
    statistics = [one.clone() for one in model.buffers()]
    assert distance(outputs(model, inputs), outputs(model, inputs)) == 0
    assert all(torch.equal(*pair) for pair in zip(statistics, model.buffers(), strict=True))
    model.train()
    args, kwargs = arguments(inputs)
    torch.manual_seed(0)
    one, two = (floats(model(*args, **kwargs)) for _ in range(2))
    learnt = any(not torch.equal(*pair) for pair in zip(statistics, model.buffers(), strict=True))
    return learnt, any(not torch.equal(*pair) for pair in zip(one, two, strict=True))


class Herd(nn.Module):
    """Networks side by side: one export of eight takes half the time of eight exports."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, batches: list[Any]) -> list[Tensor]:
        return [
            one for pair in zip(self.models, batches, strict=True) for one in floats(call(*pair))
        ]


@pytest.mark.parametrize(
    "names",
    [[*ZOO][place : place + 8] for place in range(0, len(ZOO), 8)],
    ids=lambda names: names[0],
)
def test_the_cut_networks_run_in_onnx_runtime(names, tmp_path):
    herd = Herd([examined(name).halved for name in names]).eval()
    batches = ([ZOO[name].example() for name in names],)
    exported = export_original(herd, batches, tmp_path / "cut.onnx")
    leaves = [one for one in pytree.tree_leaves(batches) if isinstance(one, Tensor)]
    feed = {name: one.numpy() for name, one in zip(exported.inputs, leaves, strict=True)}
    answers = default_session(exported.path).run(list(exported.outputs), feed)
    wanted = outputs(herd, batches)
    assert len(answers) == len(wanted)
    for place, answer in enumerate(answers):
        assert distance([torch.from_numpy(answer)], [wanted[place]]) < 1e-4, place


def test_at_most_a_tenth_is_refused():
    tried = [one for name in ZOO for one in examined(name).tried]
    refused = [one for one in tried if one.refusal]
    assert len(refused) <= MOST_REFUSED * len(tried)
    assert len(ZOO) >= 60 and len(tried) >= 500


def test_the_masked_original_speaks_for_many_cuts():
    tried = [one for name in ZOO for one in examined(name).tried]
    assert sum(one.masked is not None for one in tried) >= 150


def test_most_cuts_keep_the_users_own_class():
    found = [one.how for name in ZOO for one in examined(name).tried if not one.refusal]
    assert found.count("class") >= 0.8 * len(found)
