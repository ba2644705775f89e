"""The models and inputs of the benchmark rows: one file per model, one value for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

Inputs = Mapping[str, Tensor]
Errors = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """A model with inputs to calibrate on and other inputs to measure with.

    Attributes:
        name: As on the command line of `benchmarks.run`.
        model: In evaluation mode, without gradients; called with the inputs as keywords.
        calibration: Batches that a data-driven technique may see; drawn by the seed.
        test: Batches from another source, for measuring only; drawn by the seed.
        errors: (outputs of the original (N, k), outputs of the other (N, k)) -> named errors.
        sites: Names of the weights that the rows on sites only change; all others stay as they are.
    """

    name: str
    model: nn.Module
    calibration: tuple[Inputs, ...]
    test: tuple[Inputs, ...]
    errors: Callable[[Tensor, Tensor], Errors]
    sites: tuple[str, ...]


def load(name: str, seed: int = 0) -> Subject:
    """The subject of that name (a file of this folder), its inputs drawn by `seed`."""
    return import_module(f"benchmarks.models.{name}").load(seed)


def package_folder(name: str) -> Path:
    """Where an installed package keeps its files, without importing it.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed: run `sh benchmarks/setup.sh`")
    return Path(spec.origin).parent


def outputs(model: nn.Module, batches: Sequence[Inputs]) -> Tensor:
    """The model's outputs on all batches, (N, k)."""
    with torch.inference_mode():
        return torch.cat([model(**batch) for batch in batches])


def damage(subject: Subject, weights: Mapping[str, Tensor], reference: Tensor) -> Errors:
    """Errors on the test inputs with some weights replaced; the model itself stays untouched.

    Args:
        subject: Model and inputs.
        weights: New values by qualified name.
        reference: The original's outputs on the test inputs, (N, k).
    """
    with torch.inference_mode():
        changed = [
            torch.func.functional_call(subject.model, dict(weights), (), dict(batch))
            for batch in subject.test
        ]
    return subject.errors(reference, torch.cat(changed))


def relative_error(reference: Tensor, changed: Tensor) -> Errors:
    """sqrt(sum ||e - ê||² / sum ||e||²) over all rows e of (N, k), and the mean cosine."""
    difference = (reference - changed).double().square().sum()
    cosine = nn.functional.cosine_similarity(reference.double(), changed.double(), dim=1).mean()
    norm = reference.double().square().sum()
    return {"relative": float((difference / norm).sqrt()), "cosine": float(cosine)}


def divergence(reference: Tensor, changed: Tensor) -> Errors:
    """Mean KL(original ‖ other) in nats over logits (N, k), its root, and top-1 agreement."""
    original, other = reference.double().log_softmax(1), changed.double().log_softmax(1)
    kl = (original.exp() * (original - other)).sum(1).mean().clamp(min=0)
    agreement = (reference.argmax(1) == changed.argmax(1)).double().mean()
    return {"kl": float(kl), "root_kl": float(kl.sqrt()), "agreement": float(agreement)}
