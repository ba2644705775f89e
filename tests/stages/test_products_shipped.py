"""Every technique that can follow a factorization, through the graph: nothing is listed by hand."""

import pytest
import torch
from torch import nn

from lilliput.model.capture import capture
from lilliput.model.encodings import LowRank
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.records import Plan
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.sessions import default_session
from lilliput.stages.apply import LATER, apply
from lilliput.techniques import TABLE, FactorizeWhitened


class Mixed(nn.Module):
    """A table, two layers and a convolution."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(100, 64)
        self.wide, self.narrow = nn.Linear(64, 128), nn.Linear(128, 64)
        self.line = nn.Conv1d(64, 32, 3, padding=1)

    def forward(self, tokens):
        hidden = self.narrow(self.wide(self.table(tokens)).relu())
        return self.line(hidden.transpose(1, 2))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    torch.manual_seed(0)
    model, tokens = Mixed().eval(), torch.randint(0, 100, (2, 9))
    captured = capture(model, tokens)
    exported = export_original(model, tokens, tmp_path_factory.mktemp("mixed") / "model.onnx")
    state = {name: value.detach() for name, value in model.named_parameters()}
    sites = {
        name: SiteProfile(site, None, torch.ones(site.rows), sensitivity=1.0)
        for name, site in captured.sites.items()
    }
    known = Profile("0", sites, state)
    return model, tokens, bind(exported, captured.sites, state), known


@pytest.mark.parametrize(
    "kind", [kind for kind in TABLE if kind.family in LATER], ids=lambda kind: kind.name
)
def test_what_follows_a_factorization_is_in_the_graph(kind, mixed, tmp_path):
    model, tokens, bindings, known = mixed
    where = tuple(known.sites)
    steps = (FactorizeWhitened(amount=0.3).step_of(where), kind().step_of(where))
    encodings = apply(Plan(model_hash="0", steps=steps), known)
    assert all(isinstance(found, LowRank) for found in encodings.values())
    warnings = write_encodings(bindings, encodings, tmp_path / "model.onnx")
    assert all("its inputs stay float" in warning for warning in warnings)  # a table's factor
    session = default_session(tmp_path / "model.onnx")
    (name,) = (value.name for value in session.get_inputs())
    (answer,) = session.run(None, {name: tokens.numpy()})
    replaced = {name: encoding.decode() for name, encoding in encodings.items()}
    with torch.no_grad():
        wanted = torch.func.functional_call(model, replaced, (tokens,))
    parts = [part for found in encodings.values() for part in found.factors]
    rounded = any(getattr(part, "inputs", None) for part in parts)  # activations are, too
    assert signal_to_noise(wanted.numpy(), answer) > (30 if rounded else 105)
