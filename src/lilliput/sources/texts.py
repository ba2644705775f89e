"""Texts in a file, one a line, with an optional label after a tab."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lilliput.errors import MissingExtraError, TaskError
from lilliput.usercode import users_code

Encoded = dict[str, Tensor]


@dataclass(frozen=True)
class Texts:
    """A map-style sequence of tokenized lines: dicts of 1-D int64 tensors; see `texts`.

    Attributes:
        lines: The texts.
        ids: Token numbers of each.
        labels: Class of each, or None.
        label_names: Word of each class.
        predict_next: The token numbers are the targets (a causal language model).
    """

    lines: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...] | None
    label_names: tuple[str, ...]
    predict_next: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Any:
        ids = torch.tensor(self.ids[index], dtype=torch.int64)  # (T,)
        encoded: Encoded = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.predict_next:
            return encoded, ids
        return encoded if self.labels is None else (encoded, self.labels[index])

    def describe(self, index: int) -> str:
        """The text, cut after 200 characters."""
        line = self.lines[index]
        return line if len(line) <= 200 else f"{line[:197]}..."


def texts(
    file: str | Path,
    tokenizer: Any,
    *,
    max_length: int = 128,
    label_names: Sequence[str] | None = None,
    predict_next: bool = False,
) -> Texts:
    """The lines of a UTF-8 file as examples: ``text`` or ``text<TAB>label``.

    Args:
        file: Empty lines are left out. The last tab of a line separates the label; all lines have
            one, or none has.
        tokenizer: A ``tokenizer.json`` or the folder that holds one, a ``tokenizers.Tokenizer``
            or a transformers tokenizer.
        max_length: Tokens kept of each text, at least 1.
        label_names: The model's classes in order. By default whole numbers are class numbers and
            words are numbered in sorted order.
        predict_next: The tokens themselves are the targets (perplexity).

    Raises:
        TaskError: No such file, no texts, not UTF-8, labels that are missing or unknown.
        MissingExtraError: `tokenizers` is not installed.
    """
    if max_length < 1:
        raise TaskError(f"max_length must be at least 1, got {max_length}")
    path = Path(file)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read as UTF-8 text: {error}") from error
    entries = [(n, line) for n, line in enumerate(content.splitlines(), 1) if line.strip()]
    if not entries:
        raise TaskError(f"{path} holds no texts", "one text a line, optionally text<TAB>label")
    pairs = [tuple(line.rsplit("\t", 1)) for _, line in entries]
    unlabelled = [n for (n, _), pair in zip(entries, pairs, strict=True) if len(pair) == 1]
    if unlabelled and len(unlabelled) < len(pairs):
        raise TaskError(f"{path}, line {unlabelled[0]} has no label, others have", "text<TAB>label")
    lines = tuple(pair[0].strip() for pair in pairs)
    words = None if unlabelled else [pair[1].strip() for pair in pairs]
    labels, names = (None, ()) if words is None else _number(words, label_names, path)
    ids = encode(tokenizer, lines, max_length=max_length)
    empty = next((n for n, tokens in enumerate(ids) if not tokens), None)
    if empty is not None:
        raise TaskError(f"{path}, line {entries[empty][0]} has no tokens")
    return Texts(lines, ids, labels, names, predict_next)


def encode(tokenizer: Any, lines: Sequence[str], *, max_length: int) -> tuple[tuple[int, ...], ...]:
    """Token numbers of each text, at most `max_length`, without padding."""
    loaded = load_tokenizer(tokenizer)
    if callable(loaded):  # a transformers tokenizer
        encoded = loaded(list(lines), truncation=True, max_length=max_length, padding=False)
        return tuple(tuple(ids) for ids in encoded["input_ids"])
    copy = type(loaded).from_str(loaded.to_str())  # the user's keeps its padding and truncation
    copy.no_padding()
    copy.enable_truncation(max_length)
    return tuple(tuple(each.ids) for each in copy.encode_batch(list(lines)))


def load_tokenizer(tokenizer: Any) -> Any:
    """A tokenizer from a ``tokenizer.json``, or from the folder that holds it; others as they are.

    Raises:
        TaskError: No such file, or not a tokenizer.
        MissingExtraError: `tokenizers` is not installed.
    """
    if not isinstance(tokenizer, str | Path):
        if not callable(tokenizer) and not hasattr(tokenizer, "encode_batch"):
            raise TaskError(f"a {type(tokenizer).__name__} is not a tokenizer")
        return tokenizer
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError(
            "tokenizing needs tokenizers", "pip install lilliput[text]"
        ) from error
    path = Path(tokenizer)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise TaskError(f"{path} is not a tokenizer.json")
    with users_code(f"the tokenizer {path}"):
        return Tokenizer.from_file(str(path))


def _number(
    words: Sequence[str], names: Sequence[str] | None, path: Path
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Class numbers of label words, and the word of each class."""
    whole = all(word.isdecimal() for word in words)
    if names is None and not whole:
        names = sorted(set(words))
    known: Mapping[str, int] = {name: number for number, name in enumerate(names or ())}
    if names is not None and all(word in known for word in words):
        return tuple(known[word] for word in words), tuple(names)
    if whole:
        return tuple(int(word) for word in words), tuple(names or ())
    wrong = next(word for word in words if word not in known)
    raise TaskError(f"{path}: label {wrong!r} is none of the model's {list(known)[:10]}")
