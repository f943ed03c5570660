"""Layers of Keras 1 in the terms of Keras 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfbig.errors import InvalidModel
from tfbig.models.safety import describe

if TYPE_CHECKING:
    from tfbig.models.legacy.source import Source

_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Deconvolution2D": "Conv2DTranspose",
}
_MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate"}

# Old option to new, for every class unless `_BY_CLASS` says otherwise.
_OPTIONS = {
    "output_dim": "units",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
    "border_mode": "padding",
    "pool_length": "pool_size",
    "stride": "strides",
    "length": "size",
    "p": "rate",
    "sigma": "stddev",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "gamma_init": "gamma_initializer",
    "beta_init": "beta_initializer",
}
_BY_CLASS = {
    "Embedding": {
        "output_dim": "output_dim",
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "SeparableConvolution2D": {"init": "depthwise_initializer"},
}
_IGNORED = (
    "input_dim",
    "input_dtype",
    "consume_less",
    "forget_bias_init",
    "output_shape",
    "nb_row",
    "nb_col",
)


def upgraded(entry: dict[str, Any], source: Source) -> dict[str, Any]:
    """Returns a Keras 1 entry with the class and the options that Keras 2 has for it.

    Raises:
        InvalidModel: a mode that Keras dropped (`Merge` by cosine, `BatchNormalization(mode=2)`, ...).
    """
    name, config = entry["class_name"], dict(entry["config"])
    if name == "Merge":
        return {**entry, **_merge(entry, source)}
    if config.pop("mode", 0) != 0:
        raise InvalidModel(f"`{source.path}`: {describe(entry)} has a mode that Keras dropped after version 1.")
    if "nb_row" in config:
        config["kernel_size"] = [config["nb_row"], config["nb_col"]]
    if "dim_ordering" in config:
        config["data_format"] = {"th": "channels_first", "tf": "channels_last"}[config.pop("dim_ordering")]
    if name in ("Embedding",) and not config.get("dropout"):
        config.pop("dropout", None)
    kept = [key for key in config if key not in _IGNORED or (name, key) == ("Embedding", "input_dim")]
    names = {**_OPTIONS, **_BY_CLASS.get(name, {})}
    renamed = {names.get(key, key): config[key] for key in kept}
    return {**entry, "class_name": _CLASSES.get(name, name), "config": renamed}


def _merge(entry: dict[str, Any], source: Source) -> dict[str, Any]:
    config = entry["config"]
    mode = config.get("mode")
    if mode not in _MERGES:
        raise InvalidModel(
            f"`{source.path}`: {describe(entry)} merges by {mode!r}; only {', '.join(_MERGES)} have a counterpart."
        )
    options = {"name": config["name"]}
    if mode == "concat":
        options["axis"] = config.get("concat_axis", -1)
    return {"class_name": _MERGES[mode], "config": options}
