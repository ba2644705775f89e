"""The forms of an artifact: an ONNX graph, one of integers, or weights that PyTorch runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.batches import flatten_inputs
from lilliput.coding import pack
from lilliput.edits import Edits
from lilliput.errors import InputError
from lilliput.model.encodings import Encoding, Grid, parts_of
from lilliput.model.profiles import NO_FOLDING, Folding
from lilliput.model.sites import Site
from lilliput.records import Plan
from lilliput.runtime.onnx_bind import Bindings
from lilliput.runtime.onnx_encode import Arithmetic, write_encodings
from lilliput.runtime.onnx_fixed import write_fixed
from lilliput.runtime.onnx_folds import half_precision_biases
from lilliput.runtime.onnx_layout import decoded
from lilliput.runtime.torch_processes import stored_state
from lilliput.runtime.weights_file import write_weights
from lilliput.stages.export import Exported, export, export_fixed, export_weights, with_shape
from lilliput.task import Task

FIXED_EXAMPLES, FIXED_BATCH = 256, 32  # calibration examples that say how large activations are


class Form(Protocol):
    """How the compressed weights become files."""

    @property
    def original(self) -> Path:
        """The untouched model in the same form: the baseline of every share."""
        ...

    @property
    def folding(self) -> Folding:
        """What the files fold together."""
        ...

    @property
    def replaceable(self) -> frozenset[str] | None:
        """Parameters of which the files can hold new values; None: all."""
        ...

    def completed(self, encodings: dict[str, Encoding]) -> dict[str, Encoding]:
        """The encodings, with what this form rounds beside them."""
        ...

    def sizes(self, encodings: Mapping[str, Encoding], scratch: Path) -> tuple[int, int]:
        """Bytes of the packed and of the runnable file, written to a scratch folder."""
        ...

    def write(self, encodings: Mapping[str, Encoding], path: Path) -> None:
        """Writes the runnable file alone."""
        ...

    def computes(self, encodings: Mapping[str, Encoding]) -> bool:
        """Whether the file computes what PyTorch does with the decoded weights, to rounding."""
        ...

    def export(self, encodings: Mapping[str, Encoding], *, plan: Plan, folder: Path) -> Exported:
        """Writes all files of the artifact."""
        ...


@dataclass(frozen=True)
class GraphForm:
    """An ONNX file that any runtime opens.

    Attributes:
        bindings: Where the weights lie in the original's export.
        sites: The model's sites.
        model: The user's model.
        arithmetic: How the artifact computes.
        baseline: What the artifact is compared with, where that is not the file that is filled:
            the ONNX file that the user came with, or the export of the model in its old shape.
        weights: Whether weights for PyTorch are written; not for who came with an ONNX file.
        edits: What gives an instance of the user's class its new shape; None where it keeps it.
        saved: The captured graph in a file, where the user's class cannot take the new shape.
    """

    bindings: Bindings
    sites: Mapping[str, Site]
    model: nn.Module
    arithmetic: Arithmetic = "float32"
    baseline: Path | None = None
    weights: bool = True
    edits: Edits | None = None
    saved: Path | None = None

    @property
    def original(self) -> Path:
        """What every share is a share of."""
        return self.baseline or self.bindings.original.path

    @property
    def folding(self) -> Folding:
        """BatchNorms, which the exporter folds into the layer before them."""
        factors: dict[str, Tensor] = {}
        for binding in self.bindings.found:
            for piece in binding.pieces:
                site = self.sites.get(piece.parameter)
                if site is not None and piece.factor is not None:
                    flat = torch.from_numpy(piece.factor.reshape(-1).copy()).to(torch.float32)
                    factors[site.name] = flat.expand(site.rows) if len(flat) == 1 else flat
        whole = {name: f for name, f in factors.items() if len(f) == self.sites[name].rows}
        names = {name for fold in self.bindings.folds for name in fold.names}
        return Folding(whole, frozenset(names - self.sites.keys()))

    @property
    def replaceable(self) -> frozenset[str] | None:
        """What was recognised in the graph."""
        return self.bindings.replaceable

    @property
    def graph(self) -> Path:
        """The untouched weights in the graph that `write` fills: where the readers are nodes."""
        return self.bindings.original.path

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Site -> names of the nodes of `graph` that read its weight."""
        found: dict[str, tuple[str, ...]] = dict.fromkeys(self.sites, ())
        for binding in self.bindings.found:
            for name in {piece.parameter for piece in binding.pieces} & self.sites.keys():
                found[name] += tuple(node for node, _ in binding.uses)
        return found

    def completed(self, encodings: dict[str, Encoding]) -> dict[str, Encoding]:
        """Folded biases, rounded to half precision, come last."""
        values = self._folded(encodings)
        return {**encodings, **half_precision_biases(self.bindings.folds, values)}

    def row_factors(self, encodings: Mapping[str, Encoding]) -> dict[str, Tensor]:
        """What the export multiplies the rows of layers with, given new weights of BatchNorms."""
        values = self._folded(encodings)
        ratios = {f.parameter: f.ratio(values).reshape(-1) for f in self.bindings.folds}
        return {
            name: factor * torch.from_numpy(ratios[name]) if name in ratios else factor
            for name, factor in self.folding.row_factors.items()
        }

    def _folded(self, encodings: Mapping[str, Encoding]) -> dict[str, np.ndarray]:
        """New values of what is folded."""
        names = {name for fold in self.bindings.folds for name in fold.names}
        return {name: decoded(encodings[name]) for name in names & encodings.keys()}

    def sizes(self, encodings: Mapping[str, Encoding], scratch: Path) -> tuple[int, int]:
        """Bytes of the packed and of the runnable file."""
        runnable, packed = scratch / "model.onnx", scratch / "model.lilliput"
        self.write(encodings, runnable)
        pack(runnable, packed)
        return packed.stat().st_size, runnable.stat().st_size

    def write(self, encodings: Mapping[str, Encoding], path: Path) -> None:
        """Writes the runnable file alone."""
        write_encodings(self.bindings, encodings, path, arithmetic=self.arithmetic)

    def computes(self, encodings: Mapping[str, Encoding]) -> bool:
        """Not where activations are rounded: by the runtime's own kernels, or as a site asks."""
        parts = (part for encoding in encodings.values() for part in parts_of(encoding))
        asked = any(isinstance(part, Grid) and part.inputs is not None for part in parts)
        return self.arithmetic == "float32" and not asked

    def export(self, encodings: Mapping[str, Encoding], *, plan: Plan, folder: Path) -> Exported:
        """Writes all files of the artifact."""
        exported = export(
            self.bindings,
            encodings,
            model=self.model if self.weights else None,
            plan=plan,
            folder=folder,
            arithmetic=self.arithmetic,
        )
        return with_shape(exported, edits=self.edits, graph=self.saved, folder=folder)


