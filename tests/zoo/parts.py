"""A network of the zoo, and how it is made: the same weights on every run, none neutral."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Net:
    """A small network, one example batch, and what is known of its widths.

    Attributes:
        name: Its key in the zoo.
        build: Makes it.
        inputs: Makes one batch: tensor, tuple or mapping.
        dynamic: Axes that vary beside the batch.
        tied: Widths that must be found and free, by name -> how many units (few are listed).
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    dynamic: Any = None
    tied: Mapping[str, int] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """The network in evaluation mode, norms and statistics away from their neutral values."""
        torch.manual_seed(0)
        model = self.build()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim < 2:
                    parameter.add_(0.3 * torch.randn_like(parameter))
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(std=0.3)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        return model.eval()

    def example(self) -> Any:
        """The batch, the same on every call."""
        torch.manual_seed(1)
        return self.inputs()


def noise(*shape: int) -> Callable[[], Tensor]:
    """Makes Gaussian inputs."""
    return lambda: torch.randn(*shape)


def words(*shape: int, count: int = 11) -> Callable[[], Tensor]:
    """Makes numbers of words."""
    return lambda: torch.randint(0, count, shape)


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Pool(nn.Module):
    """Mean over space or time, then classes."""

    def __init__(self, channels: int, classes: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(2).mean(2))
