"""Runs in .venv-nncf: NNCF's post-training quantization of an ONNX file, through OpenVINO.

``python nncf_worker.py REQUEST.json`` where the request has: `original` (the ONNX file),
`examples` (npz of arrays named ``number.input``), `preset` (``performance``, ``mixed`` or null),
`transformer` (whether NNCF is told so) and `to` (the .xml that is written, its .bin beside it).
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import nncf
import numpy as np
import openvino


def examples(path: str) -> list[dict[str, np.ndarray]]:
    """Inputs by name, example by example in the order of their numbers."""
    found: dict[int, dict[str, np.ndarray]] = defaultdict(dict)
    with np.load(path) as loaded:
        for key in loaded.files:
            number, _, name = key.partition(".")
            found[int(number)][name] = loaded[key]
    return [found[number] for number in sorted(found)]


def main(request_path: str) -> None:
    """Answer one request; floats that are left stay float32."""
    request = json.loads(Path(request_path).read_text())
    calibration = examples(request["examples"])
    quantized = nncf.quantize(
        openvino.Core().read_model(request["original"]),
        nncf.Dataset(calibration),
        preset=nncf.QuantizationPreset(request["preset"]) if request["preset"] else None,
        model_type=nncf.ModelType.TRANSFORMER if request["transformer"] else None,
        subset_size=len(calibration),
    )
    openvino.save_model(quantized, request["to"], compress_to_fp16=False)


if __name__ == "__main__":
    main(sys.argv[1])
