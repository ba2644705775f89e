"""What this machine is and what its runtimes can do."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil

from lilliput.errors import InputError, MissingExtraError

_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "onnx-ir", "numpy", "scipy")
RuntimeName = Literal["onnxruntime", "openvino"]  # the package that opens the artifact
RUNTIME_TITLES: dict[str, str] = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "pytorch": "PyTorch",
}
RUNTIMES: tuple[RuntimeName, ...] = ("onnxruntime", "openvino")
_NAMED = (*RUNTIMES, "executorch", "ai-edge-litert")
_FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "amx_int8": ("amx_int8",),
    "avx512_bf16": ("avx512_bf16",),
    "neon": ("asimd", "neon"),
    "neon_dot": ("asimddp",),
    "neon_i8mm": ("i8mm",),
}
Int8 = Literal["amx", "avx512_vnni", "avx_vnni", "neon_dotprod", "none"]
_INT8: tuple[tuple[Int8, frozenset[str]], ...] = (
    ("amx", frozenset({"amx_int8"})),
    ("avx512_vnni", frozenset({"avx512_vnni"})),
    ("avx_vnni", frozenset({"avx_vnni"})),
    ("neon_dotprod", frozenset({"neon_dot", "neon_i8mm"})),
)


def package_version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Lilliput, Python and the packages that decide about the bytes of an artifact."""
    found = {"lilliput": package_version("lilliput") or "source"}
    found["python"] = platform.python_version()
    return found | {name: v for name in _PACKAGES if (v := package_version(name)) is not None}


def installed_runtimes() -> tuple[RuntimeName, ...]:
    """Runtimes that can open an artifact here, ONNX Runtime first."""
    return tuple(name for name in RUNTIMES if package_version(name) is not None)


def require_runtime(name: str) -> None:
    """Refuses a runtime that cannot be used, before anything else is done.

    Raises:
        InputError: There is no such runtime.
        MissingExtraError: It is not installed.
    """
    if name not in RUNTIMES:
        raise InputError(f"there is no runtime {name!r}", f"one of {', '.join(RUNTIMES)}")
    if package_version(name) is None:
        raise MissingExtraError(
            f"{RUNTIME_TITLES[name]} is not installed", f"pip install lilliput[{name}]"
        )


def cores() -> int:
    """Physical cores this process may use: the runtime's own default for its threads."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))


def cpu_features() -> tuple[str, ...]:
    """Instruction sets that matter to compressed models; empty where the system does not tell."""
    flags = _linux_flags() | _mac_flags()
    return tuple(name for name, words in _FEATURES.items() if flags & set(words))


def int8_arithmetic(features: Iterable[str] | None = None) -> Int8:
    """The fastest products of 8-bit integers that a processor has in hardware.

    Args:
        features: Its instruction sets; by default the `cpu_features` of this one.

    Returns:
        ``amx``, ``avx512_vnni``, ``avx_vnni`` or ``neon_dotprod``; ``none`` where they are emulated
        or where the system does not tell.
    """
    known = set(cpu_features() if features is None else features)
    return next((name for name, words in _INT8 if known & words), "none")


def environment() -> dict[str, str]:
    """Machine, system and versions in words, for reports. No paths and no host name."""
    machine = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cpu_features": " ".join(cpu_features()),
        "int8_arithmetic": int8_arithmetic(),
        "cores": str(cores()),
        "ram_bytes": str(psutil.virtual_memory().total),
    }
    others = {name: v for name in RUNTIMES if (v := package_version(name)) is not None}
    return machine | versions() | others


def fingerprint(**more: object) -> str:
    """SHA-256 over what decides about times here: processor, cores, versions, and what is given.

    Args:
        more: Further facts, as JSON can hold them.
    """
    facts = environment() | {"runtimes": {name: package_version(name) for name in RUNTIMES}} | more
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder() -> Path:
    """Where measurements of this machine are kept; safe to delete at any time.

    ``LILLIPUT_CACHE`` moves it; else it is the system's place for caches of this user.
    """
    if os.environ.get("LILLIPUT_CACHE"):
        return Path(os.environ["LILLIPUT_CACHE"])
    places = {"Darwin": "~/Library/Caches", "Windows": os.environ.get("LOCALAPPDATA", "~")}
    base = places.get(platform.system(), os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(base).expanduser() / "lilliput"


def diagnosis() -> dict[str, Any]:
    """What `lilliput doctor` prints: machine, runtimes, which arithmetic is worth asking for."""
    features = set(cpu_features())
    return {
        "machine": environment(),
        "memory": {
            "total_bytes": psutil.virtual_memory().total,
            "available_bytes": psutil.virtual_memory().available,
        },
        "cpu_features": {name: name in features for name in _FEATURES},
        "runtimes": {name: package_version(name) for name in _NAMED},
        "arithmetic": {
            "float32": "exact dequantized weights, as fast as the original",
            "int8": _int8_advice(features),
        },
        "int8_arithmetic": int8_arithmetic(),
        "advice": _advice(features),
    }


def _int8_advice(features: set[str]) -> str:
    if int8_arithmetic() != "none":
        return "integer matrix products in hardware: four times the multiply-adds of float32"
    if "avx2" in features:
        return "emulated with 16-bit sums, so weights get 7 bits: saves memory, hardly any time"
    return "unknown processor: measure before relying on it"


def int8_saturates() -> bool:
    """Whether sums of two uint8 x int8 products overflow 16 bits here: x86 without VNNI.

    Then weights must have 7 bits.
    """
    return "avx2" in cpu_features() and int8_arithmetic() == "none"


def _advice(features: set[str]) -> list[str]:
    advice = []
    if int8_saturates():
        advice.append("uint8 x int8 products saturate on this processor: use 7-bit weights")
    if sys.maxsize < 2**32:
        advice.append("a 32-bit Python cannot hold larger models")
    return advice


def _linux_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    for line in path.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _mac_flags() -> set[str]:
    """Every Apple processor of the arm64 family has NEON with dot products."""
    arm = platform.system() == "Darwin" and platform.machine() == "arm64"
    return {"asimd", "asimddp"} if arm else set()


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
