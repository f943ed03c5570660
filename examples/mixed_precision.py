"""Half the bits, twice the devices: `mixed_float16` training on all GPUs of a machine.

    python examples/mixed_precision.py [--quick]

Without a GPU the processor is split into two logical devices, so that the same program runs anywhere: there it shows
that the training is the same one, not that it is faster. Prints the accuracy of the trained model in float32, with
one device and with all, and the loss scale that was in use at the end.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

import tfbig

EXAMPLES = 64  # Of each step, on all devices together.


class LossScale(keras.callbacks.Callback):
    """Remembers by how much the loss was scaled, so that small gradients do not vanish in 16 bits."""

    last = 1.0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        scale = getattr(self.model.optimizer, "dynamic_scale", 1.0)
        self.last = float(keras.ops.convert_to_numpy(scale))


def main(quick: bool) -> dict[str, float]:
    """Trains twice, and returns both accuracies."""
    if not tf.config.list_physical_devices("GPU"):
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    epochs = 3 if quick else 15
    one, _ = train(epochs, strategy="none", precision="float32")
    print(f"one device, float32: accuracy {one:.3f}")
    mirrored = tfbig.training.strategy("mirrored")
    several, scale = train(epochs, strategy=mirrored, precision="mixed_float16")
    print(f"{mirrored.num_replicas_in_sync} devices, mixed_float16: accuracy {several:.3f}  loss scale {scale:.0f}")
    return {"one": one, "several": several}


def train(epochs: int, strategy: str | tf.distribute.Strategy, precision: str) -> tuple[float, float]:
    """Returns the accuracy on the test split, and the last loss scale."""
    data = tfbig.data.load("digits", batch_size=EXAMPLES)
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", input_shape=data.spec.input_shape, units=(256, 128))
    scale = LossScale()
    options = {"strategy": strategy, "precision": precision, "callbacks": [scale]}
    tfbig.training.fit(model, data, epochs=epochs, learning_rate=5e-3, schedule="cosine", verbose=2, **options)
    return model.evaluate(data.test, verbose=0)[1], scale.last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    main(parser.parse_args().quick)
