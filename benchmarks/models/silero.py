"""Silero voice activity detector at 16 kHz, 0.31 M weights with an LSTM: sound -> speech or not.

The package ships no module for its weights, so the network is written here after its TorchScript
form. Sound: the speech prompts of Debian's `asterisk-core-sounds-en-wav`, some to
calibrate and others to measure.
"""

import wave
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.models import Errors, Inputs, Subject, package_folder

CHUNK, CONTEXT, SAMPLES = 512, 64, 32_000  # samples; two seconds of sound
SOUNDS = Path("/usr/share/asterisk/sounds")
CALIBRATION, TEST = 128, 128  # clips


class SoundsMissingError(RuntimeError):
    """The speech prompts are not installed."""


class Detector(nn.Module):
    """Short-time spectrum, four convolutions, an LSTM over the chunks, one logistic unit."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128, batch_first=True)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """(N, S) samples from -1 to 1, S a multiple of 512 -> (N, S / 512) logits of speech."""
        padded = nn.functional.pad(samples, (CONTEXT, 0))
        chunks = padded.unfold(1, CHUNK + CONTEXT, CHUNK)  # (N, T, 576)
        count, steps = chunks.shape[0], chunks.shape[1]
        flat = chunks.reshape(count * steps, 1, CHUNK + CONTEXT)
        spectrum = self.stft_conv(nn.functional.pad(flat, (0, CONTEXT), mode="reflect"))
        real, imaginary = spectrum[:, :129], spectrum[:, 129:]
        hidden = (real.square() + imaginary.square()).sqrt()  # (N * T, 129, 4)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            hidden = torch.relu(conv(hidden))
        states, _ = self.lstm(hidden.reshape(count, steps, 128))  # (N, T, 128)
        return self.final_conv(torch.relu(states).transpose(1, 2))[:, 0]  # (N, T)


def network() -> Detector:
    """The detector with the package's weights."""
    state = load_file(package_folder("silero_vad") / "data/silero_vad_16k.safetensors")
    renamed = {
        name.replace("lstm_cell.", "lstm.") + ("_l0" if "lstm" in name else ""): value
        for name, value in state.items()
    }
    model = Detector()
    model.load_state_dict(renamed)
    return model.eval().requires_grad_(False)


def clip(path: Path) -> Tensor:
    """The first two seconds of a prompt at 16 kHz, (31744,), silence behind it."""
    with wave.open(str(path)) as file:
        rate, frames = file.getframerate(), file.readframes(file.getnframes())
    sound = torch.frombuffer(bytearray(frames), dtype=torch.int16).float()[None, None] / 32768
    sound = nn.functional.interpolate(sound, scale_factor=16_000 / rate, mode="linear")[0, 0]
    length = SAMPLES // CHUNK * CHUNK
    return nn.functional.pad(sound[:length], (0, max(0, length - len(sound))))


def draw(count: int, seed: int) -> Tensor:
    """`count` different prompts in an order drawn by `seed`, (count, 31744).

    Raises:
        SoundsMissingError: Their package is not installed.
    """
    found = sorted({path.resolve() for path in SOUNDS.glob("en*/**/*.wav")})
    if len(found) < count:
        hint = "apt-get install asterisk-core-sounds-en-wav"
        raise SoundsMissingError(f"{len(found)} speech prompts found, {count} needed: {hint}")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    return torch.stack([clip(found[i]) for i in order[:count].tolist()])


def batches(clips: Tensor, size: int = 32) -> tuple[Inputs, ...]:
    """Batches of (n, samples)."""
    return tuple({"samples": part} for part in clips.split(size))


def load(seed: int) -> Subject:
    """The detector with 128 prompts to calibrate and 128 others to measure.

    Raises:
        SoundsMissingError: The prompts are not installed.
    """
    model = network()
    clips = draw(CALIBRATION + TEST, seed)
    return Subject(
        name="silero",
        model=model,
        calibration=batches(clips[:CALIBRATION]),
        test=batches(clips[CALIBRATION:]),
        errors=disagreement,
        sites=tuple(
            name
            for name, value in model.named_parameters()
            if value.ndim > 1 and name != "final_conv.weight"
        ),
    )


def disagreement(reference: Tensor, changed: Tensor) -> Errors:
    """Mean difference of the probabilities of speech, and agreement at one half."""
    original, other = reference.sigmoid(), changed.sigmoid()
    agreement = ((original > 0.5) == (other > 0.5)).double().mean()
    return {"probability": float((original - other).abs().mean()), "agreement": float(agreement)}
