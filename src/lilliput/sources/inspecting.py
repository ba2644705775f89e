"""What a file is, read off its first bytes and its table of contents. Nothing is unpickled."""

import json
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from lilliput.errors import InputError

FileKind = Literal[
    "state dict", "pickled module", "TorchScript", "exported program", "ONNX", "safetensors",
    "Hugging Face folder", "arrays", "packed model", "output folder", "image folder",
    "task file", "texts", "plan", "unsupported", "unknown",
]  # fmt: skip

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
PACKED_MAGIC = b"\x89LLP\r\n\x1a\n"  # coding/header.py, a floor above; a test compares them
LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f920")
STATE_MODULES = ("collections", "torch", "torch._utils", "torch.storage", "numpy", "_codecs")
LARGEST_PICKLE = 64 * 2**20
LARGEST_HEADER = 100_000_000  # as the safetensors format itself
FOREIGN = {
    b"GGUF": "GGUF (llama.cpp)",
    b"\x89HDF": "HDF5 (Keras)",
    b"RIFF": "a sound or image file",
}


@dataclass(frozen=True)
class FileInfo:
    """What a file is.

    Attributes:
        kind: One of a closed set.
        details: What was found in it, in one line.
        next_command: The command that comes next, with placeholders in capitals; may be empty.
    """

    kind: FileKind
    details: str
    next_command: str


def inspect_file(path: str | Path) -> FileInfo:
    """Say what a file or folder is and which command comes next.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        return _folder(place)
    try:
        with place.open("rb") as opened:
            head = opened.read(64)
        return _file(place, head)
    except OSError as error:
        raise InputError(
            f"{place} cannot be read: {error.strerror or error}", "is the path right?"
        ) from error


def _file(path: Path, head: bytes) -> FileInfo:
    if head.startswith(PACKED_MAGIC):
        return FileInfo("packed model", _size(path), f"lilliput unpack {quote(str(path))} FOLDER")
    if head.startswith(b"PK"):
        return _archive(path)
    for magic, words in FOREIGN.items():
        if head.startswith(magic):
            return FileInfo("unsupported", words, "")
    if head[4:8] == b"TFL3":
        return FileInfo("unsupported", "TensorFlow Lite", "")
    if _is_safetensors(path, head):
        return _safetensors(path)
    if head.startswith(LEGACY_TORCH):
        return _legacy(path)
    if head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return _pickled(path, path.read_bytes() if _small(path) else b"", "")
    return _by_suffix(path)


def _by_suffix(path: Path) -> FileInfo:
    """Files without magic bytes of their own."""
    kinds: dict[str, Callable[[Path], FileInfo]] = {
        ".onnx": _onnx,
        ".py": _python,
        ".txt": _text,
        ".tsv": _text,
        ".toml": lambda p: FileInfo("plan", "TOML", f"lilliput apply {quote(str(p))} TASK"),
    }
    make = kinds.get(path.suffix.lower())
    return make(path) if make else FileInfo("unknown", _size(path), "")


def _archive(path: Path) -> FileInfo:
    """A zip file: torch's formats and NumPy's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
            data = next((n for n in archive.namelist() if n.split("/", 1)[-1] == "data.pkl"), None)
            if "constants.pkl" in names or any(name.startswith("code/") for name in names):
                return FileInfo("TorchScript", f"{_count(names)} tensors", _FROM_CODE)
            if "archive_format" in names or "serialized_exported_program.json" in names:
                return FileInfo("exported program", "torch.export (.pt2)", _FROM_CODE)
            if data and archive.getinfo(data).file_size <= LARGEST_PICKLE:
                return _pickled(path, archive.read(data), f"{_count(names)} tensors, ")
            if all(name.endswith(".npy") for name in names):
                shown = ", ".join(name.removesuffix(".npy") for name in names)
                command = f"lilliput compress model.py:build --data {quote(str(path))}"
                return FileInfo("arrays", f"NumPy arrays {shown}", command)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        return FileInfo("unknown", f"a damaged zip file: {error}", "")
    return FileInfo("unknown", "a zip file that holds no model", "")


