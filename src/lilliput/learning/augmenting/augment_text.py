"""Augmentations of text, on token numbers (N, T); the special tokens at the ends are left alone."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.errors import TaskError
from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import chosen
from lilliput.learning.augmenting.input_forms import check_targets_stay, tokens_of, with_parts


class DropTokens(Augmentation):
    """Takes tokens out of texts; the rest moves together, and padding fills the end.

    What runs along the tokens, as token types do, moves with them. Texts keep at least their first
    and last token.

    Attributes:
        rate: Share of the tokens that go, 0 to 0.9.
    """

    name: ClassVar[str] = "drop_tokens"
    form: ClassVar[Form] = "text"
    source: ClassVar[str] = "Wei and Zou 2019, arXiv 1901.11196"
    summary: ClassVar[str] = "take tokens out of texts"

    rate: float = Field(0.1, ge=0, le=0.9, json_schema_extra={"unit": "of the tokens"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """The attention mask says where texts now end.

        Raises:
            TaskError: Also without an attention mask, and where every token has a target.
        """
        tokens = tokens_of(self.name, given.inputs)
        if tokens.mask not in tokens.beside:
            raise TaskError(
                f"{self.name} needs an attention mask, which says where a shorter text ends",
                "mask_tokens needs none",
            )
        check_targets_stay(self.name, given, places=(tokens.ids.shape[1],))
        drawn = chosen(self.rate, generator, shape=tuple(tokens.ids.shape))
        gone = drawn.to(tokens.ids.device) & tokens.inner  # (N, T)
        order = (gone | ~tokens.real).long().argsort(dim=1, stable=True)  # what stays comes first
        fills = {tokens.key: _padding(tokens.ids, tokens.real)}
        left = (tokens.real & ~gone).gather(1, order)  # (N, T)
        moved = {
            key: tensor.gather(1, order).where(left, fills.get(key, 0))
            for key, tensor in {tokens.key: tokens.ids, **tokens.beside}.items()
        }
        return Augmented(with_parts(given.inputs, moved), given.targets)


class MaskTokens(Augmentation):
    """Puts another token in the place of some.

    Attributes:
        rate: Share of the tokens that are replaced, 0 to 1.
        token: Number of what comes in their place, such as 103, BERT's [MASK]; -1: tokens drawn
            from the texts of the batch, which are in every vocabulary.
    """

    name: ClassVar[str] = "mask_tokens"
    form: ClassVar[Form] = "text"
    source: ClassVar[str] = "Devlin et al. 2018, arXiv 1810.04805"
    summary: ClassVar[str] = "put a mask, or other tokens, in the place of some"

    rate: float = Field(0.1, ge=0, le=1, json_schema_extra={"unit": "of the tokens"})
    token: int = Field(-1, ge=-1, le=2**31 - 1, json_schema_extra={"unit": "token number"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Only the token numbers change."""
        tokens = tokens_of(self.name, given.inputs)
        drawn = chosen(self.rate, generator, shape=tuple(tokens.ids.shape))
        struck = drawn.to(tokens.ids.device) & tokens.inner
        ids = self._others(tokens.ids, tokens.inner, generator).where(struck, tokens.ids)
        return Augmented(with_parts(given.inputs, {tokens.key: ids}), given.targets)

    def _others(self, ids: Tensor, inner: Tensor, generator: torch.Generator) -> Tensor:
        """What comes in the place of each token, (N, T)."""
        pool = ids[inner]
        if self.token >= 0 or not len(pool):
            return torch.full_like(ids, self.token)
        place = torch.randint(
            len(pool), tuple(ids.shape), generator=generator, device=generator.device
        )
        return pool[place.to(ids.device)]


def _padding(ids: Tensor, real: Tensor) -> int:
    """The token that pads the batch; 0 where nothing is padded."""
    padded = ids[~real]
    return int(padded[0]) if len(padded) else 0
