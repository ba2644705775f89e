"""The standard: NNCodec 2.1.3, the implementation of ISO/IEC 15938-17 by its authors.

Becking, Haase, Kirchhoffer, Müller, Samek and Marpe, "NNCodec: An Open Source Software
Implementation of the Neural Network Coding ISO/IEC Standard", 2023. It runs in its own environment
(`benchmarks/setup.sh`) as a process that is handed arrays and gives back files and what they decode
to. Dependent quantization is on; BatchNorm is kept apart.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.models import Subject
from benchmarks.peers import Compressed
from benchmarks.peers.parts import join, split

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-nncodec/bin/python"
WORKER = Path(__file__).with_name("standard_worker.py")

Steps = Mapping[str, tuple[Tensor, Tensor | None]]
Settings = dict[str, object]


def code(
    arrays: Mapping[str, Tensor], targets: Sequence[int], settings: Settings
) -> Iterator[tuple[dict[str, Tensor], dict[str, int]]]:
    """Per target (bytes): what the largest file within it decodes to, and its bytes and qp.

    Raises:
        FileNotFoundError: The environment of NNCodec is not built.
        subprocess.CalledProcessError: NNCodec failed.
    """
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is missing: run `sh benchmarks/setup.sh`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "arrays.npz", **{key: value.numpy() for key, value in arrays.items()})
        request = {
            "arrays": str(folder / "arrays.npz"),
            "folder": str(folder),
            "targets": list(targets),
            "settings": settings,
        }
        (folder / "request.json").write_text(json.dumps(request))
        command = [str(PYTHON), str(WORKER), str(folder / "request.json")]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for index, line in enumerate(answer.stdout.splitlines()):
            with np.load(folder / f"{index}.npz") as decoded:
                yield {key: torch.from_numpy(decoded[key]) for key in arrays}, json.loads(line)


def whole_model(
    subject: Subject, targets: Sequence[int], settings: Settings
) -> Iterator[Compressed]:
    """The whole model in NNCodec's own steps, one file per target size in bytes."""
    for decoded, chosen in code(split(subject.model), targets, settings):
        yield Compressed(join(subject.model, decoded), chosen["bytes"], {**settings, **chosen})


def whole_model_with_steps(
    subject: Subject, targets: Sequence[int], steps: Steps, settings: Settings
) -> Iterator[Compressed]:
    """The whole model with given steps, all of them scaled alike to hit each target size.

    Args:
        subject: The model.
        targets: File sizes in bytes.
        steps: Weight name -> (step per row (out,), factor per column (in,) or None) of the weight's
            (out, -1) view.
        settings: As for `whole_model`, without ``steps``.
    """
    arrays, scales = split(subject.model), {}
    tensor_steps: dict[str, float] = {}
    for name, (rows, columns) in steps.items():
        middle = rows.log().mean().exp()
        tensor_steps[name] = float(middle)
        weight = arrays[name]
        scales[f"{name}.rows"] = (rows / middle).float()
        if columns is not None:
            scales[f"{name}.columns"] = columns.float()
        arrays[name] = weight / _grid(name, weight, scales)
    for decoded, chosen in code({**arrays, **scales}, targets, {**settings, "steps": tensor_steps}):
        weights = {name: decoded[name] for name in arrays}
        for name in steps:
            weights[name] = weights[name] * _grid(name, weights[name], decoded)
        yield Compressed(join(subject.model, weights), chosen["bytes"], {**settings, **chosen})


def _grid(name: str, weight: Tensor, scales: Mapping[str, Tensor]) -> Tensor:
    grid = scales[f"{name}.rows"][:, None]  # (out, 1)
    if f"{name}.columns" in scales:
        grid = grid * scales[f"{name}.columns"][None, :]  # (out, in)
    return grid.expand(len(weight), weight[0].numel()).reshape(weight.shape)
