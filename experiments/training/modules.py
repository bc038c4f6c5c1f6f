"""Networks as torch trains them, and as graphs of layers when they are trained."""

from collections import Counter

import numpy as np
import torch
from netgain.layers import Add, Affine, BatchNormalization, Convolution, Flatten, Graph, GraphBuilder, Layer, Relu
from netgain.layers.layer import Shape
from torch import nn


class Residual(nn.Module):  # type: ignore[misc]
    """body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.body(x) + self.shortcut(x)
        return total


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """He initialisation of all weights, and zero biases, drawn from `generator` in the order of the modules.

    torch's own initialisation draws from its global generator.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def to_graph(network: nn.Module, shape: Shape, name: str) -> Graph:
    """The network in evaluation mode as a graph with input `image`; nodes are numbered within each kind.

    **Raises:** `TypeError` for a module that is none of those used here, or one with settings that are not.
    """
    converter = _Converter()
    return converter.builder.build(converter.add(network, converter.builder.input(shape, "image")), name)


class _Converter:
    def __init__(self) -> None:
        self.builder, self.numbers = GraphBuilder(), Counter[str]()

    def add(self, module: nn.Module, fed: str) -> str:
        """Adds what `module` does to the value of the node `fed`, and returns the node of the result."""
        match module:
            case nn.Sequential():
                for part in module:
                    fed = self.add(part, fed)
                return fed
            case Residual():
                body = self.add(module.body, fed)
                return self._node("add", Add((1, 1)), body, self.add(module.shortcut, fed))
            case nn.Identity():
                return fed
            case nn.Linear():
                return self._node("linear", Affine(_array(module.weight), _optional(module.bias)), fed)
            case nn.Conv2d(padding=(int(), int()) as padding, padding_mode="zeros"):
                convolution = Convolution(_array(module.weight), _optional(module.bias), module.stride, module.dilation,
                                          (padding, padding), module.groups)
                return self._node("conv", convolution, fed)
            case nn.BatchNorm2d(affine=True, running_mean=torch.Tensor() as mean, running_var=torch.Tensor() as var):
                # An attribute of an ONNX node is float32.
                epsilon = float(np.float32(module.eps))
                norm = BatchNormalization(_array(module.weight), _array(module.bias), _array(mean), _array(var),
                                          epsilon, trailing=2)
                return self._node("norm", norm, fed)
            case nn.ReLU():
                return self._node("relu", Relu(), fed)
            case nn.Flatten(start_dim=1, end_dim=-1):
                return self._node("flatten", Flatten(), fed)
        raise TypeError(f"{module} has no counterpart among the layers written here.")

    def _node(self, kind: str, layer: Layer, *fed: str) -> str:
        number = self.numbers[kind]
        self.numbers[kind] += 1
        return self.builder.add(layer, *fed, name=f"{kind}_{number}")


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().numpy())


def _optional(tensor: torch.Tensor | None) -> np.ndarray | None:
    return None if tensor is None else _array(tensor)
