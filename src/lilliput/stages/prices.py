"""Coefficients per kind of kernel and kind of site that explain what whole files took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lilliput.model.sites import Site
from lilliput.record import Record
from lilliput.stages.option_table import Candidate
from lilliput.tensor.nonnegative import near_prior

WIDTHS = (2, 4, 8, 16, 32)  # bits that a weight takes in a runnable file
Variant = dict[str, Candidate]


class Prices(Record):
    """The fitted model.

    Attributes:
        original_ms: Median call of the original.
        original_bytes: Bytes resident while the original runs.
        rest_ms: Time of everything that is no site.
        rest_bytes: Bytes resident that no site accounts for.
        site_ms: Time of each site in the original.
        factors: Kernel and kind of site -> (factor on the site's time, milliseconds on top).
        weights: Kernel -> bytes resident per weight.
        variants: How many files were measured.
        error: Root mean square of predicted over measured latency, less 1, over the variants.
    """

    original_ms: float
    original_bytes: float
    rest_ms: float
    rest_bytes: float
    site_ms: dict[str, float]
    site_kinds: dict[str, str]
    site_weights: dict[str, int]
    factors: dict[str, tuple[float, float]]
    weights: dict[str, float]
    variants: int
    error: float

    @property
    def rest(self) -> tuple[float, float]:
        """Bytes and milliseconds of everything that is no site."""
        return self.rest_bytes, self.rest_ms

    def of(self, where: str, candidate: Candidate) -> tuple[float, float]:
        """Bytes and milliseconds of a site that became this."""
        size = self.site_weights[where]
        kernel = kernel_of(candidate, size)
        work = candidate.option.work
        factor, constant = self.factors[f"{kernel} {self.site_kinds[where]}"]
        milliseconds = factor * work * self.site_ms[where] + constant
        return self.weights[kernel] * work * size, milliseconds


def kernel_of(candidate: Candidate, weights: int) -> str:
    """Technique and width of what the runtime computes with, e.g. ``quantize_round@8``.

    Options of a technique that run otherwise are told apart: ``quantize_static/outliers@8``.
    """
    option = candidate.option
    bits = 8 * option.installed / max(1.0, weights * option.work)
    width = min(WIDTHS, key=lambda known: abs(known - bits))
    kernel = f"{candidate.name}/{option.kernel}" if option.kernel else candidate.name
    return f"{kernel}@{width}"


def site_kind(site: Site) -> str:
    """Sites whose kernels are alike: depthwise convolutions are not like others."""
    depthwise = site.groups > 1 and site.groups == site.rows
    return "depthwise" if depthwise else site.kind


@dataclass(frozen=True)
class Original:
    """Milliseconds and bytes of the original, and its time by site.

    Attributes:
        ms: Median call.
        bytes: Resident while it runs.
        rest_ms: Time of everything that is no site.
        site_ms: Time of each site.
    """

    ms: float
    bytes: float
    rest_ms: float
    site_ms: Mapping[str, float]


def fitted(
    sites: Mapping[str, Site],
    original: Original,
    *,
    variants: Sequence[Variant],
    measured: np.ndarray,
) -> Prices:
    """The model that explains the variants.

    Args:
        sites: By name.
        original: What was measured of it.
        variants: What became of each site in each file.
        measured: (variants, 2): bytes resident, and latency as a share of the original's.
    """
    kinds = {name: site_kind(site) for name, site in sites.items()}
    wanted = measured[:, 1] * original.ms - original.rest_ms
    uses = [
        {
            n: (kernel_of(c, sites[n].size), c.option.work, original.site_ms[n])
            for n, c in variant.items()
        }
        for variant in variants
    ]
    factors, predicted = _latency(uses, kinds, wanted)
    memory = _memory(uses, {n: site.size for n, site in sites.items()}, measured[:, 0])
    ratio = (predicted + original.rest_ms) / (wanted + original.rest_ms)
    return Prices(
        original_ms=original.ms,
        original_bytes=original.bytes,
        rest_ms=original.rest_ms,
        rest_bytes=memory.pop(""),
        site_ms=dict(original.site_ms),
        site_kinds=kinds,
        site_weights={n: site.size for n, site in sites.items()},
        factors=factors,
        weights=memory,
        variants=len(variants),
        error=float(np.sqrt(np.mean(np.square(ratio - 1)))),
    )


_Uses = Sequence[Mapping[str, tuple[str, float, float]]]  # site -> kernel, work, milliseconds


def _latency(
    uses: _Uses, kinds: Mapping[str, str], wanted: np.ndarray
) -> tuple[dict[str, tuple[float, float]], np.ndarray]:
    """A factor and a constant per kernel and kind of site; and what they predict of `wanted`."""
    keys = sorted({f"{use[0]} {kinds[n]}" for variant in uses for n, use in variant.items()})
    place = {key: number for number, key in enumerate(keys)}
    design = np.zeros((len(uses), 2 * len(keys)))
    for row, variant in enumerate(uses):
        for name, (kernel, work, milliseconds) in variant.items():
            column = place[f"{kernel} {kinds[name]}"]
            design[row, column] += work * milliseconds
            design[row, len(keys) + column] += 1
    # Before anything is known of kinds of sites, a file's ratio holds for all its sites.
    whole = np.maximum(wanted, 0) / np.maximum(design[:, : len(keys)].sum(1), 1e-9)
    share = design[:, : len(keys)] / np.maximum(design[:, : len(keys)].sum(1, keepdims=True), 1e-9)
    prior = (share**2 * whole[:, None]).sum(0) / np.maximum((share**2).sum(0), 1e-9)
    found = near_prior(design, wanted, prior=np.concatenate([prior, np.zeros(len(keys))]))
    fitted = {key: (float(found[n]), float(found[len(keys) + n])) for key, n in place.items()}
    return fitted, design @ found


def _memory(uses: _Uses, sizes: Mapping[str, int], wanted: np.ndarray) -> dict[str, float]:
    """Bytes per weight of each kernel, and under the empty name what no site accounts for."""
    kernels = sorted({use[0] for variant in uses for use in variant.values()})
    design = np.ones((len(uses), len(kernels) + 1))
    for row, variant in enumerate(uses):
        for column, kernel in enumerate(kernels):
            own = [sizes[n] * use[1] for n, use in variant.items() if use[0] == kernel]
            design[row, column] = sum(own)
    prior = np.array([*(int(kernel.rpartition("@")[2]) / 8 for kernel in kernels), 0.0])
    found = near_prior(design, wanted, prior=prior, strength=1e-3)
    return {kernel: float(value) for kernel, value in zip([*kernels, ""], found, strict=True)}
