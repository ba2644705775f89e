"""A Task whose model is an ONNX file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.batches import Examples, summarize
from lilliput.coding.folders import new_file
from lilliput.errors import OutputError, TaskError
from lilliput.metrics import Metric
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_clean import onnx_bytes
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.runtime.onnx_ports import Collate, Port, made_up, ports_of
from lilliput.runtime.onnx_read import OnnxFile, read_onnx
from lilliput.runtime.onnx_simplify import Simplified, simplify
from lilliput.sources import TaskArguments, graph_examples
from lilliput.splits import SUBSETS
from lilliput.task import Task
from lilliput.usercode import users_code

CHECKED = 4  # examples on which edits of the graph are compared
LEAST_DECIBELS = 50.0  # two examples in a batch against one after the other
OPEN_SIZES = (64, 256, 512, 16, 1)  # of axes that vary, where nobody gives inputs
SPREAD = 256  # examples whose shared inputs are compared


@dataclass(frozen=True)
class GraphExamples:
    """Examples in the form a graph takes: every input by name, in its type, with a batch of one.

    Attributes:
        ports: The graph's inputs.
        source: The user's examples.
    """

    ports: tuple[Port, ...]
    source: Examples

    @property
    def label_names(self) -> Any:
        """Words for the classes, where the user's examples have them."""
        return getattr(self.source, "label_names", None)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], Any]:
        with users_code(f"examples[{index}]"):
            item = self.source[index]
        value, target = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        named = self._named(value)
        return {port.name: port.ready(named[port.name]) for port in self.ports}, target

    def describe(self, index: int) -> str:
        """What the user's examples say of one."""
        describe = getattr(self.source, "describe", None)
        return str(describe(index)) if describe else summarize(self[index][0])

    def _named(self, value: Any) -> Mapping[str, Any]:
        names = [port.name for port in self.ports]
        if isinstance(value, tuple) and len(value) == len(names):
            return dict(zip(names, value, strict=True))
        named: Mapping[str, Any] = value if isinstance(value, Mapping) else {names[0]: value}
        missing = [str(port) for port in self.ports if port.name not in named]
        strange = [name for name in named if name not in names]
        if missing or strange:
            wrong = f"no {missing[0]}" if missing else f"{strange[0]}, which it does not take"
            raise TaskError(
                f"the examples give the ONNX graph {wrong}",
                f"it takes {', '.join(map(str, self.ports))}",
            )
        return named


def onnx_task(
    file: str | Path, examples: Examples, *, metric: Metric | str | None = None, **fields: Any
) -> Task:
    """A task that keeps an ONNX file working, without any code of PyTorch.

    The graph is simplified first (`simplify`); the file itself stays the baseline and what the
    outputs are compared with.

    Args:
        file: The ONNX file; external data lies in its folder.
        examples: As for `Task`: inputs by name (or alone where there is one input), without their
            batch axis or with a batch of one; or (inputs, target). ``arrays("inputs.npz")`` does.
        metric: As for `Task`; by default agreement or cosine with the file's own first output.
        fields: Further fields of `Task`, e.g. ``output``, ``group``, ``calibration_size``.

    Raises:
        ContainerError: A file that cannot be used: see `read_onnx`.
        TaskError: Inputs of other names, types or shapes than the graph takes.
    """
    found = read_onnx(file)
    ports = ports_of(found.model)
    _check_batch(ports)
    given = GraphExamples(ports, examples)
    if not len(examples):
        raise TaskError("there are no examples", "give arrays of the graph's inputs")
    edited = _simplified(found, given)
    module = OnnxModule(edited.model, file=found, notes=_notes(edited))
    most, note = _largest_batch(module, given)
    notes = (*fields.pop("notes", ()), *([note] if note else []))
    name = fields.pop("name", Path(file).stem)
    own: dict[str, Any] = {
        n: GraphExamples(ports, fields.pop(n)) for n in SUBSETS if fields.get(n) is not None
    }
    return Task(
        model=module,
        examples=given,
        metric=metric,
        collate=Collate(ports, most),
        name=name,
        notes=notes,
        **own,
        **fields,
    )


