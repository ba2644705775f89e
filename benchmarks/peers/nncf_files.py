"""NNCF's int8 files: its post-training quantization, run in its own environment.

Kozlov et al., "Neural Network Compression Framework", arXiv 2002.08679. The worker is handed the
original ONNX file and calibration examples and writes OpenVINO's own format, which no other runtime
opens.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-nncf/bin/python"
WORKER = Path(__file__).with_name("nncf_worker.py")


def nncf_file(
    original: Path,
    path: Path,
    *,
    examples: Sequence[Mapping[str, Tensor]],
    preset: str | None = None,
    transformer: bool = False,
) -> None:
    """`nncf.quantize` with its stock settings; `path` is an .xml, and its .bin lies beside it.

    Args:
        original: The ONNX file.
        path: Where to write.
        examples: Inputs by name, without the dimension of the batch.
        preset: ``performance`` (symmetric inputs) or ``mixed`` (asymmetric); None is NNCF's choice.
        transformer: Tell NNCF that the model is one.

    Raises:
        FileNotFoundError: The environment of NNCF is not built.
        subprocess.CalledProcessError: NNCF failed.
    """
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is missing: run `sh benchmarks/setup.sh`")
    arrays = {
        f"{number}.{name}": value[None].numpy()
        for number, one in enumerate(examples)
        for name, value in one.items()
    }
    np.savez(path.with_suffix(".npz"), **arrays)
    request = {
        "original": str(original),
        "examples": str(path.with_suffix(".npz")),
        "preset": preset,
        "transformer": transformer,
        "to": str(path),
    }
    path.with_suffix(".json").write_text(json.dumps(request))
    command = [str(PYTHON), str(WORKER), str(path.with_suffix(".json"))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
