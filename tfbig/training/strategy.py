"""Where training runs: one device, several on one machine, several machines, or a TPU."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from tfbig.errors import InvalidArgument, unknown

_TPU_VARIABLES = ("TPU_NAME", "COLAB_TPU_ADDR", "TPU_WORKER_HOSTNAMES", "TPU_ACCELERATOR_TYPE")
_TPU_DEVICES = ("accel0", "vfio/0")


def strategy(name: str | tf.distribute.Strategy = "none") -> tf.distribute.Strategy:
    """Returns the distribution strategy for a name.

    Args:
        name: "none" (one device), "mirrored" (all GPUs of this machine, or all logical CPUs where there is no GPU),
            "multiworker" (machines listed in the `TF_CONFIG` environment variable), "tpu" (Colab, Cloud, or a
            TPU VM), or a `tf.distribute.Strategy`, which is returned as it is.

    Raises:
        InvalidArgument: an unknown name, or hardware and settings that are not there; the message says what to
            check.
    """
    if isinstance(name, tf.distribute.Strategy):
        return name
    if name not in _MAKERS:
        raise unknown("strategy", name, _MAKERS)
    return _MAKERS[name]()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files; of several machines, one is."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return True
    alone = "chief" not in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (alone and resolver.task_type == "worker" and resolver.task_id == 0)


def _mirrored() -> tf.distribute.Strategy:
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in gpus or cpus])


def _multiworker() -> tf.distribute.Strategy:
    _check_cluster(os.environ.get("TF_CONFIG"))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise InvalidArgument(
            f"`strategy='multiworker'` must be made before anything else of TensorFlow runs: {error} Call "
            "tfbig.training.strategy('multiworker') first in the program and pass the result."
        ) from error


def _check_cluster(text: str | None) -> None:
    """Raises `InvalidArgument` unless `text` is a usable `TF_CONFIG`; TensorFlow itself would wait forever."""
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    if not text:
        raise InvalidArgument(
            "`strategy='multiworker'` needs the environment variable TF_CONFIG on every machine, e.g. "
            f"{example}, "
            "with that machine's own index."
        )
    try:
        settings = json.loads(text)
        workers, task = settings["cluster"]["worker"], settings["task"]
        index = int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"TF_CONFIG must look like {example}, received {text!r}.") from error
    if task.get("type") == "worker" and not 0 <= index < len(workers):
        raise InvalidArgument(
            f"TF_CONFIG gives this machine the index {index}, but lists {len(workers)} workers: {workers}."
        )


def _tpu() -> tf.distribute.Strategy:
    local = any((Path("/dev") / name).exists() for name in _TPU_DEVICES)
    if not local and not any(os.environ.get(name) for name in _TPU_VARIABLES):
        raise InvalidArgument(
            "`strategy='tpu'` found no TPU: there is no TPU device here and none of "
            f"{', '.join(_TPU_VARIABLES)} is set. On Colab choose Runtime > Change runtime type > TPU; on "
            "Cloud "
            "set TPU_NAME to the name of the TPU node; on a TPU VM check that libtpu is installed."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local" if local else "")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InvalidArgument(
            f"`strategy='tpu'` could not reach the TPU: {error} Check that it is running, that this machine "
            "is in "
            "its network and zone, and that its TensorFlow version is that of this machine."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_MAKERS: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "none": tf.distribute.get_strategy,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "tpu": _tpu,
}
