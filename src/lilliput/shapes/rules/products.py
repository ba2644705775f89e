"""Products: what is summed over, and what is laid out in the result."""

from string import ascii_letters

import numpy as np

from lilliput.shapes.atoms import Axes, Axis, live
from lilliput.shapes.flow import Rule, Step
from lilliput.shapes.rules.pointwise import broadcast
from lilliput.shapes.rules.windows import windowed


def linear(step: Step) -> Axes:
    """y = x W^T + b."""
    axes, weight = step.axes("input"), step.axes("weight")
    step.read(axes[-1], weight[1])
    made = step.make(weight[0])
    if step.get("bias") is not None:
        made = step.tie(made, step.axes("bias")[0])
    return [*axes[:-1], made]


def convolution(step: Step) -> Axes:
    """A convolution with one group, a group per channel, or something between."""
    rank = len(step.shape) - 2
    axes, weight = step.axes("input"), step.axes("weight")
    for kernel in weight[2:]:
        step.freeze(kernel, "the size of a kernel")
    transposed = "transpose" in step.name or bool(step.get("transposed"))
    groups = int(step["groups"])
    channels = axes[-rank - 1]
    around = windowed(step, axes, rank=rank)
    if groups == 1:
        step.read(channels, weight[0] if transposed else weight[1])
        made = step.make(weight[1] if transposed else weight[0])
    elif len(channels) == groups:
        made = _depthwise(step, channels, weight, transposed=transposed)
    else:
        made = _grouped(step, channels, weight, groups, transposed=transposed)
    if step.get("bias") is not None:
        made = step.tie(made, step.axes("bias")[0])
    return [*axes[: -rank - 1], made, *around]


