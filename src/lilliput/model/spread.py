"""How far the values that flow into a site, or out of it, reach."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lilliput.tensor.activations import Histogram, empty_histogram, merged, with_values

MOST_VALUES = 2**18  # of one batch that a histogram counts, evenly spread


@dataclass(frozen=True)
class Spread:
    """Extremes per channel, and a histogram of all channels together.

    Attributes:
        low: (channels,) smallest value, at most 0. Channels are the columns of a product, and the
            channels of a convolution's map.
        high: (channels,) largest value, at least 0.
        histogram: All values; of a large batch an evenly spread part.
        count: Rows that were seen, or maps.
    """

    low: Tensor
    high: Tensor
    histogram: Histogram
    count: int = 0

    @property
    def finite(self) -> bool:
        """Whether all values were; a histogram has no place for the others."""
        return bool(self.low.isfinite().all() and self.high.isfinite().all())

    def with_rows(self, rows: Tensor) -> "Spread":
        """With more rows, (N, channels), counted."""
        return self._with(rows[:, :, None])

    def with_map(self, value: Tensor) -> "Spread":
        """With what a convolution reads or gives counted, (N, channels, ...)."""
        return self._with(value.flatten(2))

    def _with(self, parts: Tensor) -> "Spread":
        """With (N, channels, positions) counted."""
        if not parts.numel():
            return self
        low, high = parts.amin((0, 2)).float().cpu(), parts.amax((0, 2)).float().cpu()
        low, high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        reached = Spread(low, high, self.histogram, self.count + len(parts))
        if not reached.finite:
            return reached
        every = -(-parts.numel() // MOST_VALUES)
        some = parts[::every] if parts.shape[2] == 1 else parts[:, :, ::every]
        seen = with_values(self.histogram, some)
        ends = min(seen.low, float(low.min())), max(seen.high, float(high.max()))
        return replace(reached, histogram=replace(seen, low=ends[0], high=ends[1]))

    def joined(self, other: "Spread") -> "Spread":
        """Both together, of the same channels."""
        return Spread(
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
            merged(self.histogram, other.histogram),
            self.count + other.count,
        )


def nothing_seen(channels: int) -> Spread:
    """Before the first row."""
    return Spread(torch.zeros(channels), torch.zeros(channels), empty_histogram())
