"""What may be tuned: values by name, and choices that a user's own code leaves open."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from lilliput.errors import TrainingError

Value = bool | int | float | str


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them; whole numbers where both are whole.

    Attributes:
        low: The least.
        high: The most.
        log: Whether to draw evenly by orders of magnitude; `low` is above 0 then.

    Raises:
        TrainingError: The ends are the wrong way round, or no numbers.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low >= self.high:
            raise TrainingError(f"a range from {self.low:g} to {self.high:g} is empty")
        if self.log and self.low <= 0:
            raise TrainingError(f"a range by magnitudes cannot begin at {self.low:g}")

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


Open = Range | tuple[Value, ...]  # what a value is drawn from
Space = Mapping[str, Open]
Ask = Callable[[str, Open, Value], Value]
_asked: ContextVar[Ask | None] = ContextVar("lilliput_choice", default=None)


def choice(name: str, *options: Any, default: Value | None = None) -> Any:
    """A value that `tune` may choose; outside of it the default.

    For depth, width, kernels, activations: whatever the function that builds a model wants to
    leave open::

        width = lilliput.choice("width", 16, 32, 64)
        rate = lilliput.choice("dropout", lilliput.Range(0.0, 0.5))

    Args:
        name: The same name gives the same value within one model.
        *options: Numbers or words; or one `Range`.
        default: One of them; otherwise the first one, or the lower end of the range.

    Raises:
        TrainingError: There is nothing to choose from, or the default is not among it.
    """
    one_range = len(options) == 1 and isinstance(options[0], Range)
    given: Open = options[0] if one_range else tuple(options)
    if not one_range and len(options) < 2:
        raise TrainingError(f"choice {name!r} has nothing to choose from", "give two options")
    if default is None:
        default = _first(given)
    if default not in given:
        raise TrainingError(f"the default {default!r} of choice {name!r} is not among its options")
    ask = _asked.get()
    return default if ask is None else ask(name, given, default)


def _first(given: Open) -> Value:
    if isinstance(given, Range):
        return given.low
    return given[0]


@contextmanager
def asking(ask: Ask) -> Iterator[None]:
    """Within it, `choice` gives what `ask` says."""
    token = _asked.set(ask)
    try:
        yield
    finally:
        _asked.reset(token)


_PAIR = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=\s*([^,]+?)\s*(?:,|$)")


def parse_space(text: str) -> dict[str, Open]:
    """A space as users write it in a shell: ``rate=1e-4..1e-1 log, batch_size=32|64``.

    Raises:
        TrainingError: Something else.
    """
    found: dict[str, Open] = {}
    place = 0
    while place < len(text.rstrip()):
        pair = _PAIR.match(text, place)
        if pair is None:
            raise TrainingError(
                f"the space {text!r} cannot be read at {text[place:]!r}",
                "e.g. rate=1e-4..1e-1 log, optimizer=adamw|sgd",
            )
        found[pair[1]] = _open(pair[1], pair[2])
        place = pair.end()
    return found


def _open(name: str, text: str) -> Open:
    words = text.split()
    low, dots, high = words[0].partition("..")
    if dots and words[1:] in ([], ["log"]):
        least, most = _number(low), _number(high)
        if not isinstance(least, str) and not isinstance(most, str):
            return Range(least, most, log=len(words) == 2)
    options = tuple(_number(part.strip()) for part in text.split("|"))
    if len(options) < 2 or dots:
        raise TrainingError(
            f"{name}={text} is nothing to choose from", "give LOW..HIGH, LOW..HIGH log, or A|B|C"
        )
    return options


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
