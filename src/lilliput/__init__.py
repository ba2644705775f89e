"""Change the size of an AI model and prove what that cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lilliput.errors import LilliputError

if TYPE_CHECKING:
    from lilliput.budget import Budget
    from lilliput.learning import (
        Attention,
        Blocks,
        Features,
        Learned,
        Logits,
        Pruning,
        Range,
        Reach,
        Recover,
        Relations,
        Study,
        Surroundings,
        Teaching,
        Training,
        choice,
        distill,
        finetune,
        prune,
        tune,
    )
    from lilliput.loading import load
    from lilliput.onnxtask import onnx_task
    from lilliput.pipeline import apply_plan, compress
    from lilliput.quantizing import quantize_aware
    from lilliput.records import Plan, Report
    from lilliput.reshaping import (
        blocks,
        grow,
        grown,
        narrow,
        narrowed,
        replace,
        replaced,
        resized_optimizer,
        shorten,
        shortened,
        shrink_to,
        shrunk_to,
        widths,
    )
    from lilliput.sources import arrays, images, load_weights, texts
    from lilliput.task import Task
    from lilliput.verification import verify

__version__ = "0.1.0"
__all__ = [
    "Attention",
    "Blocks",
    "Budget",
    "Features",
    "Learned",
    "LilliputError",
    "Logits",
    "Plan",
    "Pruning",
    "Range",
    "Reach",
    "Recover",
    "Relations",
    "Report",
    "Study",
    "Surroundings",
    "Task",
    "Teaching",
    "Training",
    "apply_plan",
    "arrays",
    "blocks",
    "choice",
    "compress",
    "distill",
    "finetune",
    "grow",
    "grown",
    "images",
    "load",
    "load_weights",
    "narrow",
    "narrowed",
    "onnx_task",
    "prune",
    "quantize_aware",
    "replace",
    "replaced",
    "resized_optimizer",
    "shorten",
    "shortened",
    "shrink_to",
    "shrunk_to",
    "texts",
    "tune",
    "verify",
    "widths",
]
# What would load torch, a runtime or an image library is looked up when it is first used: the
# measuring process imports this package and must stay small.
_LATER = {
    "Attention": "lilliput.learning",
    "Blocks": "lilliput.learning",
    "Budget": "lilliput.budget",
    "Features": "lilliput.learning",
    "Learned": "lilliput.learning",
    "Logits": "lilliput.learning",
    "Plan": "lilliput.records",
    "Pruning": "lilliput.learning",
    "Range": "lilliput.learning",
    "Reach": "lilliput.learning",
    "Recover": "lilliput.learning",
    "Relations": "lilliput.learning",
    "Report": "lilliput.records",
    "Study": "lilliput.learning",
    "Surroundings": "lilliput.learning",
    "Task": "lilliput.task",
    "Teaching": "lilliput.learning",
    "Training": "lilliput.learning",
    "apply_plan": "lilliput.pipeline",
    "arrays": "lilliput.sources",
    "blocks": "lilliput.reshaping",
    "choice": "lilliput.learning",
    "compress": "lilliput.pipeline",
    "distill": "lilliput.learning",
    "finetune": "lilliput.learning",
    "grow": "lilliput.reshaping",
    "grown": "lilliput.reshaping",
    "images": "lilliput.sources",
    "load": "lilliput.loading",
    "load_weights": "lilliput.sources",
    "narrow": "lilliput.reshaping",
    "narrowed": "lilliput.reshaping",
    "onnx_task": "lilliput.onnxtask",
    "prune": "lilliput.learning",
    "quantize_aware": "lilliput.quantizing",
    "replace": "lilliput.reshaping",
    "replaced": "lilliput.reshaping",
    "resized_optimizer": "lilliput.reshaping",
    "shorten": "lilliput.reshaping",
    "shortened": "lilliput.reshaping",
    "shrink_to": "lilliput.reshaping",
    "shrunk_to": "lilliput.reshaping",
    "texts": "lilliput.sources",
    "tune": "lilliput.learning",
    "verify": "lilliput.verification",
    "widths": "lilliput.reshaping",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'lilliput' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return __all__
