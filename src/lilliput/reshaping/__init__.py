"""What changes a model's shape, as one calls it from Python: each verb a file."""

from lilliput.reshaping.narrow import narrow, narrowed, widths
from lilliput.reshaping.replace import replace, replaced
from lilliput.reshaping.shorten import blocks, shorten, shortened

__all__ = ["blocks", "narrow", "narrowed", "replace", "replaced", "shorten", "shortened", "widths"]