def pickled_names(data: bytes) -> list[str]:
    """The classes and functions a pickle would import, ``module.name``, read without running it.

    Raises:
        ValueError: Not a pickle.
    """
    names: list[str] = []
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST"):
            names.append(str(argument).replace(" ", ".", 1))
        elif opcode.name == "STACK_GLOBAL":
            names.append(".".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return names


def foreign_names(names: list[str]) -> list[str]:
    """Those that a plain state dict does not need: classes of a pickled module."""
    return [name for name in names if name.rpartition(".")[0] not in STATE_MODULES]


def _pickled(path: Path, data: bytes, details: str) -> FileInfo:
    try:
        foreign = foreign_names(pickled_names(data))
    except ValueError as error:
        return FileInfo("unknown", f"a damaged pickle: {error}", "")
    if not foreign:
        return FileInfo("state dict", f"{details}{_size(path)}", _with_weights(path))
    shown = f"{details}classes such as {foreign[0]}; opening it would run code"
    return FileInfo("pickled module", shown, CONVERT.format(path=path))


def _legacy(path: Path) -> FileInfo:
    """Torch's format before 1.6: a row of pickles, of which the fourth is the object."""
    if not _small(path):
        return FileInfo("state dict", f"torch's old format, {_size(path)}", _with_weights(path))
    data = path.read_bytes()
    start = 0
    try:
        for _ in range(3):
            start += 1 + max(place or 0 for _, _, place in pickletools.genops(data[start:]))
    except ValueError as error:
        return FileInfo("unknown", f"a damaged pickle: {error}", "")
    return _pickled(path, data[start:], "torch's old format, ")


def _is_safetensors(path: Path, head: bytes) -> bool:
    length = int.from_bytes(head[:8], "little")
    most = min(path.stat().st_size - 8, LARGEST_HEADER)
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= most


def _safetensors(path: Path) -> FileInfo:
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            header = json.loads(opened.read(length))
        except (ValueError, RecursionError) as error:
            return FileInfo("unknown", f"damaged safetensors: {error}", "")
    tensors = len(header) - ("__metadata__" in header)
    return FileInfo("safetensors", f"{tensors} tensors, {_size(path)}", _with_weights(path))


def _onnx(path: Path) -> FileInfo:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError:
        return FileInfo("unknown", "its name ends in .onnx, but it is not an ONNX file", "")
    if not model.graph.node:
        return FileInfo("unknown", "an ONNX file without a graph", "")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = ", ".join(value.name for value in model.graph.input if value.name not in weights)
    details = f"{len(model.graph.node)} nodes, inputs {inputs}, {_size(path)}"
    command = f"lilliput compress {quote(str(path))} --data INPUTS.npz --out OUT"
    return FileInfo("ONNX", details, command)


def _python(path: Path) -> FileInfo:
    source = path.read_text(encoding="utf-8", errors="replace")
    if "task" in source and "Task(" in source:
        return FileInfo("task file", "Python", f"lilliput compress {quote(str(path))}")
    return FileInfo(
        "unknown", "Python", f"lilliput compress {quote(str(path))}:CLASS --weights NET.pt"
    )


def _text(path: Path) -> FileInfo:
    with path.open(encoding="utf-8", errors="replace") as opened:
        lines = sum(1 for line in opened if line.strip())
    command = f"lilliput compress HF_FOLDER --texts {quote(str(path))}"
    return FileInfo("texts", f"{lines} lines", command)


def _folder(path: Path) -> FileInfo:
    names = {entry.name for entry in path.iterdir()}
    if "manifest.json" in names and "model.onnx" in names:
        return FileInfo(
            "output folder", "written by Lilliput", f"lilliput verify {quote(str(path))}"
        )
    if "config.json" in names:
        command = f"lilliput compress {quote(str(path))} --texts TEXTS.txt"
        return FileInfo("Hugging Face folder", _architecture(path), command)
    images = [p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        labels = len({p.parent for p in images})
        details = f"{len(images)} images in {labels} folder(s)"
        command = f"lilliput compress NET.py:CLASS --weights NET.pt --images {quote(str(path))}"
        return FileInfo("image folder", details, command)
    return FileInfo("unknown", f"a folder of {len(names)} entries", "")


def _architecture(path: Path) -> str:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return ", ".join(config.get("architectures") or [config.get("model_type", "no type")])
    except (OSError, ValueError, AttributeError, TypeError):
        return "its config.json cannot be read"


def _with_weights(path: Path) -> str:
    return f"lilliput compress NET.py:CLASS --weights {quote(str(path))} --images PHOTOS/"


def _count(names: list[str]) -> int:
    return sum(name.startswith("data/") and name[5:].isdecimal() for name in names)


def _small(path: Path) -> bool:
    return path.stat().st_size <= LARGEST_PICKLE


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.3g} MB"


_FROM_CODE = "lilliput compress NET.py:CLASS --weights NET.pt"
CONVERT = (
    "where you trust the file: python -c \"import torch; torch.save(torch.load('{path}', "
    "weights_only=False).state_dict(), 'weights.pt')\""
)
