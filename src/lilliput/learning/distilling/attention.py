"""`Attention`: a student looks where its teacher looks."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from lilliput.errors import TrainingError
from lilliput.learning.distilling.comparing import Compared, Pairs, averaged_down, check_imitation
from lilliput.tensor.imitation import answer_divergence, attention_map, value_relations

Sight = Literal["auto", "maps", "probabilities", "values"]
MOST_HEADS = 12


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Where the teacher looks.

    ``maps`` of convolutional features: squared distance of the maps, each of length 1 (arXiv
    1612.03928). ``probabilities`` of attention between positions, averaged over the heads, where
    modules give them away (with ``attn_implementation="eager"`` in transformers): KL divergence.
    ``values``: KL divergence of how alike the values of positions are (MiniLM, arXiv 2002.10957);
    it needs no equal widths or heads. ``auto`` takes the first that both models have: attention's
    probabilities, values, maps.

    Attributes:
        sight: Which of them.
        pairs: As in `Features`; by default they are found.
        weight: Above 0.
    """

    source: ClassVar[str] = "Zagoruyko and Komodakis 2017, arXiv 1612.03928; arXiv 2002.10957"

    sight: Sight = "auto"
    pairs: Pairs = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_imitation(self)
        if self.sight not in get_args(Sight):
            known = ", ".join(get_args(Sight))
            raise TrainingError(f"there is no sight {self.sight!r}", f"one of {known}")

    def loss(self, seen: Compared) -> Tensor:
        """The mean over the pairs."""
        compared = {"maps": _maps, "probabilities": _probabilities, "values": _values}[self.sight]
        return torch.stack([compared(seen, pair) for pair in self.pairs]).mean()


def attention_in(raw: Any) -> Tensor | None:
    """Probabilities (N, T, T) among what a module gave, averaged over heads; None without."""
    for leaf in raw if isinstance(raw, tuple | list) else ():
        if isinstance(leaf, Tensor) and leaf.ndim in (3, 4) and leaf.shape[-1] == leaf.shape[-2]:
            sums = leaf.detach().float().sum(-1)
            if bool((leaf >= 0).all()) and bool(((sums - 1).abs() < 1e-2).all()):
                return leaf.float().mean(1) if leaf.ndim == 4 else leaf.float()
    return None


def _probabilities(seen: Compared, pair: tuple[str, str]) -> Tensor:
    student, teacher = attention_in(seen.learned[pair[1]]), attention_in(seen.taught[pair[0]])
    if student is None or teacher is None:
        raise TrainingError(
            f"{' and '.join(pair)} give no probabilities of attention while training",
            'their dropout spoils the sums: use Attention(sight="values")',
        )
    counted = seen.counted(student[..., 0])
    return answer_divergence(student.clamp(min=1e-12).log(), teacher, counted=counted)


def _values(seen: Compared, pair: tuple[str, str]) -> Tensor:
    student, teacher = seen.features(pair)
    if student.ndim != 3 or student.shape[:2] != teacher.shape[:2]:
        raise TrainingError(
            f"the values {' and '.join(pair)} are {tuple(teacher.shape)} and "
            f"{tuple(student.shape)}",
            "values are (N, T, F), over the same positions",
        )
    widths = math.gcd(student.shape[-1], teacher.shape[-1])
    heads = max(n for n in range(1, MOST_HEADS + 1) if widths % n == 0)
    got, wanted = value_relations(student, heads), value_relations(teacher, heads).exp()
    counted = seen.counted(student)
    if counted is None:
        return answer_divergence(got, wanted)
    return answer_divergence(got, wanted, counted=counted[:, None].expand(got.shape[:3]))


def _maps(seen: Compared, pair: tuple[str, str]) -> Tensor:
    student, teacher = seen.features(pair)
    if student.ndim != teacher.ndim or student.ndim < 3:
        raise TrainingError(
            f"{' and '.join(pair)} are {tuple(teacher.shape)} and {tuple(student.shape)}",
            "maps are of convolutional features, (N, C, ...)",
        )
    smallest = tuple(map(min, student.shape[2:], teacher.shape[2:]))
    student, teacher = (averaged_down(one, smallest) for one in (student, teacher))
    return (attention_map(student) - attention_map(teacher)).square().sum(1).mean()
