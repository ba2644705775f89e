"""Runs in .venv-nncodec: codes a set of arrays with NNCodec at given file sizes. Needs numpy only.

``python standard_worker.py REQUEST.json`` where the request has: `arrays` (npz of float32),
`folder` (where ``0.nnc``, ``0.npz``, ... are written), `targets` (bytes), `settings` (see
`Settings`). Prints one JSON line per target: bytes and qp.
"""

import json
import math
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# NNCodec's training code would import torchvision; its coder never calls it.
framework = types.ModuleType("nncodec.framework")
for part in ("tensorflow_model", "pytorch_model", "use_case_init"):
    setattr(framework, part, types.ModuleType(part))
sys.modules["nncodec.framework"] = framework

from nncodec import nnc  # noqa: E402

DENSITY = 6  # steps of 1/64 octave, so that files hit their target size
CLOSE = 0.001  # a file this much below its target is close enough


@dataclass(frozen=True)
class Settings:
    """How to code.

    Attributes:
        opt_qp: NNCodec's own steps by layer size and spread.
        lambda_scale: Weight of the rate in its trellis; 0 is its default.
        vector_qp: Step of one-dimensional arrays is 2 ** (vector_qp / 4); -75 is its default.
        steps: Array name -> step, instead of one step for all; scaled together to hit the size.
    """

    opt_qp: bool = True
    lambda_scale: float = 0.0
    vector_qp: int = -75
    steps: dict[str, float] | None = None


def encode(arrays: dict[str, np.ndarray], qp: int, settings: Settings) -> bytes:
    """The bitstream with steps of 2 ** (qp / 64), or `steps` times that."""
    finer = 2 ** (DENSITY - 2)
    per_tensor = None
    if settings.steps is not None:
        per_tensor = {
            name: np.int32(round(2**DENSITY * np.log2(step)) + qp)
            for name, step in settings.steps.items()
        }
    return nnc.compress(
        arrays,
        bitstream_path=None,
        qp=qp,
        qp_density=DENSITY,
        nonweight_qp=settings.vector_qp * finer,
        qp_per_tensor=per_tensor,
        use_dq=True,
        opt_qp=settings.opt_qp and per_tensor is None,
        lambda_scale=settings.lambda_scale,
        return_bitstream=True,
        verbose=False,
    )


def largest_within(
    arrays: dict[str, np.ndarray], target: int, settings: Settings, sizes: dict[int, int]
) -> tuple[int, bytes]:
    """The finest coding within `target` bytes: (qp, bitstream); `sizes` remembers qp -> bytes.

    Walks by the slope of high rates (one qp is 1/64 bit per weight) and stops within 0.1 %.
    """
    slope = sum(array.size for array in arrays.values()) / (8 << DENSITY)  # bytes per qp
    low, high = (-1000, 0) if settings.steps is None else (-500, 500)  # too large, small enough
    qp = min(sizes, key=lambda q: abs(sizes[q] - target)) if sizes else (low + high) // 2 + 60
    while high - low > 1:
        if qp not in sizes:
            sizes[qp] = len(encode(arrays, qp, settings))
        low, high = (low, qp) if sizes[qp] <= target else (qp, high)
        if 0 <= target - sizes[qp] <= CLOSE * target:
            break
        qp = min(max(qp + math.ceil((sizes[qp] - target) / slope), low + 1), high - 1)
    return high, encode(arrays, high, settings)


def main(request_path: str) -> None:
    """Answer one request."""
    request = json.loads(Path(request_path).read_text())
    settings = Settings(**request["settings"])
    with np.load(request["arrays"]) as loaded:
        arrays = {name: np.ascontiguousarray(loaded[name]) for name in loaded.files}
    folder = Path(request["folder"])
    sizes: dict[int, int] = {}
    for index, target in enumerate(request["targets"]):
        qp, stream = largest_within(arrays, target, settings, sizes)
        path = folder / f"{index}.nnc"
        path.write_bytes(stream)
        decoded = nnc.decompress(str(path))
        np.savez(folder / f"{index}.npz", **decoded)
        print(json.dumps({"bytes": path.stat().st_size, "qp": qp}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
