"""Operators that work on each position alone."""

from lilliput.shapes.atoms import Axes
from lilliput.shapes.flow import Rule, Step

_ONE = """
    abs acos alias asin atan bernoulli bitwise_not ceil celu clamp clamp_ clamp_max clamp_min clip
    clone contiguous cos detach detach_ dropout dropout_ alpha_dropout feature_dropout
    feature_alpha_dropout elu elu_ erf exp exp2 expm1 fill floor gelu hardshrink hardsigmoid
    hardsigmoid_ hardswish hardswish_ hardtanh
    hardtanh_ leaky_relu leaky_relu_ lift_fresh_copy log log10 log1p log2 log_sigmoid logical_not
    logit mish mish_ nan_to_num neg positive reciprocal relu relu6 relu6_ relu_ round rrelu rsqrt
    selu selu_ sigmoid sigmoid_ sign silu silu_ sin softplus softshrink softsign sqrt square tan
    tanh tanh_ tanhshrink threshold to _to_copy trunc type_as zeros_like ones_like full_like
    rand_like randn_like float half double bool long int
"""
_MANY = """
    add add_ sub sub_ rsub mul mul_ div div_ pow pow_ where masked_fill masked_fill_ maximum minimum
    eq ne gt ge lt le logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor fmod
    remainder floor_divide atan2 addcmul addcdiv lerp __and__ __or__ __xor__ fmax fmin copysign
    true_divide xlogy isnan isinf isfinite
"""


def broadcast(step: Step, operands: list[Axes]) -> Axes:
    """Axes of operands that are combined position by position, the last axes aligned."""
    rank = max(len(axes) for axes in operands)
    result: Axes = []
    for place in range(1, rank + 1):
        meeting = [axes[-place] for axes in operands if len(axes) >= place]
        axis = meeting[0]
        for other in meeting[1:]:
            axis = step.tie(axis, other)
        result.append(axis)
    return result[::-1]


def pointwise(step: Step) -> Axes:
    """The result of one or more tensors, position by position."""
    return broadcast(step, [step.axes(node) for node in step.tensors()])


def prelu(step: Step) -> Axes:
    """A slope per channel, the second axis."""
    axes, slope = step.axes("self"), step.axes("weight")
    if len(axes) > 1 and len(slope[0]) > 1:
        axes[1] = step.tie(axes[1], slope[0])
    return axes


RULES: dict[str, Rule] = {
    **dict.fromkeys([*_ONE.split(), *_MANY.split()], pointwise),
    "prelu": prelu,
}
