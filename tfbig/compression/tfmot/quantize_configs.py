"""The user's own TFMOT `QuantizeConfig`s, as objects and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfbig.compression.tfmot.toolkit import toolkit
from tfbig.errors import InvalidArgument


def serialized(configs: Mapping[str, Any]) -> dict[str, Any]:
    """The configurations by layer pattern as JSON values."""
    import tf_keras  # Whoever has a QuantizeConfig has imported it.

    serialize = tf_keras.utils.legacy.serialize_keras_object
    return {
        pattern: config if isinstance(config, Mapping) else serialize(quantize_config(config))
        for pattern, config in configs.items()
    }


def quantize_config(config: Any) -> Any:
    """The `QuantizeConfig` that is given, or the one that JSON values describe.

    Raises:
        InvalidArgument: it is neither.
    """
    import tf_keras

    if isinstance(config, Mapping):
        try:
            config = tf_keras.utils.legacy.deserialize_keras_object(dict(config))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(
                f"`configs` names a QuantizeConfig that cannot be made: {error} Decorate its class with "
                "@tf_keras.saving.register_keras_serializable() and import it first."
            ) from error
    if not isinstance(config, toolkit().quantization.keras.QuantizeConfig):
        raise InvalidArgument(
            "`configs` must map layer patterns to instances of tensorflow_model_optimization.quantization.keras."
            f"QuantizeConfig, received {config!r}."
        )
    return config
