"""Three small models, each exported once per run of the tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import Convolutions, Language, Recurrent
from torch import Tensor, nn

from lilliput.model.encodings import Grid
from lilliput.model.sites import Site
from lilliput.runtime.onnx_bind import Bindings, bind
from lilliput.runtime.onnx_export import OnnxModel, export_original


@dataclass
class Sample:
    """A model, one batch, its export, and what was bound."""

    model: nn.Module
    inputs: Any
    exported: OnnxModel
    sites: dict[str, Site]
    bindings: Bindings


def sites_of(model: nn.Module) -> dict[str, Site]:
    """Every parameter of two or more axes as a site; tied names on the first."""
    found: dict[str, Site] = {}
    known: dict[int, str] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        if value.ndim < 2 or value.data_ptr() in known:
            continue
        known[value.data_ptr()] = name
        rows = value.shape[0]
        found[name] = Site(name, "linear", tuple(value.shape), rows, value.numel() // rows)
    return found


def grid_of(site: Site, value: Tensor, *, columns: bool = False, transposed: bool = False) -> Grid:
    """Round to nearest on int8, with or without column steps."""
    matrix = value.detach().t() if transposed else value.detach().reshape(site.rows, site.columns)
    factor = torch.linspace(0.5, 1.5, matrix.shape[1]) if columns else None
    scaled = matrix if factor is None else matrix / factor
    steps = scaled.abs().amax(1).clamp_min(1e-8) / 127
    codes = torch.round(scaled / steps[:, None]).to(torch.int8)
    return Grid(codes, steps, factor, tuple(value.shape), transposed)


def grids_of(sample: Sample, *, columns: bool = False) -> dict[str, Grid]:
    """A grid for every site."""
    state = dict(sample.model.named_parameters())
    return {n: grid_of(s, state[n], columns=columns) for n, s in sample.sites.items()}


def _sample(model: nn.Module, inputs: Any, path: Path, dynamic: Any = None) -> Sample:
    exported = export_original(model, inputs, path, dynamic=dynamic)
    sites = sites_of(model)
    return Sample(
        model, inputs, exported, sites, bind(exported, sites, dict(model.named_parameters()))
    )


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    torch.manual_seed(0)
    inputs = {"scale": torch.rand(2, 1) + 0.5, "tokens": torch.randint(0, 50, (2, 7))}
    path = tmp_path_factory.mktemp("language") / "model.onnx"
    return _sample(Language().train(), inputs, path, {"tokens": [1]})


@pytest.fixture(scope="session")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("convolutions") / "model.onnx"
    return _sample(Convolutions(), torch.randn(1, 3, 8, 8), path)


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("recurrent") / "model.onnx"
    return _sample(Recurrent(), (torch.randn(3, 5, 6),), path)


@pytest.fixture(scope="session")
def make_grids() -> Callable[..., dict[str, Grid]]:
    return grids_of


@pytest.fixture(scope="session")
def make_grid() -> Callable[..., Grid]:
    return grid_of


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    return _sample
