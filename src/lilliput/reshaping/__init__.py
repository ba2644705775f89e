"""What changes a model's shape, as one calls it from Python: each verb a file."""

from lilliput.reshaping.narrow import narrow, narrowed, widths

__all__ = ["narrow", "narrowed", "widths"]