@dataclass(frozen=True)
class FixedForm(GraphForm):
    """An ONNX file of integers only.

    Attributes:
        task: Its calibration examples say how large activations are.
        calibration: Their places.
    """

    task: Task | None = None
    calibration: tuple[int, ...] = ()

    @classmethod
    def of(cls, form: Form, task: Task, *, calibration: Sequence[int], scratch: Path) -> Self:
        """The integer twin of a form; the original is converted once, to see whether it can be.

        Raises:
            InputError: It cannot; says why.
        """
        if not isinstance(form, GraphForm):
            raise InputError("fixed point needs a model whose graph can be exported")
        given = {item.name: getattr(form, item.name) for item in fields(GraphForm)}
        made = cls(**given, task=task, calibration=tuple(calibration[:FIXED_EXAMPLES]))
        write_fixed(form.bindings.original.path, scratch / "fixed.onnx", batches=made.batches())
        return made

    def batches(self) -> Iterator[list[np.ndarray]]:
        """Calibration inputs as the graph takes them."""
        if self.task is not None:
            for batch in self.task.batches(self.calibration, FIXED_BATCH):
                yield flatten_inputs(batch.inputs)

    def write(self, encodings: Mapping[str, Encoding], path: Path) -> None:
        """Writes the runnable file alone."""
        source = path.with_suffix(".float.onnx")
        write_encodings(self.bindings, encodings, source)
        write_fixed(source, path, batches=self.batches())
        source.unlink()

    def export(self, encodings: Mapping[str, Encoding], *, plan: Plan, folder: Path) -> Exported:
        """Writes all files of the artifact."""
        exported = export_fixed(
            self.bindings,
            encodings,
            batches=self.batches(),
            model=self.model if self.weights else None,
            plan=plan,
            folder=folder,
        )
        return with_shape(exported, edits=self.edits, graph=self.saved, folder=folder)


@dataclass(frozen=True)
class WeightsForm:
    """Weights without a graph, for models that cannot be captured or exported.

    Attributes:
        original: The untouched weights in a file of the same kind.
        model: The user's model.
    """

    original: Path
    model: nn.Module

    @classmethod
    def of(cls, model: nn.Module, path: Path) -> "WeightsForm":
        """Writes the untouched weights to `path` first."""
        write_weights(stored_state(model), {}, path)
        return cls(path, model)

    @property
    def folding(self) -> Folding:
        """Nothing is folded."""
        return NO_FOLDING

    @property
    def replaceable(self) -> frozenset[str] | None:
        """All."""
        return None

    def completed(self, encodings: dict[str, Encoding]) -> dict[str, Encoding]:
        """Nothing is added."""
        return encodings

    def sizes(self, encodings: Mapping[str, Encoding], scratch: Path) -> tuple[int, int]:
        """Bytes of the packed and of the unpacked file."""
        plain, packed = scratch / "weights.onnx", scratch / "model.lilliput"
        self.write(encodings, plain)
        pack(plain, packed)
        return packed.stat().st_size, plain.stat().st_size

    def write(self, encodings: Mapping[str, Encoding], path: Path) -> None:
        """Writes the unpacked file alone."""
        write_weights(stored_state(self.model), encodings, path)

    def computes(self, encodings: Mapping[str, Encoding]) -> bool:
        """Always: PyTorch runs it, with the decoded weights."""
        return True

    def export(self, encodings: Mapping[str, Encoding], *, plan: Plan, folder: Path) -> Exported:
        """Writes all files of the artifact."""
        return export_weights(encodings, model=self.model, plan=plan, folder=folder)
