"""ONNX files out of real products, from the file to a verdict."""

import wave
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import lilliput
from graphs import weight
from lilliput.runs import Settings
from lilliput.stages.measure import Conditions

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
WORDS = ("Invoice 2041", "Total due", "page 7 of 12", "EXIT", "No. 55-B", "Platform 3", "$ 19.99")
QUICK = Settings(conditions=Conditions(seconds=0.2, threads=2))


def package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(found.origin).parent


def lines(width: int, count: int) -> np.ndarray:
    """Printed words on grey paper, every other one upside down, (N, 3, 48, width) in -1 to 1."""
    image, draw, font = (
        pytest.importorskip(f"PIL.{name}") for name in ("Image", "ImageDraw", "ImageFont")
    )
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        page = image.new("L", (width, 48), int(rng.integers(200, 256)))
        place = tuple(map(int, rng.integers(2, 10, 2)))
        type_face = font.load_default(size=int(rng.integers(18, 30)))
        text = f"{WORDS[number % 7]} {number}"
        draw.Draw(page).text(place, text, fill=int(rng.integers(0, 90)), font=type_face)
        pixels = np.asarray(page, np.float32) + rng.normal(0, 4, (48, width))
        found.append(pixels[::-1, ::-1] if number % 2 else pixels)
    return np.repeat((np.stack(found) / 127.5 - 1)[:, None], 3, 1).astype(np.float32)


def pages(count: int) -> np.ndarray:
    """Cuts of a printed page, normalised as the detector wants them, (N, 3, 128, 128)."""
    page = pytest.importorskip("skimage.data").page() / 255
    rng = np.random.default_rng(0)
    corners = [(rng.integers(0, s - 128) for s in page.shape) for _ in range(count)]
    cuts = np.stack([page[y : y + 128, x : x + 128] for y, x in corners])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    scaled = (cuts[:, None] - mean[:, None, None]) / std[:, None, None]
    return scaled.astype(np.float32)


def speech(count: int, length: int, rate: int) -> np.ndarray:
    """Pieces of spoken prompts, (N, length); noise that swells where there are none."""
    if not SOUNDS.exists():
        return weight(count, length) * np.linspace(0, 0.1, length, dtype=np.float32)
    found = []
    for path in sorted(SOUNDS.glob("*.wav")):
        with wave.open(str(path)) as opened:
            said = np.frombuffer(opened.readframes(opened.getnframes()), "<i2") / 32768
        places = np.arange(0, len(said), 8000 / rate)
        said = np.interp(places, np.arange(len(said)), said)
        if len(said) >= length:
            start = (len(said) - length) // 3
            found.append(said[start : start + length].astype(np.float32))
        if len(found) == count:
            break
    return np.stack(found)


def voice(count: int) -> list[dict[str, np.ndarray]]:
    sounds, states = speech(count, 576, 16_000), weight(count, 2, 128) * np.float32(0.3)
    rate = np.array(16_000)
    return [{"input": sounds[i], "state": states[i], "sr": rate} for i in range(count)]


PRODUCTS: dict[str, tuple[str, str, Callable[[], object]]] = {
    "orientation": (
        "rapidocr", "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", lambda: lines(192, 60),
    ),
    "detector": ("rapidocr", "models/PP-OCRv6_det_small.onnx", lambda: pages(24)),
    "recogniser": ("rapidocr", "models/PP-OCRv6_rec_small.onnx", lambda: lines(96, 24)),
    "notes": (
        "basic_pitch", "saved_models/icassp_2022/nmp.onnx",
        lambda: speech(16, 43_844, 22_050)[..., None],
    ),
    "voice": ("silero_vad", "data/silero_vad_16k_op15.onnx", lambda: voice(100)),
    "voice in branches": ("silero_vad", "data/silero_vad_op18_ifless.onnx", lambda: voice(60)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_compressed_to_a_third(name, tmp_path):
    owner, inner, inputs = PRODUCTS[name]
    file = package(owner) / inner
    task = lilliput.onnx_task(file, list(inputs()))
    out = tmp_path / "out"
    report = lilliput.compress(task, lilliput.Budget(storage="33%"), out=out, settings=QUICK)
    assert report.original.storage_bytes == file.stat().st_size
    assert report.artifact.storage_bytes <= 0.33 * file.stat().st_size
    assert report.verdict == "proved" and report.artifact.score > 0.99
    assert report.fidelity.decibels is None or report.fidelity.decibels > 60
    before, after = (onnxruntime.InferenceSession(p) for p in (file, out / "model.onnx"))
    assert [v.name for v in after.get_inputs()] == [v.name for v in before.get_inputs()]
    assert [v.name for v in after.get_outputs()] == [v.name for v in before.get_outputs()]
    words = [
        {p.key: p.value for p in onnx.load(p).metadata_props} for p in (file, out / "model.onnx")
    ]
    assert words[0] == words[1]
