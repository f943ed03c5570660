"""The TensorFlow Model Optimization Toolkit itself, imported when it is first needed."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from types import ModuleType
from typing import Any

import tensorflow as tf

from tfbig.errors import MissingPackage

_SWITCH = "TF_USE_LEGACY_KERAS"


@functools.cache
def toolkit() -> ModuleType:
    """Imports `tensorflow_model_optimization` and leaves the rest of the process as it was.

    TFMOT turns `tf.keras` into tf_keras for the whole process and its children; here `tf.keras` stays what it was.

    Raises:
        MissingPackage: TFMOT, or the setuptools that it imports, is not installed.
    """
    dir(tf.keras)  # Loads it: from now on `tf.keras` is what the user's environment says.
    before = os.environ.get(_SWITCH)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import tensorflow_model_optimization
    except ImportError as error:
        raise MissingPackage(
            f"engine='tfmot' needs TFMOT, which cannot be imported: {error}. Run: pip install "
            "tensorflow-model-optimization setuptools"
        ) from error
    finally:
        os.environ.pop(_SWITCH, None) if before is None else os.environ.update({_SWITCH: before})
    return tensorflow_model_optimization


def toolkit_module(path: str) -> ModuleType:
    """One of TFMOT's own modules, for what it has no public name for: "sparsity.keras.prune_registry"."""
    toolkit()
    return importlib.import_module(f"tensorflow_model_optimization.python.core.{path}")


def is_tf_keras(model: Any) -> bool:
    """Whether `model` is a tf_keras (Keras 2) model; imports nothing."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(model, tf_keras.Model)
