"""Parts of one model on two devices give the weights of one; in a process of its own, as for several devices."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument, InvalidModel
from tfbig.training import fit

SCRIPT = """
import json
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import tfbig
from tfbig.training.placement import spread
from tfbig.training import placement

x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32")
y = (x[:, 0, 0, 0] > 0).astype("int64")

def made():
    keras.utils.set_random_seed(0)
    return tfbig.models.build("resnet", input_shape=(8, 8, 1), width=0.25, classes=2)

def seen(model):
    return {"devices": {v.path: v.value.device for v in model.trainable_variables},
            "slots": {v.path: v.value.device for v in model.optimizer.variables if v.ndim}}

class Look(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        results.update(seen(self.model))

results = {}
where = {"stack2_*": "CPU:1", "stack3_*": "CPU:1"}
models, losses = [], []
for options in ({}, {"placement": where}, {"placement": where, "recompute": True}):
    models.append(made())
    look = [Look()] if options == {"placement": where} else []
    history = tfbig.training.fit(models[-1], (x, y), epochs=2, batch_size=16, optimizer="momentum", callbacks=look,
                                 learning_rate=0.05, verbose=0, **options)
    losses.append(history.history["loss"])
results["losses"] = losses
results["differences"] = [max(float(np.abs(a - b).max()) for a, b in zip(models[0].get_weights(), m.get_weights()))
                          for m in models[1:]]
plain = made()
with spread(plain, where) as parted:
    results["outputs"] = float(np.abs(plain(x) - parted(x)).max())

    @tf.function
    def gradients(x, of=None):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(parted(x, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in parted.trainable_variables])

    graph = gradients.get_concrete_function(tf.TensorSpec((16, 8, 8, 1))).graph
    for kind in ("Conv2D", "Conv2DBackpropFilter"):
        on = [op.device[-5:] for op in graph.get_operations() if op.type == kind]
        results[kind] = [on.count("CPU:1"), len(on)]
    theirs = gradients(x[:16])
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(plain(x[:16], training=True) ** 2)
ours = tape.gradient(loss, [v.value for v in plain.trainable_variables])
largest = max(float(np.abs(a).max()) for a in ours)  # A bias before a BatchNormalization has the gradient 0.
results["gradients"] = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs)) / largest
print("RESULT" + json.dumps(results))
"""


def test_two_devices_give_the_outputs_gradients_and_weights_of_one():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("RESULT")[1])
    for kind in ("devices", "slots"):
        for path, device in found[kind].items():
            assert device.endswith("CPU:1" if "stack2_" in path or "stack3_" in path else "CPU:0"), (path, device)
    assert len(found["slots"]) == len(found["devices"])
    assert found["Conv2D"] == [6, 9] and found["Conv2DBackpropFilter"] == [6, 9]
    assert found["outputs"] < 1e-6 and found["gradients"] < 1e-4
    for losses in found["losses"][1:]:
        np.testing.assert_allclose(losses, found["losses"][0], rtol=1e-4)
    assert max(found["differences"]) < 1e-3


@pytest.mark.parametrize(
    "placement, text",
    [
        ({"hidden1": "GPU:7"}, r"`placement\['hidden1'\]` must be a device of this machine, received 'GPU:7'.*CPU:0"),
        ({"hiden*": "CPU:0"}, r"`placement`: no layer is named like 'hiden\*'. Did you mean 'hidden1'"),
        ({}, "`placement` must be like"),
    ],
)
def test_errors_name_the_argument(placement, text):
    model = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=3)
    with pytest.raises(InvalidArgument, match=text):
        fit(model, (np.zeros((8, 6)), np.zeros(8, int)), placement=placement, verbose=0)


def test_one_way_to_use_several_devices_at_a_time():
    import tensorflow as tf

    model = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=3)
    with pytest.raises(InvalidArgument, match="`placement` puts parts of one model.*give one"):
        fit(
            model,
            (np.zeros((8, 6)), np.zeros(8, int)),
            placement={"*": "CPU:0"},
            strategy=tf.distribute.MirroredStrategy(["CPU:0"]),
        )


def test_models_that_are_no_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(InvalidModel, match="`placement` needs a Functional model"):
        fit(Own(), (np.zeros((8, 6)), np.zeros((8, 6))), placement={"*": "CPU:0"}, loss="mse", verbose=0)
