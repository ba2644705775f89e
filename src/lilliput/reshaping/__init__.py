"""What changes a model's shape, as one calls it from Python: each verb a file."""

from lilliput.reshaping.files import Output, Written, grow_task, shrink_task
from lilliput.reshaping.grow import grow, grown
from lilliput.reshaping.narrow import narrow, narrowed, widths
from lilliput.reshaping.replace import replace, replaced
from lilliput.reshaping.saving import Saved, save_reshaped
from lilliput.reshaping.shorten import blocks, shorten, shortened
from lilliput.reshaping.shrink import shrink_to, shrunk_to
from lilliput.shapes.optimizers import resized_optimizer

__all__ = [
    "Output",
    "Saved",
    "Written",
    "blocks",
    "grow",
    "grow_task",
    "grown",
    "narrow",
    "narrowed",
    "replace",
    "replaced",
    "resized_optimizer",
    "save_reshaped",
    "shorten",
    "shortened",
    "shrink_task",
    "shrink_to",
    "shrunk_to",
    "widths",
]
