"""Narrower hidden layers without training: Torch-Pruning, activation norms, and ours.

MiniLM loses a share of the hidden neurons of every layer, EfficientNet-Lite0 of its expanded
channels. Where both are refitted it is the same least squares; all read the same
calibration inputs. The clock is that of the feed-forward layers alone, exported, in ONNX Runtime.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.models import Subject, load, outputs
from benchmarks.record import SEEDS, Record, versions
from lilliput.batches import flatten_inputs
from lilliput.reshaping import narrowed, widths
from lilliput.runtime.interleaved import Turns, latency_turns
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.processes import Worker
from lilliput.shapes.cutting import cut
from lilliput.shapes.refitting import refit, write
from lilliput.techniques.narrowing import Subject as Narrowing

Done = frozenset[tuple[str, str, int]]
Make = Callable[[], nn.Module]
AMOUNTS = {"minilm": (0.25, 0.5), "efficientnet": (0.25,)}
HIDDEN = {"minilm": "intermediate.dense", "efficientnet": "_expand_conv"}
CLASSES = ("efficientnet",)  # subjects whose outputs are scores of classes
SENTENCES, TOKENS = (1, 8), 32


def measure(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """Every method at every amount, for every seed."""
    for seed in SEEDS:
        subject = load(subject_name, seed)
        names = [
            width.name
            for width in widths(subject.model, subject.calibration[0])
            if width.free and width.name.endswith(HIDDEN[subject_name])
        ]
        reference = outputs(subject.model, subject.test)
        size = 4 * sum(one.numel() for one in subject.model.parameters())
        for remove in AMOUNTS[subject_name]:
            for peer, make in methods(subject, names, remove=remove).items():
                setting = f"{remove:.0%} narrower"
                if (peer, setting, seed) in done:
                    continue
                start, clock = time.perf_counter(), time.process_time()
                model = make()
                took = {"seconds": time.perf_counter() - start}
                took["processor_seconds"] = time.process_time() - clock
                left = 4 * sum(one.numel() for one in model.parameters())
                yield Record(
                    row=row,
                    subject=subject.name,
                    peer=peer,
                    setting=setting,
                    seed=seed,
                    bytes=left,
                    share=left / size,
                    errors=subject.errors(reference, outputs(model, subject.test)),
                    details={"widths": len(names), **took},
                    versions=versions(),
                )


def methods(subject: Subject, names: list[str], *, remove: float) -> Mapping[str, Make]:
    """Name -> makes the narrower model."""
    ours = partial(_narrowed, subject, names, remove)
    together = partial(ours, scope="global")
    found: dict[str, Make] = {}
    if subject.name == "minilm":
        theirs = partial(_theirs, subject, names, remove)
        found["torch-pruning group magnitude"] = theirs
        found["torch-pruning group magnitude, our refit"] = partial(theirs, refitted=True)
    else:
        found["activation norms"] = partial(ours, "activation", refit="none")
        found["activation norms, together"] = partial(together, "activation", refit="none")
        found["activation norms, refit"] = partial(ours, "activation")
    found["second order, together, refit"] = partial(together, "second_order")
    return found | {"second order, refit": partial(ours, "second_order")}


def _narrowed(
    subject: Subject, names: list[str], remove: float, criterion: str, **settings: str
) -> nn.Module:
    """Ours, with any number of units left."""
    if criterion == "second_order" and subject.name in CLASSES:
        settings["output"] = "classes"
    return narrowed(
        subject.model,
        dict(subject.calibration[0]),
        remove,
        widths=names,
        criterion=criterion,
        calibration=subject.calibration,
        multiple=1,
        **settings,
    ).model


def _theirs(
    subject: Subject, names: list[str], remove: float, *, refitted: bool = False
) -> nn.Module:
    """Pruned by Torch-Pruning; or what it keeps, cut and refitted by us."""
    from benchmarks.peers.torch_pruning_units import prune

    pruned, units = prune(subject.model, subject.calibration[0], layers=names, remove=remove)
    if not refitted:
        return pruned
    inputs = dict(subject.calibration[0])
    known = Narrowing.of(
        subject.model, inputs, where=tuple(names), batches=map(dict, subject.calibration)
    )
    found = cut(subject.model, known.shape, units=units, inputs=inputs)
    if found.kept is not None:
        fitted = refit(subject.model, found.kept, batches=known.batches)
        write(fitted, found.model, kept=found.kept)
    return found.model


class FeedForward(nn.Module):
    """The feed-forward parts of an encoder's layers, one after the other, without norms."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers = model.get_submodule("bert.encoder.layer")

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, L, 384) -> (N, L, 384)."""
        for layer in self.layers:
            hidden = hidden + layer.output.dense(layer.intermediate(hidden))
        return hidden


def clocked(row: str, done: Done) -> Iterator[Record]:
    """How much faster the exported feed-forward part of MiniLM is, half as wide."""
    setting, peer, seed = "50% narrower", "feed-forward part", 0
    if (peer, setting, seed) in done:
        return
    subject = load("minilm", seed)
    whole = FeedForward(subject.model)
    hidden = torch.randn(2, TOKENS, 384, generator=torch.Generator().manual_seed(seed))
    names = [w.name for w in widths(whole, hidden) if w.free and "intermediate" in w.name]
    narrower = narrowed(whole, hidden, 0.5, widths=names, criterion="magnitude", refit="none").model
    details: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / "whole.onnx", Path(scratch) / "narrower.onnx"]
        for model, path in zip((whole, narrower), paths, strict=True):
            export_original(model, hidden, path, dynamic={0: [1]})
        for size in SENTENCES:
            batch = torch.cat([hidden] * max(1, size // 2))[:size]
            faster = np.sort(1 / _turns(paths, batch).ratios)
            details[f"faster_batch_{size}"] = float(np.median(faster))
            spread = np.quantile(faster, (0.05, 0.95))
            details[f"faster_batch_{size}_from_to"] = [float(one) for one in spread]
        left = paths[1].stat().st_size
        share = left / paths[0].stat().st_size
    yield Record(
        row=row,
        subject="minilm",
        peer=peer,
        setting=setting,
        seed=seed,
        bytes=left,
        share=share,
        errors={},
        details=details,
        versions=versions(),
    )


def _turns(paths: list[Path], batch: Tensor) -> Turns:
    with Worker(paths[0]) as one, Worker(paths[1]) as other:
        return latency_turns((one, other), flatten_inputs(batch), seconds=5)