def simplify_file(
    file: str | Path, out: str | Path, *, examples: Examples | None = None, force: bool = False
) -> Simplified:
    """Writes an ONNX file that answers as another does, without what it can do without.

    Args:
        file: The ONNX file; external data lies in its folder.
        out: Where to write; one file, weights included.
        examples: Inputs on which the two are compared; made up where there are none.
        force: Replace `out`.

    Returns:
        What was done, and the largest difference of any output number.

    Raises:
        ContainerError: A file that cannot be used: see `read_onnx`.
        TaskError: Examples that do not fit, or no made-up input on which the graph runs.
        OutputError: `out` exists, or cannot be written.
    """
    out = Path(out)
    if out.exists() and (not force or out.samefile(file)):
        raise OutputError(f"{out} exists", "--force replaces it, unless it is the input itself")
    found = read_onnx(file)
    ports = ports_of(found.model)
    if examples is not None:
        edited = _simplified(found, GraphExamples(ports, examples))
    else:
        edited = _simplified_blindly(found, ports)
    with new_file(out) as opened:
        opened.write(onnx_bytes(edited.model))
    return edited


def _simplified_blindly(found: OnnxFile, ports: tuple[Port, ...]) -> Simplified:
    """Compared on made-up inputs, with the first size of the open axes that the graph takes."""
    for size in OPEN_SIZES:
        try:
            return simplify(found.model, [made_up(ports, size)])
        except TaskError as error:
            reason = error.message
    raise TaskError(f"no made-up input fits the graph: {reason}", "give some: --data INPUTS.npz")


def onnx_task_from_arguments(arguments: TaskArguments) -> Task:
    """The Task of a command line whose target is an ONNX file.

    Raises:
        TaskError: There is no data, or options that do not go with an ONNX file.
    """
    examples, metric = graph_examples(arguments)
    return onnx_task(arguments.target, examples, metric=metric)


def _check_batch(ports: tuple[Port, ...]) -> None:
    for port in ports:
        size = port.sizes[port.batch] if port.sizes and port.batch is not None else None
        if size is not None and size != 1:
            raise TaskError(
                f"the ONNX graph fixes its batch at {size}: it takes {port}",
                "export it with a batch that varies, or of 1",
            )


def _simplified(found: OnnxFile, given: GraphExamples) -> Simplified:
    count = min(CHECKED, len(given))
    feeds = [given[i * len(given) // count][0] for i in range(count)]
    return simplify(found.model, feeds)


def _notes(edited: Simplified) -> tuple[str, ...]:
    said = []
    if edited.removed:
        done = ", ".join(
            f"{name} ({fewer} nodes)" if fewer > 0 else name
            for name, fewer in edited.removed.items()
        )
        said.append(
            f"the graph was simplified first: {done}; weights {edited.bytes_after:,} bytes, before "
            f"{edited.bytes_before:,}; no output moved by more than {edited.largest_difference:.2g}"
        )
    if edited.undone:
        said.append(f"left as it was, because the edit failed: {', '.join(edited.undone)}")
    return tuple(said)


def _largest_batch(module: OnnxModule, given: GraphExamples) -> tuple[int | None, str]:
    """The most examples in a batch, None for any number, and what to say of it."""
    fixed = [p for p in given.ports if p.batch is not None and p.sizes and p.sizes[p.batch] == 1]
    if fixed:
        return 1, f"{fixed[0].name} fixes the batch at 1, so examples are run one by one"
    if all(port.batch is None for port in given.ports):
        return 1, "no input has a batch axis, so examples are run one by one"
    shared = [port.name for port in given.ports if port.batch is None]
    step = max(1, len(given) // SPREAD)
    first = given[0][0]
    some = (given[i][0] for i in range(0, len(given), step)) if shared else iter(())
    if any(not np.array_equal(first[name], other[name]) for other in some for name in shared):
        return 1, f"{', '.join(shared)} without a batch axis varies, so examples are run one by one"
    if not _batches_alike(module, given):
        return 1, "the graph answers differently in batches, so examples are run one by one"
    return None, ""


def _batches_alike(module: OnnxModule, given: GraphExamples) -> bool:
    """Whether two examples of one shape answer in a batch as they do alone."""
    pair = [given[0][0], given[len(given) - 1][0]]
    if any(pair[0][port.name].shape != pair[1][port.name].shape for port in given.ports):
        pair[1] = pair[0]
    collate = Collate(given.ports)
    alone = [module(**collate([one]))[module.outputs[0]].numpy() for one in pair]
    try:
        together = module(**collate(pair))[module.outputs[0]].numpy()
    except TaskError:
        return False
    wanted = np.concatenate(alone)
    if wanted.shape != together.shape:
        return False
    decibels = signal_to_noise(wanted, together)
    return decibels is None or decibels >= LEAST_DECIBELS
