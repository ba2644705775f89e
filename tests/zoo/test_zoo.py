"""Every network of the zoo, every width of it: equal to the proof, trainable, exportable; else
refused with the reason. Nothing changes silently."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lilliput.model.calls import arguments
from lilliput.model.hashes import state_hash
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.sessions import default_session
from zoo.examined import ZOO, distance, examined, floats, outputs

MOST_REFUSED = 0.1
ROUNDING = 1e-4  # the masked original works in float32 and adds up in another order


@pytest.fixture(params=ZOO)
def seen(request):
    return examined(request.param)


def test_every_cut_is_equal_or_refused_and_the_original_stays(seen):
    assert any(width.free for width in seen.shape.widths.values())
    for tried in seen.tried:
        assert tried.refusal or all(check.equal for check in tried.found.checks)
        assert not tried.refusal or len(tried.refusal) > 20
        assert tried.masked is None or tried.masked < ROUNDING, tried.units
    assert seen.untouched


def test_every_cut_makes_weights_smaller_under_the_same_names(seen):
    keys = list(seen.model.state_dict())
    for tried in seen.tried:
        if tried.found is None:
            continue
        state = tried.found.model.state_dict()
        assert sorted(state) == sorted(keys)
        for name, kept in tried.units.items():
            width = seen.shape.widths[name]
            gone = width.units - len(kept)
            for tie in width.ties:
                lost = seen.model.state_dict()[tie.weight].shape[tie.axis]
                lost -= state[tie.weight].shape[tie.axis]
                assert lost >= gone * tie.positions.shape[1]


def test_half_of_every_width_moves_the_outputs(seen):
    assert seen.together.found is not None, seen.together.refusal
    assert seen.together.moved > 1e-3


def test_known_widths_are_found(seen):
    free = {name: width.units for name, width in seen.shape.widths.items() if width.free}
    assert seen.net.tied.items() <= free.items()


def test_the_cut_network_learns(seen):
    model = copy.deepcopy(seen.together.found.model).train()
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
    original, changed = seen.model, seen.together.found.model
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


def test_the_cut_network_runs_in_onnx_runtime(seen, tmp_path):
    model, inputs = seen.together.found.model, seen.net.example()
    before = state_hash(model)
    exported = export_original(model, inputs, tmp_path / "cut.onnx", dynamic=_named(seen.net))
    session = default_session(exported.path)
    args, kwargs = arguments(inputs)
    leaves = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
    feed = {name: one.numpy() for name, one in zip(exported.inputs, leaves, strict=True)}
    answers = [torch.from_numpy(one) for one in session.run(list(exported.outputs), feed)]
    assert distance(floats(answers), outputs(model, inputs)) < 1e-4
    assert state_hash(model) == before


def _named(net):
    """Axes that vary, by the names of the inputs or their places."""
    return net.dynamic if isinstance(net.dynamic, dict) else dict(enumerate(net.dynamic or ()))


def test_at_most_a_tenth_is_refused():
    tried = [one for name in ZOO for one in examined(name).tried]
    refused = [one for one in tried if one.refusal]
    assert len(refused) <= MOST_REFUSED * len(tried)
    assert len(ZOO) >= 60 and len(tried) >= 500


def test_the_masked_original_agrees_in_hundreds_of_cuts():
    tried = [one for name in ZOO for one in examined(name).tried]
    assert sum(one.masked is not None for one in tried) >= 200


def test_most_cuts_keep_the_users_own_class():
    found = [one.found for name in ZOO for one in examined(name).tried if one.found]
    own = sum(one.how == "class" for one in found)
    assert own >= 0.8 * len(found)
    assert all(isinstance(one.model, nn.Module) for one in found)