def _depthwise(step: Step, channels: Axis, weight: Axes, *, transposed: bool) -> Axis:
    """A group per channel: a channel goes with all that is made of it."""
    step.freeze(weight[1], "the channels of a group")
    if transposed:
        step.tie(channels, weight[0])
        return np.repeat(channels, len(weight[1]))
    return step.tie(np.repeat(channels, len(weight[0]) // len(channels)), weight[0])


def _grouped(step: Step, channels: Axis, weight: Axes, groups: int, *, transposed: bool) -> Axis:
    """Groups keep the same size: the same positions leave each of them."""
    if transposed:
        step.read(channels, weight[0])
        shares = weight[0].reshape(groups, -1)
        made = np.tile(step.make(weight[1]), groups)
    else:
        for share in channels.reshape(groups, -1):
            step.read(share, weight[1])
        shares = weight[0].reshape(groups, -1)
        made = step.make(weight[0])
    for share in shares[1:]:
        step.tie(shares[0], share)
    return made


def matmul(step: Step) -> Axes:
    """The product of two tensors over the last axis of one and the last but one of the other."""
    one, other = step.axes(_left(step)), step.axes(_right(step))
    inner = other[-2] if len(other) > 1 else other[-1]
    _contract(step, one[-1], inner, weights=(_left(step), _right(step)))
    rows = one[-2:-1] if len(one) > 1 else []
    columns = other[-1:] if len(other) > 1 else []
    batch = [axes for axes in (one[:-2], other[:-2]) if axes]
    lead = broadcast(step, batch) if batch else []
    made = [*lead, *rows, *columns]
    if step.of_weights(_right(step)) and columns:
        step.make(columns[0])
    if step.of_weights(_left(step)) and rows:
        step.make(rows[0])
    return broadcast(step, [made, step.axes(bias)]) if (bias := _bias(step)) is not None else made


def _contract(step: Step, one: Axis, other: Axis, *, weights: tuple[str, str]) -> None:
    """Sums over an axis of two tensors: a weight reads it, or two activations mix along it."""
    of_weights = [step.of_weights(name) for name in weights]
    if of_weights == [False, False]:
        step.mix(step.tie(one, other))
        return
    step.tie(one, other)
    step.flow.readers.append(one if of_weights[0] else other)  # of two weights one is enough


def _left(step: Step) -> str:
    return next(name for name in ("mat1", "batch1", "self") if step.get(name) is not None)


def _right(step: Step) -> str:
    return next(name for name in ("mat2", "batch2", "other", "vec") if step.get(name) is not None)


def _bias(step: Step) -> str | None:
    return "self" if step.name in ("addmm", "baddbmm") else None


def attention(step: Step) -> Axes:
    """Scaled dot product attention; the third axis from the end but one holds heads."""
    query, key, value = (step.axes(name) for name in ("query", "key", "value"))
    if len(query) > 3 and len(key[-3]) != len(query[-3]):
        times = len(query[-3]) // len(key[-3])
        key[-3], value[-3] = np.repeat(key[-3], times), np.repeat(value[-3], times)
    step.mix(step.tie(query[-1], key[-1]))
    if live(key[-2]):
        step.freeze(key[-2], "positions that are attended to")
    lead = broadcast(step, [query[:-2], key[:-2], value[:-2]]) if len(query) > 2 else []
    mask = step.get("attn_mask")
    if mask is not None:
        broadcast(step, [[*lead, query[-2], key[-2]], step.axes(mask)])
    return [*lead, query[-2], value[-1]]


def bilinear(step: Step) -> Axes:
    """y = x1 W x2 + b, a matrix per result."""
    one, other, weight = (step.axes(name) for name in ("input1", "input2", "weight"))
    step.read(one[-1], weight[1])
    step.read(other[-1], weight[2])
    made = step.make(weight[0])
    if step.get("bias") is not None:
        made = step.tie(made, step.axes("bias")[0])
    return [*broadcast(step, [one[:-1], other[:-1]]), made]


def outer(step: Step) -> Axes:
    """Every pair of two vectors' entries."""
    return [step.axes("self")[0], step.axes("vec2")[0]]


def embedding(step: Step) -> Axes:
    """Rows of a table, looked up by number."""
    table = step.axes("weight")
    step.freeze(table[0], "rows are looked up by number")
    return [*step.axes("indices"), step.make(table[1])]


def einsum(step: Step) -> Axes | None:
    """A product written in letters."""
    nodes = list(step["tensors"])
    written, result = _spelled_out(str(step["equation"]), [len(step.axes(node)) for node in nodes])
    if any(len(set(term)) < len(term) for term in written):
        return None
    terms = list(zip(written, nodes, strict=True))
    letters: dict[str, list[tuple[object, Axis]]] = {}
    for term, node in terms:
        for letter, axis in zip(term, step.axes(node), strict=True):
            letters.setdefault(letter, []).append((node, axis))
    tied: dict[str, Axis] = {}
    for letter, found in letters.items():
        tied[letter] = _letter(step, found, summed=letter not in result)
    return [tied[letter] for letter in result]


def _spelled_out(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Terms and result of an equation with a letter per axis: no dots, the result written out."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    dots = [
        rank - len(term) + 3 if "..." in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    ]
    spare = "".join(letter for letter in ascii_letters if letter not in left)[: max(dots)]
    if not arrow:
        once = [letter for letter in sorted(set(left) - set(",.")) if left.count(letter) == 1]
        result = "..." + "".join(once)
    terms = [
        term.replace("...", spare[len(spare) - count :])
        for term, count in zip(terms, dots, strict=True)
    ]
    return terms, result.replace("...", spare)


def _letter(step: Step, found: list[tuple[object, Axis]], *, summed: bool) -> Axis:
    """All axes of one letter go together; summed over, weights read it or activations mix."""
    axis = found[0][1]
    for _, other in found[1:]:
        axis = step.tie(axis, other)
    ours = [one for node, one in found if step.of_weights(node)]
    if not summed:
        step.flow.makers.extend(ours)
    elif ours and len(found) > 1:
        step.flow.readers.append(ours[0])
    else:
        step.mix(axis)
    return axis


CONVOLUTIONS = (
    *("conv1d", "conv2d", "conv3d", "convolution"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
RULES: dict[str, Rule] = {
    "linear": linear,
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(["matmul", "mm", "bmm", "addmm", "baddbmm", "mv"], matmul),
    "scaled_dot_product_attention": attention,
    "embedding": embedding,
    "einsum": einsum,
    "bilinear": bilinear,
    "outer": outer,
}
