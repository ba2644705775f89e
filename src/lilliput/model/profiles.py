"""What is known about every site before anything is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lilliput.model.moments import Moments
from lilliput.model.sites import Site
from lilliput.model.spread import Spread
from lilliput.tensor.allocation import Spectrum, spectrum, water_filling_bits
from lilliput.tensor.feedback import RowFactor, row_factor
from lilliput.tensor.grouped import ColumnOrder
from lilliput.tensor.low_rank import Products
from lilliput.tensor.second_order import inverse_factor, layer_damage, two_sided_damage

SMOOTHING = 2000.0  # pseudo-counts shared by the rows of an embedding
OUTPUT_SHRINKAGE = 0.3  # share of the diagonal in an output side: gradients are few and noisy
TEMPER = 0.5  # exponent of a token's frequency: the next text has others
SMALLEST_WORTH = 1e-3  # of the mean
WATER_FILLING_INPUTS = 2048
SMALLEST_FACTOR = 1e-4  # of the mean: a BatchNorm's factor below that is a dead channel


@dataclass(frozen=True)
class Folding:
    """What the export folds together, so that what is stored differs from the parameters.

    Attributes:
        row_factors: Site -> what its rows are multiplied with (a BatchNorm), (rows,).
        parameters: Names that are not in the file themselves; rounding them saves nothing.
    """

    row_factors: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()


NO_FOLDING = Folding()


@dataclass(frozen=True)
class SiteProfile:
    """One site under the one metric: ``damage = tr(G E H E^T)``, E what is lost of the weight.

    Attributes:
        site: The site.
        second: Column side H, (groups, columns, columns) float32; None without calibration data,
            and then every column counts the same.
        weights: Diagonal row side G, (rows,) float32, mean 1: what an error in a row costs where
            there is no whole row side. For an embedding the square root of how frequent a row is.
        output: The whole row side G, (rows, rows) float32; None where only its diagonal is known
            (an embedding, a convolution, a site without gradients, a very large one).
        inputs: How far its inputs reach; None where that is not known or not one thing.
        results: How far what a convolution hands on reaches, behind BatchNorm and rectifier, else
            None.
        frequencies: Smoothed probability of each row of an embedding, (rows,), else None.
        row_factors: What the export multiplies each row with (a folded BatchNorm), (rows,); the
            steps that are stored are the row steps times these.
        macs: Multiply-adds of one example.
        sensitivity: Divergence of the model's output per unit of damage, from one probe; None
            where it was not probed.
    """

    site: Site
    second: Tensor | None
    weights: Tensor
    frequencies: Tensor | None = None
    row_factors: Tensor | None = None
    macs: int | None = None
    sensitivity: float | None = None
    output: Tensor | None = None
    inputs: Spread | None = None
    results: Spread | None = None
    absorbed: bool = False

    @property
    def row_sizes(self) -> Tensor:
        """(rows,) sizes of what the export multiplies each row with; ones where it does not."""
        if self.row_factors is None:
            return torch.ones(self.site.rows)
        sizes = self.row_factors.abs()
        return sizes.clamp_min(SMALLEST_FACTOR * float(sizes.mean()) or 1.0)

    @property
    def row_side(self) -> Tensor:
        """G: whole, (rows, rows), where that is known, else its diagonal, (rows,)."""
        return self.weights if self.output is None else self.output

    def damage(self, weight: Tensor, replaced: Tensor) -> float:
        """What the replacement costs under the metric; without data the squared error.

        Args:
            weight: (rows, columns).
            replaced: (rows, columns).
        """
        return self.damage_of(weight, replaced, rows=slice(None))

    def damage_of(self, weight: Tensor, replaced: Tensor, *, rows: Tensor | slice) -> float:
        """The same for some rows, of whole groups, in their order."""
        if self.second is None:
            lost = (weight - replaced).square().sum(1)
            return float((lost * self.weights[rows]).sum())
        if self.output is not None:
            side = self.output[rows][:, rows]
            return two_sided_damage(weight, replaced, second=self.second, output=side)
        per_group = self.site.rows // len(self.second)
        groups = torch.arange(self.site.rows)[rows][::per_group] // per_group
        second = self.second if len(self.second) == 1 else self.second[groups]
        return float((layer_damage(weight, replaced, second) * self.weights[rows]).sum())


@dataclass(frozen=True)
class Profile:
    """Per site: statistics and sensitivity; and the weights themselves, untouched.

    Attributes:
        model_hash: Names and shapes of the parameters.
        sites: By name, in order of use.
        parameters: Values of the sites and of all other floating-point parameters that are
            stored as they are, by name.
        warnings: What the user should know.
        factors: Factorisations of column sides made so far, by the address of the second moment.
        orders: The same in the order of falling diagonals.
        row_factors: Factorisations of row sides made so far, by site.
        spectra: Eigenvalues and eigenvectors of column sides, by the address of the second moment.
        products: Factorizations of weights made so far, by technique and site.
    """

    model_hash: str
    sites: Mapping[str, SiteProfile]
    parameters: Mapping[str, Tensor]
    warnings: tuple[str, ...] = ()
    factors: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)
    orders: dict[int, tuple[ColumnOrder, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )
    row_factors: dict[str, RowFactor] = field(default_factory=dict, repr=False, compare=False)
    spectra: dict[int, Spectrum] = field(default_factory=dict, repr=False, compare=False)
    products: dict[tuple[str, str], Products] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def calibrated(self) -> bool:
        """Whether any site has statistics from calibration examples."""
        return any(known.second is not None for known in self.sites.values())

    def matrix(self, name: str) -> Tensor:
        """The (rows, columns) view of a site's weight, float32."""
        return self.sites[name].site.matrix(self.parameters[name].detach()).to(torch.float32)

    def column_side(self, name: str) -> Tensor:
        """H of a site, (groups, columns, columns); the identity where nothing was observed."""
        known = self.sites[name]
        return torch.eye(known.site.columns)[None] if known.second is None else known.second

    def factor(self, name: str) -> Tensor:
        """`inverse_factor` of the column side, (groups, columns, columns), made once per H."""
        second = self.sites[name].second
        if second is None:
            return self.column_side(name)
        key = second.data_ptr()
        if key not in self.factors:
            self.factors[key] = inverse_factor(second)
        return self.factors[key]

    def column_orders(self, name: str) -> tuple[ColumnOrder, ...]:
        """`ColumnOrder` of the column side of each group, made once per H."""
        second = self.sites[name].second
        if second is None:
            return tuple(ColumnOrder.of(side) for side in self.column_side(name))
        key = second.data_ptr()
        if key not in self.orders:
            self.orders[key] = tuple(ColumnOrder.of(side) for side in second)
        return self.orders[key]

    def row_factor(self, name: str) -> RowFactor | None:
        """`row_factor` of the whole row side, made once; None where there is none."""
        output = self.sites[name].output
        if output is None:
            return None
        if name not in self.row_factors:
            self.row_factors[name] = row_factor(output)
        return self.row_factors[name]

    def bound_bits(self, name: str, replaced: Tensor) -> float | None:
        """Bits per weight of reverse water-filling at the damage of this (rows, columns) matrix.

        None without statistics, with groups, without damage, and for more than
        `WATER_FILLING_INPUTS` columns, where it would take too long.
        """
        known, weight = self.sites[name], self.matrix(name)
        wide = known.site.columns > WATER_FILLING_INPUTS
        if known.second is None or len(known.second) > 1 or wide:
            return None
        damage = known.damage(weight, replaced)
        if not damage > 0:
            return None
        key = known.second.data_ptr()
        if key not in self.spectra:
            self.spectra[key] = spectrum(known.second[0])
        rows = known.weights if known.output is None else spectrum(known.output)
        return water_filling_bits(weight, damage, columns=self.spectra[key], rows=rows)


