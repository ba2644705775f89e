"""A Task from command-line arguments, for the common cases that need no task file."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.errors import TaskError
from lilliput.metrics import Metric
from lilliput.sources.arrays import arrays
from lilliput.sources.huggingface import HuggingFace, hugging_face
from lilliput.sources.images import IMAGENET_MEAN, IMAGENET_STD, Scale, images
from lilliput.sources.inspecting import inspect_file
from lilliput.sources.taskfile import load_task_file, metric_from_spec, model_from_spec
from lilliput.sources.texts import texts
from lilliput.task import Task

MAX_TOKENS = 128
_LOADER = {"images": ("size", "mean", "std")}  # options that go with a loader
SENTENCE = "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True, kw_only=True)
class TaskArguments:
    """What `compress` and its siblings take to describe a task.

    Attributes:
        target: ``task.py``, a Hugging Face folder, ``FILE.py:NAME``, or an ONNX file.
        texts: File of texts for a Hugging Face folder.
        images: Folder of images, sub-folder = label.
        data: `.npz` with ``inputs`` (or arrays by the names of the inputs) and optionally
            ``targets``; or `.npy` with the inputs.
        weights: File of weights for ``FILE.py:NAME``.
        metric: Name of a metric, or ``FILE.py:NAME``.
        shape: Without any data, the shape of one input: see `inputs_of_shape`.
        size: Side of the images in pixels.
        mean: Of the images, one number or one per channel.
        std: Of the images, likewise.
        max_length: Most tokens of a text.
    """

    target: str
    texts: str | None = None
    images: str | None = None
    data: str | None = None
    weights: str | None = None
    metric: str | None = None
    shape: str | None = None
    size: int | None = None
    mean: Scale | None = None
    std: Scale | None = None
    max_length: int | None = None


def task_from_arguments(arguments: TaskArguments) -> Task:
    """The Task of a command line.

    Raises:
        TaskError: Arguments that do not go together, or a target that is none of the forms.
        CheckpointError: Weights that cannot be used.
        MissingExtraError: A loader's optional dependency is not installed.
    """
    path = Path(arguments.target)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise TaskError(f"{path} is no Hugging Face folder: it has no config.json", _FORMS)
        return _from_hugging_face(arguments)
    if ":" in path.name:
        return _from_spec(arguments)
    if path.suffix == ".py":
        _only(arguments, ())
        return load_task_file(path)
    if not path.exists():
        raise TaskError(f"there is no {path}", _FORMS)
    found = inspect_file(path)
    hint = f"next: {found.next_command}" if found.next_command else _FORMS
    raise TaskError(f"{path} is no task, but {found.kind}: {found.details}", hint)


def graph_examples(arguments: TaskArguments) -> tuple[Any, Metric | str | None]:
    """The examples and the metric of a command line whose target is an ONNX file.

    Raises:
        TaskError: There is no data, or options that do not go with an ONNX file.
    """
    data = [name for name in ("images", "data") if getattr(arguments, name) is not None]
    if len(data) != 1:
        given = f"got --{' and --'.join(data)}" if data else "got none"
        raise TaskError(
            f"{arguments.target} needs one of --data or --images, {given}",
            "--data INPUTS.npz holds an array for each input, the examples on the first axis",
        )
    _only(arguments, ("metric", *data, *_LOADER.get(data[0], ())))
    examples, labelled = _examples(arguments)
    return examples, metric_of(arguments) or ("accuracy" if labelled else None)


def metric_of(arguments: TaskArguments) -> Metric | str | None:
    """The metric that was named, loaded where it is ``FILE.py:NAME``."""
    named = arguments.metric
    return metric_from_spec(named) if named is not None and ".py:" in named else named


def source_bytes(arguments: TaskArguments) -> int | None:
    """Size of the checkpoint a command line names; None where a task file loads its own."""
    path = Path(arguments.target)
    if arguments.weights is not None:
        weights = Path(arguments.weights)
        return weights.stat().st_size if weights.is_file() else None
    if not path.is_dir():
        return None
    for pattern in ("*.safetensors", "*.bin", "*.gguf"):
        sizes = [file.stat().st_size for file in path.glob(pattern)]
        if sizes:
            return sum(sizes)
    return None


def task_to_verify(arguments: TaskArguments) -> tuple[Task, bool]:
    """As `task_from_arguments`; beside a task file, `images` or `data` replace its examples.

    Returns:
        The task, and whether all of its examples are new to it.

    Raises:
        TaskError: As for `task_from_arguments`.
    """
    data = [name for name in ("images", "data") if getattr(arguments, name) is not None]
    if Path(arguments.target).suffix != ".py" or len(data) != 1:
        return task_from_arguments(arguments), False
    _only(arguments, (*data, *_LOADER.get(data[0], ())))
    task = load_task_file(arguments.target)
    group = task.group if callable(task.group) else None
    examples = _examples(arguments)[0]
    return replace(
        task, examples=examples, group=group, calibration=None, search=None, proof=None
    ), True


def inputs_of_shape(text: str, *, batch: int = 2, seed: int = 0) -> Any:
    """Inputs to capture a model with when there is no data.

    Args:
        text: ``3x224x224``: one float input without its batch dimension. ``int64:16`` gives a
            type, commas separate several inputs: ``3x32x32,int64:16``.
        batch: Size of the batch dimension.
        seed: Of the random values (integers are 0 or 1).

    Raises:
        TaskError: Not such a text.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = tuple(_tensor_of(part.strip(), batch, generator) for part in text.split(","))
    return tensors if len(tensors) > 1 else tensors[0]


