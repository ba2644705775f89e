"""How work that takes a while says how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # the stage, steps done, steps in all


def unseen(*_: object) -> None:
    """Nobody looks."""
