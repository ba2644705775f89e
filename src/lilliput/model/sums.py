"""Accumulators of one observation, and the moments that come out of them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lilliput.errors import TaskError
from lilliput.model.convolution import patch_rows, patches, thinning
from lilliput.model.gram import Gram
from lilliput.model.moments import Moments
from lilliput.model.positions import Positions
from lilliput.model.sites import Site
from lilliput.model.spread import Spread, nothing_seen
from lilliput.model.uses import Use


class Sums:
    """Sums per key; uses with the same key share one accumulator."""

    def __init__(
        self, sites: Mapping[str, Site], uses: Sequence[Use], *, most_positions: int
    ) -> None:
        self.sites = sites
        self.uses = uses
        self.most_positions = most_positions
        self.at: dict[str, list[Use]] = {}
        for use in uses:
            self.at.setdefault(use.where, []).append(use)
        self.grams: dict[Hashable, Gram] = {}
        self.lookups: dict[tuple[Hashable, int], Tensor] = {}
        self.spreads: dict[Hashable, Spread] = {}
        self.outputs: dict[str, Spread] = {}

    def count(self, use: Use, source: Tensor, weights: Tensor | None) -> None:
        """Adds what one use is applied to.

        Args:
            use: The use; of several with one key only the first may be counted in a batch.
            source: Its source: ids, a map, or a tensor with the inputs on `use.source_axes`.
            weights: How often each row counts, flattened; for a convolution per output position.

        Raises:
            TaskError: NaN or infinity flows into the site.
        """
        if use.operation == "embedding":
            self._look_up(use, source, weights)
            return
        if use.operation == "conv":
            self._convolve(use, source, weights)
        else:
            rows = use.inputs(source)
            self._gram(use, 1, rows.shape[-1]).add(rows.reshape(1, -1, rows.shape[-1]), weights)
        _check_finite(self.grams[use.key], f"flows into {use.site}")
        self._spread(use, source, weights)
        _check_finite(self.spreads[use.key], f"flows into {use.site}")

    def count_output(self, site: str, value: Tensor) -> None:
        """Adds what a convolution hands on: (N, channels, ...), behind BatchNorm and rectifier.

        Raises:
            TaskError: NaN or infinity comes out.
        """
        known = self.outputs.get(site, nothing_seen(value.shape[1]))
        self.outputs[site] = known.with_map(value)
        _check_finite(self.outputs[site], f"comes out of {site}")

    def _spread(self, use: Use, source: Tensor, weights: Tensor | None) -> None:
        """Extremes and histogram; of a convolution's map every value counts once."""
        if use.geometry is not None:
            channel = source.ndim - 1 - len(use.geometry.kernel)
            whole = source if channel else source[None]
            known = self.spreads.get(use.key, nothing_seen(whole.shape[1]))
            self.spreads[use.key] = known.with_map(whole)
            return
        rows = use.inputs(source)
        rows = rows.reshape(-1, rows.shape[-1])
        rows = rows if weights is None else rows[weights > 0]
        known = self.spreads.get(use.key, nothing_seen(rows.shape[-1]))
        self.spreads[use.key] = known.with_rows(rows)

    def _gram(self, use: Use, groups: int, columns: int) -> Gram:
        if use.key not in self.grams:
            self.grams[use.key] = Gram(groups, columns)
        return self.grams[use.key]

    def _look_up(self, use: Use, ids: Tensor, weights: Tensor | None) -> None:
        rows = self.sites[use.site].rows
        found = torch.bincount(
            ids.reshape(-1).cpu().remainder(rows),  # ONNX counts negative ids from the end
            weights=None if weights is None else weights.double(),
            minlength=rows,
        )
        known = self.lookups.setdefault((use.key, rows), torch.zeros(rows, dtype=torch.float64))
        known += found

    def _convolve(self, use: Use, source: Tensor, weights: Tensor | None) -> None:
        if use.geometry is None:
            raise ValueError(f"{use.where} has no geometry")
        view = patches(source, use.geometry)
        dims = len(use.geometry.kernel)
        step = thinning(view.shape[1 : 1 + dims], self.most_positions)
        thin = (slice(None), *[slice(None, None, step)] * dims)
        if weights is not None:
            weights = weights.reshape(view.shape[: 1 + dims])[thin].reshape(-1)
        for rows, which in patch_rows(view[thin], use.geometry.groups):
            gram = self._gram(use, use.geometry.groups, rows.shape[-1])
            gram.add(rows, None if weights is None else weights[which])

    def moments(self) -> dict[str, Moments]:
        """What was gathered, per site. Ends the gathering: sums become float32 one at a time."""
        for gram in self.grams.values():
            gram.second = gram.second.float()
        return {name: self._moments_of(site) for name, site in self.sites.items()}

    def _moments_of(self, site: Site) -> Moments:
        uses = [use for use in self.uses if use.site == site.name]
        lookups = [self.lookups.get((use.key, site.rows)) for use in uses]
        known = [seen for seen in lookups if seen is not None]
        frequencies = torch.stack(known).sum(0) if known else None
        fed = [use for use in uses if use.key in self.grams]
        if not fed:
            return Moments(None, 0, frequencies=frequencies)
        if len(fed) == 1 and fed[0].row_index is None and fed[0].column_index is None:
            gram = self.grams[fed[0].key]
            mean = (gram.total / max(1.0, gram.count)).float()
            found = Moments(gram.second, round(gram.count), mean=mean, frequencies=frequencies)
            return replace(
                found, inputs=self.spreads.get(fed[0].key), results=self.outputs.get(site.name)
            )
        return self._merged(site, fed, frequencies)

    def _merged(self, site: Site, uses: Sequence[Use], frequencies: Tensor | None) -> Moments:
        """Adds up several uses, each in the groups and columns of the site that it reads."""
        columns = site.columns
        second = torch.zeros(site.groups, columns, columns)
        total = torch.zeros(site.groups, columns, dtype=torch.float64)
        counts = torch.zeros(site.groups, columns, dtype=torch.float64)
        for group in range(site.groups):
            seen: set[Hashable] = set()
            for use in uses:
                again = use.row_index is not None and use.key in seen
                if again or not _reads(use, group * site.rows // site.groups):
                    continue
                seen.add(use.key)
                gram = self.grams[use.key]
                own = min(group, gram.second.shape[0] - 1)
                index = torch.arange(columns) if use.column_index is None else use.column_index
                index = index.long()
                second[group].index_put_(
                    (index[:, None], index[None, :]), gram.second[own], accumulate=True
                )
                total[group, index] += gram.total[own]
                counts[group, index] += gram.count
        mean = (total / counts.clamp_min(1.0)).float()
        return Moments(second, round(float(counts.max())), mean=mean, frequencies=frequencies)


def _check_finite(seen: Gram | Spread, where: str) -> None:
    if not seen.finite:
        raise TaskError(
            f"NaN or infinity {where}", "check the calibration examples and the model's weights"
        )


def _reads(use: Use, row: int) -> bool:
    return use.row_index is None or bool((use.row_index == row).any())


def rows_of(use: Use, source: Tensor) -> tuple[int, ...]:
    """Sizes of the rows a use's weight is applied to, before they are flattened."""
    if use.operation == "embedding":
        return tuple(source.shape)
    if use.operation == "conv" and use.geometry is not None:
        return tuple(patches(source, use.geometry).shape[: 1 + len(use.geometry.kernel)])
    return tuple(use.inputs(source).shape[:-1])


def weights_of(use: Use, source: Tensor, positions: Positions | None) -> Tensor | None:
    """How often each row of a use's source counts; None means once each."""
    if positions is None:
        return None
    named = use.operation != "conv" and use.source_axes == (-1,)
    return positions.weights(rows_of(use, source), use.source if named else "")
