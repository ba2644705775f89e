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
    first, second = survey(task, settings=settings)
    assert (first.name, first.kind, first.shape) == ("0.weight", "linear", (64, 16))
    assert (first.original_bytes, first.macs, first.bits) == (4096, 1024, 32.0)
    assert (second.name, second.original_bytes, second.encoding) == ("2.weight", 1536, "dense")
    assert first.sensitivity > 0 and second.sensitivity > 0
    assert "probe" in told and any(line.startswith("Warning: ") for line in told)
    bare = survey(Task(model=model, example_inputs=torch.zeros(1, 16)))
    assert [site.name for site in bare] == ["0.weight", "2.weight"]
