"""Convolutions of a model that could be replaced by others."""

from torch import nn

from lilliput.shapes.residuals import calls
from lilliput.shapes.widths import Shape

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def convolutions(model: nn.Module, shape: Shape) -> tuple[dict[str, Convolution], dict[str, str]]:
    """Ungrouped convolutions with more than one tap that the graph calls, and why others are not.

    Args:
        model: The model.
        shape: Its capture.
    """
    taken: dict[str, Convolution] = {}
    reasons: dict[str, str] = {}
    called = {call.path for call in calls(shape.captured.graph.graph)}
    for name, module in model.named_modules():
        if not isinstance(module, Convolution):
            if isinstance(module, nn.modules.conv._ConvTransposeNd):
                reasons[name] = "it is transposed"
            continue
        if name not in called:
            reasons[name] = "the model does not call it"
        elif module.groups == module.in_channels > 1:
            reasons[name] = "it is depthwise already"
        elif module.groups > 1:
            reasons[name] = f"it has {module.groups} groups"
        elif module.weight[0, 0].numel() == 1:
            reasons[name] = "its kernel has one tap"
        else:
            taken[name] = module
    return taken, reasons


def type_of(layer: Convolution) -> type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]:
    """Torch's own class of a convolution."""
    return next(kind for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(layer, kind))
