"""What must keep working: the model, examples of its input, and how its answers are scored."""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from lilliput.batches import (
    Batch,
    Example,
    Examples,
    Inputs,
    as_inputs,
    at_most,
    call,
    collate_inputs,
    collate_targets,
    cut,
    digest,
    flatten_tensors,
    group_number,
    pads,
    shapes,
    summarize,
    windows,
)
from lilliput.errors import TaskError
from lilliput.metrics import Agreement, Cosine, Metric, is_class_scores, metric_by_name
from lilliput.outputs import pick_output
from lilliput.scoring import check_metric
from lilliput.splits import SUBSETS, Split, SubsetName, connected, default_sizes, split_components
from lilliput.usercode import users_code

DEFAULT_MASK = "attention_mask"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What must keep working. Validated when it is written; `validation.check_task` runs it.

    Args:
        model: The original. It is never modified: evaluation restores its training flags.
        examples: Map-style sequence (``len`` and ``[i]``) of inputs or of (input, target): a tuple
            of length 2 is always (input, target), so an input that is itself a tuple is given as
            ``(input_tuple, target_or_None)``. An input is a tensor, array or number, or a tuple or
            dict of them. May have ``fingerprint(i) -> bytes`` (instead of hashing the input) and
            ``describe(i) -> str`` (text for reports).
        example_inputs: Without examples: one batch of inputs, with which the model is captured.
        metric: Its name (`metrics.METRICS`), a Metric, or None: agreement with the original where
            its outputs are class scores (N, C >= 2), else cosine.
        collate: A list of N inputs -> a batch: tensor, tuple or dict of tensors, batch first. By
            default inputs are stacked; unequal lengths are padded with 0 where there is a mask,
            and otherwise never share a batch. Its attribute ``pads`` (if False, it is given equal
            shapes only) and ``most`` (examples in a batch) are heeded.
        train: Training examples of the same form, for techniques that train.
        loss: (outputs, targets) -> scalar tensor, for techniques that train.
        group: Callable example -> hashable, or one hashable per example: examples of one group
            (a speaker, a patient) are not independent and stay in one subset.
        mask: Name (or position) of the input that is (N, T) and holds 1 at real positions. By
            default ``"attention_mask"`` where the inputs have it.
        dynamic: Input name (or position) -> dimensions of the batched tensor that may vary, beside
            the batch and those in which the examples vary anyway.
        output: Which output counts: a key or a position. By default a tensor itself, the first of
            a tuple, ``logits`` of a dict or Hugging Face output, else its first tensor.
        calibration: Own examples for statistics, instead of a part of `examples`.
        search: Own examples that may steer.
        proof: Own examples that judge.
        calibration_size: Calibration examples taken from `examples`; default a quarter up to 500.
        search_size: Search examples taken from `examples`; default a quarter up to 750.
        proof_size: At most so many proof examples are taken from `examples`; default all others.
        label_names: Word for each class, for reports.
        describe: Input -> a short text that shows a human the example, for reports.
        name: Word for the task in reports.
        notes: Sentences that reports show among their warnings.

    Examples are numbered through: first `examples`, then `calibration`, `search` and `proof`.

    Raises:
        TaskError: Fields that do not fit together.
    """

    model: nn.Module
    examples: Examples | None = None
    example_inputs: Inputs = None
    metric: Metric | str | None = None
    collate: Callable[[list[Any]], Inputs] | None = None
    train: Examples | None = None
    loss: Callable[[Any, Any], Tensor] | None = None
    group: Callable[[Any], Hashable] | Sequence[Hashable] | None = None
    mask: str | int | None = None
    dynamic: Mapping[str | int, Sequence[int]] | None = None
    output: str | int | None = None
    calibration: Examples | None = None
    search: Examples | None = None
    proof: Examples | None = None
    calibration_size: int | None = None
    search_size: int | None = None
    proof_size: int | None = None
    label_names: Sequence[str] | None = None
    describe: Callable[[Any], str] | None = None
    name: str = "task"
    notes: tuple[str, ...] = ()
    _names: list[str] = field(default_factory=list, init=False, repr=False)
    _fingerprints: dict[int, bytes] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            kind = type(self.model).__name__
            raise TaskError(f"model must be a torch.nn.Module, got {kind}", _MODEL_HINT)
        if isinstance(self.metric, str):
            metric_by_name(self.metric)
        for label in ("examples", "train", *SUBSETS):
            _check_sequence(label, getattr(self, label))
        if self.metric is not None and not isinstance(self.metric, str):
            check_metric(self.metric)
        for label in ("calibration_size", "search_size", "proof_size"):
            size = getattr(self, label)
            if size is not None and (not isinstance(size, int) or size < 1):
                raise TaskError(f"{label} must be a whole number of at least 1, got {size!r}")
        if not len(self) and self.example_inputs is None:
            raise TaskError("there are no examples", "give examples=..., or example_inputs=...")
        if self.group is not None and not callable(self.group) and len(self.group) != len(self):
            raise TaskError(f"group has {len(self.group)} entries for {len(self)} examples")

    def __len__(self) -> int:
        """Number of examples, own subsets included."""
        return sum(count for _, count in self._sources)

    def example(self, index: int) -> Example:
        """The example at a place of the task.

        Raises:
            TaskError: The user's sequence failed, or gave a tuple of a length other than 2.
        """
        source, place = self._locate(index)
        with users_code(f"examples[{place}]"):
            item = source[place]
        if isinstance(item, tuple) and len(item) != 2:
            raise TaskError(
                f"examples[{place}] is a tuple of {len(item)}, expected input or (input, target)",
                "an input that is a tuple itself is given as (input_tuple, target_or_None)",
            )
        value, target = item if isinstance(item, tuple) else (item, None)
        return Example(index, value, target, self._group_of(index, item))

    def split(self, seed: int = 0) -> Split:
        """Calibration, search and proof, disjoint by the SHA-256 of the inputs' bytes.

        Duplicates and examples of one group stay together. Own subsets are taken as they are,
        except that what is also in a later subset (proof last) is left out of an earlier one.
        """
        own = {name: self._own(name) for name in SUBSETS}
        taken = {self.fingerprint(i) for indices in own.values() for i in indices or ()}
        pool = [i for i in range(len(self.examples or ())) if self.fingerprint(i) not in taken]
        groups = None if self.group is None else [self.example(i).group for i in pool]
        components = connected([(i, self.fingerprint(i)) for i in pool], groups)
        few = default_sizes(len(pool), own_proof=own["proof"] is not None)
        sizes = (
            0 if own["calibration"] is not None else self.calibration_size or few[0],
            0 if own["search"] is not None else self.search_size or few[1],
        )
        dealt = split_components(components, sizes, seed=seed)
        proof = dealt.proof[: self.proof_size] if own["proof"] is None else own["proof"]
        judged = {self.fingerprint(i) for i in proof}
        search = self._without(own["search"], judged) or dealt.search
        judged |= {self.fingerprint(i) for i in search}
        calibration = self._without(own["calibration"], judged) or dealt.calibration
        return Split(calibration, search, proof)

    def batches(self, subset: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Batches of a subset in a fixed order, inputs of similar length together."""
        batch_size = at_most(self.collate, batch_size)
        for window in windows((self.example(i) for i in subset), batch_size):
            for batch in cut(window, batch_size, pads=self.pads(window[0].input)):
                yield self.batch(batch)

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Examples collated, in the order given."""
        collated = self._collated([example.input for example in examples])
        if isinstance(collated, dict):
            collated = {name: collated[name] for name in self._input_names(collated)}
        return Batch(
            inputs=collated,
            targets=collate_targets([example.target for example in examples]),
            indices=np.array([example.index for example in examples], dtype=np.int64),
            groups=np.array([group_number(e.group) for e in examples], dtype=np.int64),
            mask=self.mask_of(collated),
        )

    def mask_of(self, inputs: Inputs) -> Tensor | None:
        """The (N, T) mask among the inputs, 1 = real position; None where there is none."""
        key = self._mask_key(inputs)
        return None if key is None else inputs[key]

    def sample(self, count: int = 2) -> Inputs:
        """Inputs to capture the model with: `example_inputs`, or the longest of a few examples."""
        if not len(self):
            return as_inputs(self.example_inputs)
        some = [self.example(i) for i in range(min(len(self), max(count, 8)))]
        some.sort(key=lambda example: shapes(example.input), reverse=True)
        first = [some[i % len(some)] for i in range(count)]
        first = first[: at_most(self.collate, count)]
        if not self.pads(first[0].input) and len({shapes(example.input) for example in first}) > 1:
            first = first[:1] * count
        return self.batch(first).inputs

    def varying(self, *, most: int = 64) -> list[tuple[int, ...]]:
        """Per flattened input, the dimensions beside the batch that must stay dynamic.

        Those in which `most` examples spread over the task vary, and those named in `dynamic`.
        """
        inputs = self.sample(1)
        dims: list[set[int]] = [set() for _ in flatten_tensors(inputs)]
        seen: list[set[tuple[int, ...]]] = [set() for _ in dims]
        tried = min(len(self), most)
        for i in range(tried):
            batch = self.batch([self.example(i * len(self) // tried)])
            for sizes, tensor in zip(seen, flatten_tensors(batch.inputs), strict=True):
                sizes.add(tuple(tensor.shape))
        for varying, sizes in zip(dims, seen, strict=True):
            columns = enumerate(zip(*sizes, strict=True))
            varying |= {d for d, column in columns if d > 0 and len(set(column)) > 1}
        names = list(inputs) if isinstance(inputs, dict) else list(range(len(dims)))
        for name, wanted in (self.dynamic or {}).items():
            if name not in names:
                raise TaskError(f"dynamic names {name!r}, the inputs are {names}")
            dims[names.index(name)] |= {d for d in wanted if d > 0}
        return [tuple(sorted(varying)) for varying in dims]

    def run(self, model: nn.Module, inputs: Inputs) -> Any:
        """The model's raw output: ``model(x)``, ``model(*x)`` or ``model(**x)``."""
        return call(model, inputs)

    def pick(self, raw: Any) -> Tensor:
        """The output that counts, (N, ...).

        Raises:
            TaskError: There is no such output, or it is not a tensor.
        """
        return pick_output(raw, self.output)

    def predict(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """`run`, then `pick`."""
        return self.pick(self.run(model, inputs))

    def output_index(self, raw: Any) -> int:
        """Place of the picked output among the tensor leaves of the raw output."""
        picked = self.pick(raw)
        return next(i for i, leaf in enumerate(flatten_tensors(raw)) if leaf is picked)

    def resolve_metric(self, output: Tensor) -> Metric:
        """The metric, given a picked output of the original.

        Raises:
            TaskError: The metric needs targets and there are none.
        """
        if self.metric is None:
            return Agreement() if is_class_scores(output) else Cosine()
        metric = metric_by_name(self.metric) if isinstance(self.metric, str) else self.metric
        if metric.reference == "targets" and len(self) and self.example(0).target is None:
            raise TaskError(
                f"metric {metric.name} needs a target for every example",
                "give (input, target), or leave the metric out to compare with the original",
            )
        return metric

    def fingerprint(self, index: int) -> bytes:
        """SHA-256 of the input's bytes; computed once."""
        if index not in self._fingerprints:
            source, place = self._locate(index)
            own = getattr(source, "fingerprint", None)
            self._fingerprints[index] = own(place) if own else digest(self.example(index).input)
        return self._fingerprints[index]

    def proof_hash(self, subset: Sequence[int]) -> str:
        """SHA-256 over inputs and targets of a subset, whatever its order: the ledger's key."""
        entries = sorted(self.fingerprint(i) + digest(self.example(i).target) for i in subset)
        return hashlib.sha256(b"".join(entries)).hexdigest()

    def summary(self, index: int) -> str:
        """A short text that shows a human the example."""
        source, place = self._locate(index)
        if self.describe is not None:
            with users_code("describe"):
                return str(self.describe(self.example(index).input))
        describe = getattr(source, "describe", None)
        return str(describe(place)) if describe else summarize(self.example(index).input)

    def label_text(self, target: Any) -> str | None:
        """A target in words: its class name where it has one; None without a target."""
        if target is None:
            return None
        single = (
            isinstance(target, Tensor | np.ndarray | np.generic) and len(shapes(target)[0]) == 0
        )
        value = target.item() if single else target
        names = self.label_names or getattr(self.examples, "label_names", None)
        known = names and isinstance(value, int) and 0 <= value < len(names)
        return str(names[value]) if names and known else str(value)

    @cached_property
    def _sources(self) -> tuple[tuple[Examples, int], ...]:
        """What the examples are in, in their order, and how many; the lengths are asked once."""
        own = (self.examples, self.calibration, self.search, self.proof)
        return tuple((() if one is None else one, 0 if one is None else len(one)) for one in own)

    def _locate(self, index: int) -> tuple[Examples, int]:
        place = index
        for source, count in self._sources:
            if 0 <= place < count:
                return source, place
            place -= count
        raise TaskError(f"there is no example {index}, the task has {len(self)}")

    def _own(self, name: SubsetName) -> tuple[int, ...] | None:
        if getattr(self, name) is None:
            return None
        place = 1 + SUBSETS.index(name)
        start = sum(count for _, count in self._sources[:place])
        return tuple(range(start, start + len(getattr(self, name))))

    def _group_of(self, index: int, item: Any) -> Hashable:
        if self.group is None:
            return index
        if not callable(self.group):
            return self.group[index]
        with users_code("group"):
            return self.group(item)

    def _collated(self, inputs: list[Any]) -> Inputs:
        if self.collate is None:
            return collate_inputs(inputs)
        with users_code("collate"):
            return as_inputs(self.collate(inputs))

    def _input_names(self, collated: dict[str, Tensor]) -> list[str]:
        """Names of a batch in the order of the first example's, the same for every batch."""
        if not self._names:
            first = self._collated([self.example(0).input])
            self._names.extend(first if isinstance(first, dict) else ())
        if set(self._names) != set(collated):
            raise TaskError(f"a batch has the inputs {list(collated)}, the first {self._names}")
        return self._names

    def _without(self, indices: Sequence[int] | None, taken: set[bytes]) -> tuple[int, ...]:
        return tuple(i for i in indices or () if self.fingerprint(i) not in taken)

    def pads(self, value: Any) -> bool:
        """Whether examples of unequal shapes may share a batch."""
        return pads(self.collate) if self.collate else self._mask_key(value) is not None

    def _mask_key(self, inputs: Inputs) -> Any:
        if isinstance(self.mask, int):
            if not isinstance(inputs, tuple) or not 0 <= self.mask < len(inputs):
                raise TaskError(f"mask is {self.mask}, but the inputs are no tuple that long")
            return self.mask
        named = self.mask or DEFAULT_MASK
        if isinstance(inputs, Mapping) and named in inputs:
            return named
        if self.mask is not None:
            raise TaskError(f"mask names {self.mask!r}, which is not among the inputs")
        return None


_MODEL_HINT = "a state dict needs its class: load_weights(Net(), path)"


def _check_sequence(label: str, value: Any) -> None:
    if value is None:
        return
    if not hasattr(value, "__len__") or not hasattr(value, "__getitem__") or isinstance(value, str):
        raise TaskError(
            f"{label} must have a length and be indexed by number, got {type(value).__name__}",
            "a list works; turn an iterator into list(...)",
        )
