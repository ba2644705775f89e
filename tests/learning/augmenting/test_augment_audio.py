"""What augmentations do to sounds: by formula, and on spoken prompts."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from lilliput.learning.augmenting.policy import Policy

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")


def through(text, inputs, seed=0):
    return Policy.parse(text)(inputs, generator=torch.Generator().manual_seed(seed)).inputs


@pytest.fixture
def waves():
    return torch.randn(200, 64, generator=torch.Generator().manual_seed(2))


def test_a_gain_is_one_factor_within_its_decibels(waves):
    factors = through("gain(decibels=6)", waves) / waves  # (N, T)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)
    decibels = 20 * factors[:, 0].log10()
    assert -6 <= decibels.min() < -5 and 5 < decibels.max() <= 6


def test_a_shift_moves_by_whole_samples_and_lets_silence_in(waves):
    found = through("shift(share=0.25)", waves)
    steps = set()
    for before, after in zip(waves, found, strict=True):
        moved = [
            step
            for step in range(-16, 17)
            if torch.equal(
                after[max(0, step) : 64 + min(0, step)], before[max(0, -step) :][: 64 - abs(step)]
            )
            and (after != 0).sum() == 64 - abs(step)
        ]
        assert len(moved) == 1
        steps |= set(moved)
    assert min(steps) < -12 and max(steps) > 12
    assert torch.equal(through("shift(share=0.25)", waves[:, None])[:, 0], found)


@pytest.mark.parametrize("decibels", [0, 20])
def test_noise_has_the_ratio_asked_for_whatever_the_scale(decibels):
    clock = torch.linspace(0, 60, 4000)
    tones = torch.stack([0.01 * clock.sin(), 300 * (3 * clock).sin() + 5])
    noise = through(f"noise(decibels={decibels})", tones) - tones
    ratios = 20 * (tones.std(1) / noise.std(1)).log10()
    assert torch.allclose(ratios, torch.full((2,), float(decibels)), atol=0.3)
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.1
    flat = torch.full((2, 50), 3.0)
    assert torch.equal(through("noise", flat), flat)


def test_masks_are_bands_of_the_mean(waves):
    spectrograms = torch.rand(200, 20, 30, generator=torch.Generator().manual_seed(4))
    for name, axis in (("mask_frequency", 2), ("mask_time", 1)):
        found = through(f"{name}(count=1, share=0.5)", spectrograms)
        struck = (found != spectrograms).all(axis)  # (N, F) or (N, T)
        size = struck.shape[1]
        assert torch.equal(
            found[~struck.unsqueeze(axis).expand_as(found)],
            spectrograms[~struck.unsqueeze(axis).expand_as(found)],
        )
        edges = (struck[:, 1:] != struck[:, :-1]).sum(1)
        assert edges.max() <= 2 and struck.sum(1).max() <= size // 2 < struck.sum(1).max() + 3
        means = spectrograms.mean((1, 2))
        for row in struck.any(1).nonzero()[:, 0]:
            values = found[row][struck[row]] if axis == 2 else found[row][:, struck[row]]
            assert torch.allclose(values, means[row].expand_as(values))
    assert (through("mask_time(count=1, share=0.5)", waves) != waves).sum(1).max() > 20


def prompts(count, length=8000):
    """Spoken prompts of a second: (count, length), 8 kHz."""
    found = []
    for path in sorted(SOUNDS.glob("*.wav")):
        with wave.open(str(path)) as opened:
            said = np.frombuffer(opened.readframes(opened.getnframes()), "<i2") / 32768
        if len(said) >= length:
            found.append(torch.from_numpy(said[:length].astype(np.float32)))
        if len(found) == count:
            return torch.stack(found)
    raise AssertionError("too few prompts")


@pytest.mark.skipif(not SOUNDS.exists(), reason="a Debian package")
def test_spoken_prompts_stay_recognisable():
    """The spectrum of an augmented prompt is still nearest to that of the prompt itself."""
    said = prompts(40)
    text = "gain, shift(share=0.05), noise(decibels=20), mask_time(share=0.05)"
    changed = through(text, said)
    assert changed.shape == said.shape and torch.isfinite(changed).all()
    assert (changed != said).float().mean() > 0.9

    def prints(waves):
        parts = torch.stft(waves, 256, window=torch.hann_window(256), return_complex=True).abs()
        return torch.nn.functional.normalize(parts.mean(2).sqrt(), dim=1)  # (N, 129)

    def found(waves):
        nearest = (prints(waves) @ prints(said).T).argmax(1)
        return float((nearest == torch.arange(40)).float().mean())

    assert found(changed) > 0.8  # one in forty by chance
    assert found(through("noise(decibels=0)", said)) < 0.5
    spectrograms = torch.stft(said, 256, window=torch.hann_window(256), return_complex=True).abs()
    masked = through("mask_frequency, mask_time", spectrograms)
    assert 0.05 < (masked != spectrograms).float().mean() < 0.6