def site_profile(
    site: Site,
    moments: Moments | None,
    *,
    row_factors: Tensor | None,
    macs: int | None,
    shared: dict[int, Tensor],
) -> SiteProfile:
    """A site's side of the metric from what was streamed.

    `shared` maps a second moment's address to its shrunk form: sites that read the same values
    share one, and with it one factorisation.

    For an embedding the column side is the second moment of the output's gradient and a row counts
    by its smoothed frequency; a table that is also an output layer adds what that layer reads.
    """
    ones = torch.ones(site.rows)
    if moments is None:
        return SiteProfile(site, None, ones, row_factors=row_factors, macs=macs)
    if site.kind == "embedding":
        second, weights, frequencies = _embedding_sides(site, moments)
        return SiteProfile(site, second, weights, frequencies, row_factors, macs)
    second = None
    if moments.second is not None and moments.count:
        key = moments.second.data_ptr()
        second = shared[key] if key in shared else moments.shrunk()
        shared[key] = second
    found = SiteProfile(
        site,
        second,
        ones,
        row_factors=row_factors,
        macs=macs,
        inputs=moments.inputs,
        results=moments.results,
        absorbed=moments.absorbed,
    )
    if moments.output is None:
        return found
    if moments.output.dim() == 1:
        return replace(found, weights=_normalised(moments.output))
    side = _row_side(moments.output)
    return replace(found, weights=side.diagonal().clone(), output=side)


