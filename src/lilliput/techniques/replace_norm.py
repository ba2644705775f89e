"""Replaces layer norms by root-mean-square norms."""

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import fx, nn

from lilliput.shapes.centring import Stream, centred, stream_of
from lilliput.shapes.flow import operator_name
from lilliput.shapes.proving import Build, with_modules
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.residuals import calls
from lilliput.shapes.standins import ShiftedRMSNorm
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.replacing import Original, chosen, listed


class ReplaceNorm(Fields):
    """Replaces layer norms by root-mean-square norms where the mean folds into the weights before.

    Weights that write to the stream which a norm reads are centred, so that its mean is zero; the
    result equals the original. Where something else reads or writes that stream (norms behind the
    sum, tied embeddings) the norm has to stay.
    """

    name: ClassVar[str] = "replace_norm"
    family: ClassVar[Family] = "replace"
    source: ClassVar[str] = "Ashkboos et al. 2024, arXiv 2401.15024; Jiang 2023, arXiv 2305.14858"
    summary: ClassVar[str] = "replace layer norms by root-mean-square norms, means folded"

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy with the named norms replaced, equal to the original, with its proof."""
        original = Original.of(model, inputs, batches=batches)
        streams, reasons = _norms(original)
        layers = chosen(where, streams, reasons=reasons, kind="layer norm")
        modules: dict[str, nn.Module] = {}
        weights: dict[str, int] = {}
        for name, stream in layers.items():
            modules[name] = _rms(model.get_submodule(name))  # type: ignore[arg-type]
            weights |= stream.weights

        def build() -> nn.Module:
            return with_modules(original.weighted(centred(model, weights)), modules)

        builds: list[Build] = [("class", build)]
        return original.proved(builds, equal=model, what=listed(layers))


def _norms(original: Original) -> tuple[dict[str, Stream], dict[str, str]]:
    """Layer norms that can go, with what writes to their streams, and why others cannot."""
    found: dict[str, Stream] = {}
    reasons: dict[str, str] = {}
    for call in calls(original.shape.captured.graph.graph):
        module = original.model.get_submodule(call.path)
        if not isinstance(module, nn.LayerNorm):
            continue
        if type(module) is not nn.LayerNorm or len(module.normalized_shape) != 1:
            reasons[call.path] = "it is not torch's own norm of the last axis"
            continue
        stream = stream_of(original.shape, _norm(call.nodes))
        if stream.reason or call.path in reasons:
            reasons[call.path] = stream.reason or reasons[call.path]
            found.pop(call.path, None)
            continue
        before = found.get(call.path, Stream())
        found[call.path] = Stream({**before.weights, **stream.weights})
    return found, reasons


def _norm(nodes: Iterable[fx.Node]) -> fx.Node:
    return next(node for node in nodes if operator_name(node) == "layer_norm")


def _rms(norm: nn.LayerNorm) -> nn.Module:
    """The norm without its mean; its bias stays where it has one."""
    size = norm.normalized_shape[0]
    if norm.weight is None:
        return nn.RMSNorm(size, eps=norm.eps, elementwise_affine=False)
    weight = norm.weight.detach()
    if norm.bias is not None and norm.bias.any():
        return ShiftedRMSNorm(size, norm.eps, weight=weight, bias=norm.bias.detach())
    plain = nn.RMSNorm(size, eps=norm.eps)
    plain.weight = nn.Parameter(weight.clone())
    return plain
