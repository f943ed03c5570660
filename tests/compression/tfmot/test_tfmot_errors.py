"""What TFMOT does not have or does not take is an error that names it and the next step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tfmot_models import convnet, tf_keras_convnet

import tfbig
from tfbig.errors import InvalidArgument, InvalidModel

K = tf_keras.layers


def tf_keras_model(*stack: Any, shape: tuple[int, ...] = (8, 8, 4)) -> tf_keras.Model:
    return tf_keras.Sequential([tf_keras.Input(shape), *stack], name="small")


@pytest.mark.parametrize("build", [convnet, tf_keras_convnet])
@pytest.mark.parametrize(
    ("technique", "message"),
    [
        (
            tfbig.Prune(scope="global", engine="tfmot"),
            r"`scope` is not an option of engine='tfmot', received scope='global'",
        ),
        (
            tfbig.Prune(pattern="2:4", begin=10, engine="tfmot"),
            r"`begin` is not an option .* received begin=10: TFMOT applies `pattern` once, in the first step",
        ),
        (
            tfbig.Prune(block_size=(2, 2), engine="tfmot"),
            r"`block_size` \(2, 2\) needs tensors of rank 2 in TFMOT, .*conv",
        ),
        (tfbig.Prune(sparsity=2 / 3, pattern="1:3", engine="tfmot"), r"has 4 input channels, which 3 does not divide"),
        (tfbig.Prune(layers={"cov": None}, engine="tfmot"), r"'cov', which matches no layer.*Did you mean 'conv'\?"),
        (tfbig.Cluster(seed=3, engine="tfmot"), r"`seed` is not an option of engine='tfmot', received seed=3"),
        (
            tfbig.Cluster(clusters=2, preserve_sparsity=True, engine="tfmot"),
            r"`clusters` must be at least 3 in TFMOT when zeros are kept, received 2",
        ),
        (
            tfbig.Cluster(layers={"Conv3D": None}, engine="tfmot"),
            r"`layers` has the pattern 'Conv3D', which matches no layer",
        ),
        (
            tfbig.Quantize("int4", engine="tfmot"),
            r"`dtype` is not an option .* received dtype='int4': TFMOT trains for int8",
        ),
        (tfbig.Quantize("int16x8", engine="tfmot"), r"received dtype='int16x8'.*Leave it out, or use engine='native'"),
        (tfbig.Quantize(momentum=0.9, engine="tfmot"), r"`momentum` is not an option .*have a momentum of 0.999"),
        (
            tfbig.Quantize(freeze_after=0.5, engine="tfmot"),
            r"`freeze_after` is not an option .* received freeze_after=0.5",
        ),
        (tfbig.Quantize(exempt="dens", engine="tfmot"), r"`exempt` has the pattern 'dens'.*Did you mean 'dense'\?"),
    ],
)  # fmt: skip
def test_options_that_tfmot_does_not_have(build: Any, technique: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        technique.prepare(build())


def test_a_pattern_is_for_dense_and_conv2d() -> None:
    model = tf_keras_model(K.Conv1D(8, 3, name="line"), shape=(8, 4))
    with pytest.raises(InvalidArgument, match=r"`pattern` is for Dense and Conv2D in TFMOT, but 'line' is a Conv1D"):
        tfbig.Prune(pattern="2:4").prepare(model)


def test_configs_are_tfmots() -> None:
    with pytest.raises(InvalidArgument, match=r"`configs` must map layer patterns to instances of .*QuantizeConfig"):
        tfbig.Quantize(configs={"dense": 3}).prepare(tf_keras_convnet())
    with pytest.raises(InvalidArgument, match=r"names a QuantizeConfig that cannot be made: .*NoSuchConfig"):
        config = {"class_name": "NoSuchConfig", "config": {}}
        tfbig.Quantize(configs={"dense": config}).prepare(tf_keras_convnet())
    with pytest.raises(
        InvalidArgument, match=r"`configs` are TFMOT's, received configs for dense with the native engine"
    ):
        tfbig.Quantize(configs={"dense": {}}).prepare(convnet())


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            K.BatchNormalization(name="alone"), (8,),
            r"TFMOT does not take layer 'alone' \(BatchNormalization\) of 'small'",
        ),
        (
            K.LSTM(3, name="memory"), (4, 8),
            r"layer 'memory' \(LSTM\) .* with exempt=\['memory'\], or use engine='native'",
        ),
        (
            K.Dense(3, activation="elu", name="bent"), (8,),
            r"the activation 'elu' of layer 'bent' \(Dense\).*exempt=\['bent'\]",
        ),
        (K.Activation("softplus", name="soft"), (8,), r"the activation 'softplus' of layer 'soft' \(Activation\)"),
        (K.Lambda(lambda x: x, name="code"), (8,), r"TFMOT does not quantize layer 'code', a Lambda"),
    ],
)  # fmt: skip
def test_layers_that_tfmot_does_not_quantize(layer: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        tfbig.Quantize().prepare(tf_keras_model(layer, shape=shape))


def test_an_operation_of_keras_3_is_called_by_its_name() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.ops.square(keras.layers.Dense(4)(inputs)), name="squared")
    with pytest.raises(InvalidModel, match=r"TFMOT does not take layer 'square(_\d+)?' \(Square\) of 'squared'"):
        tfbig.Quantize(engine="tfmot").prepare(model)


@pytest.mark.parametrize("name", ["Prune", "Cluster"])
def test_a_model_with_nothing_to_compress(name: str) -> None:
    with pytest.raises(InvalidModel, match=r"'small' has no layer that TFMOT (prunes|clusters): it takes Dense"):
        getattr(tfbig, name)().prepare(tf_keras_model(K.DepthwiseConv2D(3)))


def test_a_subclassed_tf_keras_model() -> None:
    class Own(tf_keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(InvalidModel, match=r"\(Own\) is a subclassed tf_keras model, which TFMOT does not take"):
        tfbig.Prune().prepare(Own())


def test_an_unbuilt_model_and_one_with_nan() -> None:
    with pytest.raises(InvalidModel, match=r"must be built, but 'unbuilt' has no weights yet"):
        tfbig.Prune().prepare(tf_keras.Sequential([K.Dense(2)], name="unbuilt"))
    model = tf_keras_convnet()
    model.get_layer("conv").kernel.assign(np.full((3, 3, 4, 16), np.nan))
    with pytest.raises(InvalidModel, match=r"holds NaN or infinite values in 'conv/kernel:0'"):
        tfbig.Prune().prepare(model)


@pytest.mark.parametrize("technique", [tfbig.Prune(), tfbig.Quantize()], ids=lambda t: t.name)
def test_mixed_precision(technique: Any) -> None:
    model = tf_keras_model(K.Flatten(), K.Dense(8, dtype="mixed_float16", name="half"))
    with pytest.raises(
        InvalidModel, match=r"layer 'half' computes in float16 with float32 weights, under which TFMOT fails"
    ):
        technique.prepare(model)


@pytest.mark.parametrize("build", [convnet, tf_keras_convnet])
def test_one_technique_at_a_time(build: Any) -> None:
    prepared = tfbig.Prune(engine="tfmot").prepare(build())
    with pytest.raises(
        InvalidModel, match=r"is wrapped by TFMOT for prune already. Finish that first: Prune\(...\).finish"
    ):
        tfbig.Quantize(engine="tfmot").prepare(prepared)


def test_the_engines_do_not_mix() -> None:
    with pytest.raises(
        InvalidModel, match=r"is being trained under prune by engine='native', and TFMOT cannot join in"
    ):
        tfbig.Quantize(engine="tfmot").prepare(tfbig.Prune(engine="native").prepare(convnet()))
    with pytest.raises(InvalidModel, match=r"tf_keras models are taken by engine='tfmot'"):
        tfbig.Prune(engine="native").prepare(tf_keras_convnet())


@pytest.mark.parametrize("build", [convnet, tf_keras_convnet])
@pytest.mark.parametrize("name", ["Prune", "Cluster", "Quantize"])
def test_only_what_was_prepared_can_be_finished(build: Any, name: str) -> None:
    with pytest.raises(InvalidModel, match=rf"'convnet' was not prepared with {name}\(engine='tfmot'\)"):
        getattr(tfbig, name)(engine="tfmot").finish(build())
