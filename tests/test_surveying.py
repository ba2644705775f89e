import torch
from torch import nn

from lilliput import Task
from lilliput.runs import Settings
from lilliput.surveying import survey


def test_every_site_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 6))
    told = []
    settings = Settings(progress=lambda stage, done, total: told.append(stage), said=told.append)
    task = Task(model=model, examples=list(torch.randn(60, 16)))
    found = survey(task, settings=settings)
    first, second = found.sites
    assert (first.name, first.kind, first.shape) == ("0.weight", "linear", (64, 16))
    assert (first.original_bytes, first.macs, first.bits) == (4096, 1024, 32.0)
    assert (second.name, second.original_bytes, second.encoding) == ("2.weight", 1536, "dense")
    assert first.sensitivity > 0 and second.sensitivity > 0
    assert "probe" in told and any(line.startswith("Warning: ") for line in told)
    bare = survey(Task(model=model, example_inputs=torch.zeros(1, 16)))
    assert [site.name for site in bare.sites] == ["0.weight", "2.weight"]


def test_time_is_measured_and_answers_are_given():
    model = nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 6), nn.Softmax(-1))
    found = survey(Task(model=model, examples=list(torch.randn(60, 512))))
    assert found.site_ms["0.weight"] > found.site_ms["2.weight"] >= 0
    assert "Softmax" in found.other_ms
    assert found.answers[0].startswith("Bytes: 4.24 MB in 2 sites; linear 100")
    assert any(line.startswith("Time: a call takes ") for line in found.answers)
    assert any("faster on this machine" in x or "as fast on this" in x for x in found.answers)