def _tensor_of(text: str, batch: int, generator: torch.Generator) -> Tensor:
    kind, _, sizes = text.rpartition(":")
    dtype = getattr(torch, kind or "float32", None)
    numbers = [int(size) if size.isdecimal() else 0 for size in sizes.split("x")]
    if not isinstance(dtype, torch.dtype) or not all(size > 0 for size in numbers):
        raise TaskError(f"{text!r} is not the shape of an input", "e.g. 3x224x224 or int64:16")
    if dtype.is_floating_point:
        return torch.randn(batch, *numbers, generator=generator).to(dtype)
    return torch.randint(0, 2, (batch, *numbers), generator=generator).to(dtype)


def _from_hugging_face(arguments: TaskArguments) -> Task:
    _only(arguments, ("texts", "metric", "max_length"))
    found = hugging_face(arguments.target)
    name = Path(arguments.target).resolve().name
    length = min(arguments.max_length or MAX_TOKENS, found.longest)
    if arguments.texts is None:
        encoded = found.tokenizer([SENTENCE, SENTENCE])
        inputs = {k: torch.tensor(encoded[k]) for k in ("input_ids", "attention_mask")}
        return Task(
            model=found.model,
            example_inputs=inputs,
            dynamic={"input_ids": (1,), "attention_mask": (1,)},
            metric=metric_of(arguments) or found.metric,
            name=name,
            notes=found.notes,
        )
    examples = texts(
        arguments.texts,
        found.tokenizer,
        max_length=length,
        label_names=found.label_names or None,
        predict_next=found.role == "causal",
    )
    return Task(
        model=found.model,
        examples=examples,
        metric=metric_of(arguments) or _metric(found, labelled=examples.labels is not None),
        dynamic={"input_ids": (1,), "attention_mask": (1,)},
        label_names=examples.label_names or None,
        name=name,
        notes=found.notes,
    )


def _metric(found: HuggingFace, *, labelled: bool) -> str:
    return "accuracy" if labelled and found.role == "classifier" else found.metric


def _from_spec(arguments: TaskArguments) -> Task:
    data = [name for name in ("images", "data", "shape") if getattr(arguments, name) is not None]
    if len(data) != 1:
        given = f"got --{' and --'.join(data)}" if data else "got none"
        raise TaskError(
            f"{arguments.target} needs one of --images, --data or --shape, {given}",
            "--images FOLDER, --data ARRAYS.npz, or --shape 3x224x224 without data",
        )
    _only(arguments, ("weights", "metric", *data, *_LOADER.get(data[0], ())))
    model = model_from_spec(arguments.target, weights=arguments.weights)
    name = arguments.target.rpartition(":")[2]
    if arguments.shape is not None:
        inputs = inputs_of_shape(arguments.shape)
        return Task(model=model, example_inputs=inputs, metric=metric_of(arguments), name=name)
    return _with_examples(arguments, model, name)


def _with_examples(arguments: TaskArguments, model: nn.Module, name: str) -> Task:
    """A task of images or arrays: labels and class scores make it accuracy."""
    examples, labelled = _examples(arguments)
    metric = metric_of(arguments) or ("accuracy" if labelled else None)
    return Task(model=model, examples=examples, metric=metric, name=name)


def _examples(arguments: TaskArguments) -> tuple[Any, bool]:
    """Images or arrays, and whether they have classes as targets."""
    if arguments.images is None:
        stored = arrays(str(arguments.data))
        return stored, stored.targets is not None and stored.targets.dtype.kind in "iu"
    shown = images(
        arguments.images,
        size=arguments.size or 224,
        mean=IMAGENET_MEAN if arguments.mean is None else arguments.mean,
        std=IMAGENET_STD if arguments.std is None else arguments.std,
    )
    return shown, shown.labels is not None


def _only(arguments: TaskArguments, allowed: tuple[str, ...]) -> None:
    """Refuse options that this kind of target does not use, instead of ignoring them."""
    for each in fields(arguments):
        if each.name not in ("target", *allowed) and getattr(arguments, each.name) is not None:
            option = f"--{each.name.replace('_', '-')}"
            raise TaskError(
                f"{option} does not go with {arguments.target}",
                f"it takes {', '.join('--' + a.replace('_', '-') for a in allowed) or 'none'}",
            )


_FORMS = "give task.py, a Hugging Face folder, FILE.py:NAME, or model.onnx"
