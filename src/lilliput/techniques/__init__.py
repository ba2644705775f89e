"""THE TABLE: every technique, one file each."""

from typing import Any

from lilliput.described import checked, nearest
from lilliput.errors import PlanError
from lilliput.records import Step
from lilliput.techniques.base import Option, Structural, Technique
from lilliput.techniques.factorize_cp import FactorizeCp
from lilliput.techniques.factorize_spatial import FactorizeSpatial
from lilliput.techniques.factorize_svd import FactorizeSvd
from lilliput.techniques.factorize_tucker import FactorizeTucker
from lilliput.techniques.factorize_whitened import FactorizeWhitened
from lilliput.techniques.fields import LEARNING, STRUCTURAL, Family, Fields
from lilliput.techniques.grow_classes import GrowClasses
from lilliput.techniques.grow_depth import GrowDepth
from lilliput.techniques.grow_resolution import GrowResolution
from lilliput.techniques.grow_vocabulary import GrowVocabulary
from lilliput.techniques.grow_width import GrowWidth
from lilliput.techniques.learn_recovery import LearnRecovery
from lilliput.techniques.narrow_activation import NarrowActivation
from lilliput.techniques.narrow_magnitude import NarrowMagnitude
from lilliput.techniques.narrow_second_order import NarrowSecondOrder
from lilliput.techniques.narrow_sensitivity import NarrowSensitivity
from lilliput.techniques.narrow_taylor import NarrowTaylor
from lilliput.techniques.on_factors import on_factors
from lilliput.techniques.prune_damage import PruneDamage
from lilliput.techniques.prune_magnitude import PruneMagnitude
from lilliput.techniques.prune_sensitivity import PruneSensitivity
from lilliput.techniques.prune_sparsegpt import PruneSparsegpt
from lilliput.techniques.prune_surgeon import PruneSurgeon
from lilliput.techniques.prune_wanda import PruneWanda
from lilliput.techniques.quantize_adaround import QuantizeAdaround
from lilliput.techniques.quantize_awq import QuantizeAwq
from lilliput.techniques.quantize_bfloat16 import QuantizeBfloat16
from lilliput.techniques.quantize_dynamic import QuantizeDynamic
from lilliput.techniques.quantize_feedback import QuantizeFeedback
from lilliput.techniques.quantize_fixed_point import QuantizeFixedPoint
from lilliput.techniques.quantize_float16 import QuantizeFloat16
from lilliput.techniques.quantize_groups import QuantizeGroups
from lilliput.techniques.quantize_round import QuantizeRound
from lilliput.techniques.quantize_static import QuantizeStatic
from lilliput.techniques.replace_activation import ReplaceActivation
from lilliput.techniques.replace_depthwise import ReplaceDepthwise
from lilliput.techniques.replace_key_value_groups import ReplaceKeyValueGroups
from lilliput.techniques.replace_norm import ReplaceNorm
from lilliput.techniques.replace_stack import ReplaceStack
from lilliput.techniques.share_layers import ShareLayers
from lilliput.techniques.share_values import ShareValues
from lilliput.techniques.shorten_drop import ShortenDrop
from lilliput.techniques.shorten_linear import ShortenLinear
from lilliput.techniques.ties import on_ties, ties_among

TABLE: tuple[type[Fields], ...] = (
    FactorizeCp,
    FactorizeSpatial,
    FactorizeSvd,
    FactorizeTucker,
    FactorizeWhitened,
    GrowClasses,
    GrowDepth,
    GrowResolution,
    GrowVocabulary,
    GrowWidth,
    LearnRecovery,
    NarrowActivation,
    NarrowMagnitude,
    NarrowSecondOrder,
    NarrowSensitivity,
    NarrowTaylor,
    PruneDamage,
    PruneMagnitude,
    PruneSensitivity,
    PruneSparsegpt,
    PruneSurgeon,
    PruneWanda,
    QuantizeAdaround,
    QuantizeAwq,
    QuantizeBfloat16,
    QuantizeDynamic,
    QuantizeFeedback,
    QuantizeFixedPoint,
    QuantizeFloat16,
    QuantizeGroups,
    QuantizeRound,
    QuantizeStatic,
    ReplaceActivation,
    ReplaceDepthwise,
    ReplaceKeyValueGroups,
    ReplaceNorm,
    ReplaceStack,
    ShareLayers,
    ShareValues,
    ShortenDrop,
    ShortenLinear,
)

__all__ = [
    "LEARNING",
    "STRUCTURAL",
    "TABLE",
    "FactorizeCp",
    "FactorizeSpatial",
    "FactorizeSvd",
    "FactorizeTucker",
    "FactorizeWhitened",
    "Family",
    "Fields",
    "GrowClasses",
    "GrowDepth",
    "GrowResolution",
    "GrowVocabulary",
    "GrowWidth",
    "LearnRecovery",
    "NarrowActivation",
    "NarrowMagnitude",
    "NarrowSecondOrder",
    "NarrowSensitivity",
    "NarrowTaylor",
    "Option",
    "PruneDamage",
    "PruneMagnitude",
    "PruneSensitivity",
    "PruneSparsegpt",
    "PruneSurgeon",
    "PruneWanda",
    "QuantizeAdaround",
    "QuantizeAwq",
    "QuantizeBfloat16",
    "QuantizeDynamic",
    "QuantizeFeedback",
    "QuantizeFixedPoint",
    "QuantizeFloat16",
    "QuantizeGroups",
    "QuantizeRound",
    "QuantizeStatic",
    "ReplaceActivation",
    "ReplaceDepthwise",
    "ReplaceKeyValueGroups",
    "ReplaceNorm",
    "ReplaceStack",
    "ShareLayers",
    "ShareValues",
    "ShortenDrop",
    "ShortenLinear",
    "Structural",
    "Technique",
    "from_step",
    "on_factors",
    "on_ties",
    "structural_from_step",
    "ties_among",
]


def from_step(step: Step) -> Technique:
    """The technique that an entry of a plan names, with its settings.

    One of a family in `STRUCTURAL` is a `Structural` instead: see `structural_from_step`.

    Raises:
        PlanError: An unknown technique or field, or a value out of range; names the allowed ones.
    """
    known = {kind.name: kind for kind in TABLE}
    if step.technique not in known:
        raise PlanError(
            f"unknown technique {step.technique!r}",
            f"{nearest(step.technique, known)}known are {', '.join(sorted(known))}",
        )
    kind = known[step.technique]
    found: Any = checked(kind, step.technique, settings=step.settings, refused=PlanError)
    technique: Technique = found
    return technique


def structural_from_step(step: Step) -> Structural:
    """The same for an entry that changes the model's shape.

    Raises:
        PlanError: As `from_step`; or the technique changes no shape.
    """
    found: Any = from_step(step)
    if found.family not in STRUCTURAL:
        raise PlanError(f"{step.technique} does not change the model's shape")
    changing: Structural = found
    return changing
