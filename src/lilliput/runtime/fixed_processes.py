"""What stands outside of an integer artifact: numbers become integers, integers become numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lilliput.environment import RuntimeName
from lilliput.records import Artifact, FixedPort
from lilliput.runtime.processes import Worker
from lilliput.tensor.fixed import rounded


class FixedWorker(Worker):
    """A fresh process with an integer artifact; this side converts, as firmware would.

    Inputs are rounded and outputs scaled outside of the file and outside of the measured time.

    Args:
        path: ONNX file.
        manifest: Says which inputs and outputs are integers, and with which exponents.
        threads: As for `Worker`.
        timeout: As for `Worker`.
        runtime: As for `Worker`.
    """

    def __init__(
        self,
        path: Path,
        *,
        manifest: Artifact,
        threads: int = 0,
        timeout: float = 600,
        runtime: RuntimeName = "onnxruntime",
    ) -> None:
        self._manifest = manifest
        super().__init__(path, threads=threads, timeout=timeout, runtime=runtime)
        self.precision = "integers"

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All outputs of one batch as numbers."""
        return from_integers(super().run(to_integers(arrays, self._manifest)), self._manifest)

    def milliseconds(self, arrays: Sequence[np.ndarray], calls: int) -> list[float]:
        """Latency of the artifact itself, without the conversion."""
        return super().milliseconds(to_integers(arrays, self._manifest), calls)


def open_worker(path: Path, manifest: Artifact, **settings: int | float | str) -> Worker:
    """A process with the runnable file of an artifact that is a graph.

    Args:
        path: The file.
        manifest: Of the artifact.
        settings: As for `Worker`.
    """
    if manifest.fixed:
        return FixedWorker(path, manifest=manifest, **settings)  # type: ignore[arg-type]
    return Worker(path, **settings)  # type: ignore[arg-type]


def to_integers(arrays: Sequence[np.ndarray], manifest: Artifact) -> list[np.ndarray]:
    """Inputs as the artifact takes them: ``floor(value * 2**exponent + 1/2)``, clipped."""
    ports = _ports(manifest)
    return [
        _coded(array, ports[name]) if name in ports else array
        for name, array in zip(manifest.inputs, arrays, strict=True)
    ]


def from_integers(arrays: Sequence[np.ndarray], manifest: Artifact) -> list[np.ndarray]:
    """Outputs as numbers: ``integer * 2**-exponent``, float32."""
    ports = _ports(manifest)
    return [
        np.ldexp(array.astype(np.float32), -ports[name].exponent) if name in ports else array
        for name, array in zip(manifest.outputs, arrays, strict=True)
    ]


def _coded(array: np.ndarray, port: FixedPort) -> np.ndarray:
    limits = np.iinfo(port.type)
    codes = rounded(np.ldexp(array.astype(np.float64), port.exponent))
    return codes.clip(limits.min, limits.max).astype(port.type)


def _ports(manifest: Artifact) -> dict[str, FixedPort]:
    return {port.name: port for port in manifest.fixed}
