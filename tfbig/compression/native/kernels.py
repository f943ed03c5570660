"""Which variables of a model are worth compressing, and which of their axes are output channels."""

from __future__ import annotations

import dataclasses
import fnmatch

import keras
import numpy as np

from tfbig.errors import InvalidArgument, InvalidModel, nearest

# Axes of a kernel that count output channels, by layer type and attribute. Quantization gives each its own scale.
_CHANNEL_AXES: dict[str, dict[str, tuple[int, ...]]] = {
    "Conv1D": {"kernel": (-1,)},
    "Conv2D": {"kernel": (-1,)},
    "Conv3D": {"kernel": (-1,)},
    "Conv1DTranspose": {"kernel": (-2,)},
    "Conv2DTranspose": {"kernel": (-2,)},
    "Conv3DTranspose": {"kernel": (-2,)},
    "DepthwiseConv1D": {"kernel": (-2, -1)},
    "DepthwiseConv2D": {"kernel": (-2, -1)},
    "SeparableConv1D": {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)},
    "SeparableConv2D": {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)},
    "Dense": {"kernel": (-1,)},
    "Embedding": {"embeddings": (0,)},
    "ReversibleEmbedding": {"embeddings": (0,)},
    "SimpleRNNCell": {"kernel": (-1,), "recurrent_kernel": (-1,)},
    "LSTMCell": {"kernel": (-1,), "recurrent_kernel": (-1,)},
    "GRUCell": {"kernel": (-1,), "recurrent_kernel": (-1,)},
    "ConvLSTMCell": {"kernel": (-1,), "recurrent_kernel": (-1,)},
}
_SHARED = 4  # A value that stands for fewer weights than this on average was not shared on purpose.
TINY = 32  # Tensors with fewer elements are left alone: they cost more to compress than they weigh.


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One compressible weight tensor."""

    variable: keras.Variable
    layer: keras.layers.Layer
    attribute: str
    channel_axes: tuple[int, ...]  # non-negative

    @property
    def name(self) -> str:
        """The variable's path, which is how reports and overrides name it."""
        return self.variable.path

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def compressible_kernels(model: keras.Model, *, min_size: int = TINY) -> list[Kernel]:
    """The weight tensors of rank 2 and more that multiply activations, each once, in the order of the layers.

    Biases, normalisation scales and tensors below `min_size` elements are left out. A custom layer's own trainable
    tensors of rank 2 and more count, with their last axis as output channels.

    Raises:
        InvalidModel: the model has no such tensor, or one of them holds NaN or infinity.
    """
    kernels = [kernel for kernel in _kernels(model) if kernel.size >= min_size]
    if not kernels:
        raise InvalidModel(
            f"`model` '{model.name}' has no weight tensor of rank 2 or more with at least {min_size} elements, so "
            "there is nothing to compress. Expected at least one Dense, convolution, Embedding or recurrent layer."
        )
    for kernel in kernels:
        if not np.all(np.isfinite(kernel.variable.numpy())):
            raise InvalidModel(
                f"`model` holds NaN or infinite values in '{kernel.name}'. Train it again with a smaller learning "
                "rate, or load the last good weights, before compressing it."
            )
    return kernels


def weighted_layers(model: keras.Model) -> list[str]:
    """The names of the layers that have such tensors, of any size."""
    return sorted({kernel.layer.name for kernel in _kernels(model)})


def _kernels(model: keras.Model) -> list[Kernel]:
    found: dict[int, Kernel] = {}
    for layer in model._flatten_layers():
        for attribute, axes in _candidates(layer).items():
            variable = getattr(layer, attribute, None)
            if isinstance(variable, keras.Variable) and id(variable) not in found:
                rank = len(variable.shape)
                found[id(variable)] = Kernel(variable, layer, attribute, tuple(a % rank for a in axes))
    return list(found.values())


def shares_values(weights: np.ndarray) -> bool:
    """Whether few values stand for all weights, as after clustering; zeros are not counted, for those are pruning's."""
    others = weights[weights != 0]
    return np.unique(others).size * _SHARED <= others.size > 0


def matches(pattern: str, kernel: Kernel) -> bool:
    """Whether a per-layer pattern means this kernel: a layer type, or a glob on the layer's name or path."""
    return names_layer(pattern, kernel.layer) or fnmatch.fnmatchcase(kernel.name, pattern)


def names_layer(pattern: str, layer: keras.layers.Layer) -> bool:
    """Whether a per-layer pattern means this layer: its type, or a glob on its name or path."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in (type(layer).__name__, layer.name, layer.path))


def check_patterns(argument: str, patterns: list[str], kernels: list[Kernel]) -> None:
    """Raises `InvalidArgument` for a pattern that matches no kernel, with the nearest layer names."""
    for pattern in patterns:
        if not any(matches(pattern, kernel) for kernel in kernels):
            names = sorted({kernel.layer.name for kernel in kernels})
            raise InvalidArgument(
                f"`{argument}` has the pattern '{pattern}', which matches no compressible layer. Expected a layer "
                f"name, a glob such as 'block1_*', or a layer type such as 'Dense'. "
                f"Layers: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}.{nearest(pattern, names)}"
            )


def _candidates(layer: keras.layers.Layer) -> dict[str, tuple[int, ...]]:
    for cls in type(layer).__mro__:
        if cls.__module__.startswith("keras.src.layers"):
            if cls.__name__ == "EinsumDense":
                return {"kernel": _einsum_channels(layer.equation)}
            if cls.__name__ in _CHANNEL_AXES:
                return _CHANNEL_AXES[cls.__name__]
    if type(layer).__module__.startswith("keras."):
        return {}
    own = {id(v) for v in layer._trainable_variables}
    return {
        name: (-1,)
        for name, value in vars(layer).items()
        if isinstance(value, keras.Variable) and id(value) in own and len(value.shape) >= 2
    }


def _einsum_channels(equation: str) -> tuple[int, ...]:
    """The kernel's axes that survive into the output: (1, 2) for "abc,cde->abde"."""
    inputs, output = equation.replace(" ", "").split("->")
    kernel = inputs.split(",")[1].replace("...", "")
    return tuple(axis for axis, letter in enumerate(kernel) if letter in output)
