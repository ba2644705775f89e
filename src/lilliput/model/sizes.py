"""Sizes of axes in a captured graph: numbers, or symbols that stood for one in the example."""

from typing import Any

import torch


def hint(size: Any) -> int:
    """The size an axis had in the captured batch; 1 where it depends on the data."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    known = size.node.hint
    return 1 if known is None else int(known)


def symbol(size: Any) -> str | None:
    """The name of an open axis, or None where the graph fixes its size."""
    if not isinstance(size, torch.SymInt) or size.node.expr.is_number:
        return None
    return str(size.node.expr)