def _embedding_sides(site: Site, moments: Moments) -> tuple[Tensor | None, Tensor, Tensor | None]:
    weights = torch.ones(site.rows)
    frequencies = None
    if moments.frequencies is not None:
        frequencies = smoothed(moments.frequencies)
        weights = _normalised(frequencies**TEMPER)
    sides = []
    if moments.output is not None and moments.output.dim() == 2:
        sides.append(_toward_diagonal(moments.output, OUTPUT_SHRINKAGE))
    if moments.second is not None and moments.count:
        sides.append(moments.shrunk()[0])
        weights = (weights + 1) / 2
    if not sides:
        return None, weights, frequencies
    scaled = [side / side.diagonal().mean().clamp_min(1e-30) for side in sides]
    return torch.stack(scaled).mean(0)[None], weights, frequencies


def smoothed(counts: Tensor) -> Tensor:
    """Probabilities of tokens from counts: unseen ones must not cost nothing.

    Half of `SMOOTHING` pseudo-counts are spread evenly, half by Zipf's law over the rank in the
    vocabulary, since tokenizers number tokens roughly by how frequent they are.

    Args:
        counts: (rows,) >= 0.

    Returns:
        (rows,) float64, positive, sum 1.
    """
    rank = torch.arange(len(counts), dtype=torch.float64)
    zipf = 1 / (rank + 300)
    prior = 0.5 * zipf / zipf.sum() + 0.5 / len(counts)
    return (counts.to(torch.float64) + SMOOTHING * prior) / (float(counts.sum()) + SMOOTHING)


def _normalised(output: Tensor) -> Tensor:
    weights = output.to(torch.float32)
    mean = weights.mean()
    if not mean > 0:
        return torch.ones_like(weights)
    return (weights / mean).clamp_min(SMALLEST_WORTH)


def _row_side(output: Tensor) -> Tensor:
    """Shrunk, with mean diagonal 1; rows that count for nothing count for `SMALLEST_WORTH`."""
    side = _toward_diagonal(output, OUTPUT_SHRINKAGE)
    mean = side.diagonal().mean()
    if not mean > 0:
        return torch.eye(len(side))
    side /= mean
    diagonal = side.diagonal()
    diagonal.clamp_(min=SMALLEST_WORTH)
    return side


def _toward_diagonal(second: Tensor, share: float) -> Tensor:
    diagonal = torch.diag(second.diagonal())
    return (1 - share) * second + share * diagonal
