"""What tf_keras saved in TFMOT's wrappers comes to Keras 3 with its masks, clusters and ranges."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tfmot_models import convnet, kernel, samples, tf_keras_convnet, zeros

import tfbig
from tfbig.compression.tfmot.migrate import migrate, summary
from tfbig.compression.tfmot.toolkit import toolkit, toolkit_module
from tfbig.errors import InvalidFile, InvalidModel

sparsity, clustering, quantization = (getattr(toolkit(), n).keras for n in ("sparsity", "clustering", "quantization"))
combine = toolkit().experimental.combine
cluster_weights = toolkit_module("clustering.keras.experimental.cluster").cluster_weights
SUFFIXES = [".h5", ".keras", ""]
HALF = sparsity.ConstantSparsity(0.5, 0, frequency=1)


pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:No clustering performed"),
]


def trained(model: tf_keras.Model, *callbacks: Any) -> tf_keras.Model:
    model.compile("adam", "mse")
    model.fit(*samples(), batch_size=8, verbose=0, callbacks=list(callbacks))
    return model


@functools.cache
def pruned() -> tf_keras.Model:
    return trained(sparsity.prune_low_magnitude(tf_keras_convnet(), HALF), sparsity.UpdatePruningStep())


@functools.cache
def clustered(*, zeros: bool = False, per_channel: bool = False) -> tf_keras.Model:
    model = sparsity.strip_pruning(pruned.__wrapped__()) if zeros else tf_keras_convnet()
    kinds = clustering.CentroidInitialization

    def step(layer: Any) -> Any:
        if not isinstance(layer, tf_keras.layers.Dense) and type(layer) is not tf_keras.layers.Conv2D:
            return layer
        return cluster_weights(
            layer, 4, kinds.KMEANS_PLUS_PLUS, preserve_sparsity=zeros, cluster_per_channel=per_channel
        )

    return trained(tf_keras.models.clone_model(model, clone_function=step))


@functools.cache
def quantized() -> tf_keras.Model:
    return trained(quantization.quantize_model(tf_keras_convnet()))


@functools.cache
def preserving(first: str) -> tf_keras.Model:
    """Trained under TFMOT's collaborative schemes."""
    if first == "pruned":
        model, scheme = sparsity.strip_pruning(pruned.__wrapped__()), combine.Default8BitPrunePreserveQuantizeScheme()
    else:
        model = clustering.strip_clustering(clustered.__wrapped__(zeros=first == "both"))
        scheme = combine.Default8BitClusterPreserveQuantizeScheme(first == "both")
    return trained(quantization.quantize_apply(quantization.quantize_annotate_model(model), scheme))


def saved(make: Callable[[], tf_keras.Model], path: Path) -> tuple[Path, np.ndarray]:
    model = make()
    outputs = model.predict(samples()[0], verbose=0)
    model.save(path)
    return path, outputs


def assert_equal_outputs(model: keras.Model, expected: np.ndarray) -> None:
    np.testing.assert_allclose(model.predict(samples()[0], verbose=0), expected, atol=1e-6)


@pytest.fixture(scope="module", params=SUFFIXES)
def quantized_file(request, tmp_path_factory) -> tuple[Path, np.ndarray]:
    return saved(quantized, tmp_path_factory.mktemp("quantized") / f"model{request.param}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_masks_become_zeros(suffix: str, tmp_path: Path) -> None:
    path, outputs = saved(pruned, tmp_path / f"model{suffix}")
    model = migrate(path)
    assert_equal_outputs(model, outputs)
    assert [layer.name for layer in model.layers] == [layer.name for layer in convnet().layers]
    assert zeros(kernel(model, "conv")) == zeros(kernel(model, "dense")) == 0.5
    tfbig.Prune(sparsity=0.5, engine="tfmot").verify(model)


def test_masks_are_those_of_the_file_not_of_the_end_of_the_schedule(tmp_path: Path) -> None:
    """A training that was stopped half-way is not pruned to its target in one blow, nor is an unmasked weight lost."""
    schedule = sparsity.PolynomialDecay(0.25, 0.9, 1, 1001, frequency=1000)
    model = sparsity.prune_low_magnitude(tf_keras_convnet(), schedule)
    trained(model, sparsity.UpdatePruningStep())
    wrapper = model.get_layer("prune_low_magnitude_dense")
    wrapper.pruning_vars[0][0].assign_add(tf.ones((576, 10)))  # As the optimizer does between two renewals.
    model.save(tmp_path / "model.h5")
    found = kernel(migrate(tmp_path / "model.h5"), "dense")
    np.testing.assert_array_equal(found == 0, wrapper.pruning_vars[0][1].numpy() == 0)
    assert zeros(found) == 0.25


class Steps(sparsity.PruningSchedule):
    """A schedule of the user's own, which only his program has."""

    def __call__(self, step: Any) -> Any:
        return tf.constant(True), tf.constant(0.5)

    def get_config(self) -> dict[str, Any]:
        return {"class_name": "Steps", "config": {}}


def test_a_schedule_of_the_users_own_is_not_needed(tmp_path: Path) -> None:
    path, outputs = saved(
        lambda: trained(sparsity.prune_low_magnitude(tf_keras_convnet(), Steps()), sparsity.UpdatePruningStep()),
        tmp_path / "model.h5",
    )
    assert_equal_outputs(migrate(path), outputs)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("options", [{}, {"zeros": True}, {"per_channel": True}], ids=["plain", "zeros", "channels"])
def test_tables_become_weights(options: dict[str, bool], suffix: str, tmp_path: Path) -> None:
    """Also those with zeros, which come out of TFMOT's own loading with other outputs."""
    path, outputs = saved(lambda: clustered(**options), tmp_path / f"model{suffix}")
    model = migrate(path)
    assert_equal_outputs(model, outputs)
    values = np.moveaxis(kernel(model, "conv"), -1, 0) if "per_channel" in options else kernel(model, "conv")[None]
    assert max(np.unique(row).size for row in values) <= 4
    assert (zeros(kernel(model, "dense")) >= 0.5) == ("zeros" in options)


def test_ranges_stay(quantized_file: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, outputs = quantized_file
    model = migrate(path)
    assert_equal_outputs(model, outputs)
    before = [v.numpy() for v in model.variables]
    model.save(tmp_path / "migrated.keras")
    loaded = tfbig.load(tmp_path / "migrated.keras")
    for old, new in zip(before, loaded.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert_equal_outputs(loaded, outputs)


def test_the_integer_file_has_these_ranges(quantized_file: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, expected = quantized_file
    model = migrate(path)
    file = tfbig.export(model, tmp_path / "model.tflite")
    assert not tfbig.inspect(file).float_ops
    runner = Interpreter(str(file)).get_signature_runner()
    (name,) = runner.get_input_details()
    received = np.concatenate([next(iter(runner(**{name: row[None]}).values())) for row in samples()[0]])
    ranges = {v.path.rsplit("/", 1)[-1]: float(v.numpy()) for v in model.variables if "quant_dense/post" in v.path}
    step = (ranges["post_activation_max"] - ranges["post_activation_min"]) / 255
    assert np.min(np.diff(np.unique(received))) == pytest.approx(step, rel=1e-3)
    assert np.max(np.abs(received - expected)) <= 1.01 * step


def test_it_trains_on(quantized_file: tuple[Path, np.ndarray]) -> None:
    model = migrate(quantized_file[0])
    before = [v.numpy() for v in model.variables]
    model.compile("adam", "mse")
    model.fit(*samples(), epochs=2, verbose=0)
    changed = {v.path for v, old in zip(model.variables, before, strict=True) if not np.array_equal(v.numpy(), old)}
    assert {"tfmot_quantize/quant_dense/kernel", "tfmot_quantize/quant_dense/post_activation_max"} <= changed


@pytest.mark.parametrize("suffix", [".h5", ""])
@pytest.mark.parametrize("first", ["pruned", "clustered", "both"])
def test_what_collaborative_schemes_kept_stays(first: str, suffix: str, tmp_path: Path) -> None:
    path, outputs = saved(lambda: preserving(first), tmp_path / f"model{suffix}")
    model = migrate(path)
    assert_equal_outputs(model, outputs)
    dense = next(v.numpy() for v in model.variables if v.path.endswith("dense/kernel"))
    assert (zeros(dense) >= 0.5) == (first != "clustered")
    assert (np.unique(dense).size <= 4) == (first != "pruned")


def test_clusters_in_an_archive_are_refused(tmp_path: Path) -> None:
    """tf_keras does not say there which variable is which."""
    path, _ = saved(lambda: preserving("clustered"), tmp_path / "model.keras")
    with pytest.raises(InvalidFile, match=r"do not fit the model: Layer 'quant_conv' .* as .h5 or as a SavedModel"):
        migrate(path)


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model.ckpt"])
@pytest.mark.parametrize("architecture", [convnet, tf_keras_convnet], ids=["keras", "tf_keras"])
def test_checkpoints_with_an_architecture(architecture: Callable[[], Any], name: str, tmp_path: Path) -> None:
    model = quantized()
    model.save_weights(tmp_path / name)
    migrated = migrate(tmp_path / name, architecture=architecture())
    assert_equal_outputs(migrated, model.predict(samples()[0], verbose=0))


def test_checkpoint_without_its_architecture(tmp_path: Path) -> None:
    quantized().save_weights(tmp_path / "model.weights.h5")
    path = tmp_path / "model.weights.h5"
    with pytest.raises(InvalidFile, match=rf"weights only.* tfbig.migrate\('{path}', architecture=model\)"):
        migrate(path)
    small = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
    with pytest.raises(InvalidFile, match="the weights do not fit the model"):
        migrate(path, architecture=small)
    with pytest.raises(InvalidFile, match=r"nothing.ckpt` does not exist"):
        migrate(tmp_path / "nothing.ckpt", architecture=small)


def test_nested_and_recurrent_layers(tmp_path: Path) -> None:
    inner = tf_keras.Sequential([tf_keras.Input((4, 6)), tf_keras.layers.LSTM(8, name="memory")], name="inner")
    inputs = tf_keras.Input((4, 6))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(10, name="out")(inner(inputs)))
    x = samples(shape=(4, 6))
    wrapped = sparsity.prune_low_magnitude(model, HALF)
    wrapped.compile("adam", "mse")
    wrapped.fit(*x, verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    wrapped.save(tmp_path / "model")
    migrated = migrate(tmp_path / "model")
    np.testing.assert_allclose(migrated.predict(x[0], verbose=0), wrapped.predict(x[0], verbose=0), atol=1e-5)
    assert zeros(migrated.get_layer("inner").get_layer("memory").cell.recurrent_kernel.numpy()) == 0.5


@tf_keras.saving.register_keras_serializable("test")
class OnlyRanges(quantization.QuantizeConfig):
    """A QuantizeConfig of the user's own: activations alone."""

    def get_weights_and_quantizers(self, layer):
        return []

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        pass

    def set_quantize_activations(self, layer, quantize_activations):
        pass

    def get_output_quantizers(self, layer):
        return [quantization.quantizers.MovingAverageQuantizer(8, False, False, False)]

    def get_config(self):
        return {}


def test_a_quantize_config_of_the_users_own(tmp_path: Path) -> None:
    def annotate(layer: Any) -> Any:
        config = OnlyRanges() if layer.name == "dense" else None
        return quantization.quantize_annotate_layer(layer, config)

    annotated = tf_keras.models.clone_model(tf_keras_convnet(), clone_function=annotate)
    with quantization.quantize_scope({"OnlyRanges": OnlyRanges}):
        model = trained(quantization.quantize_apply(annotated))
    model.save(tmp_path / "model.h5")
    annotated.save(tmp_path / "annotated.h5")
    migrated = migrate(tmp_path / "model.h5", custom_objects={"OnlyRanges": OnlyRanges})
    assert_equal_outputs(migrated, model.predict(samples()[0], verbose=0))
    with pytest.raises(InvalidModel, match=r"annotated for quantization and not quantized.*tfbig.Quantize\('int8'\)"):
        migrate(tmp_path / "annotated.h5")


def test_a_file_without_wrappers_is_loaded(tmp_path: Path) -> None:
    old = tf_keras_convnet()
    old.save(tmp_path / "model.h5")
    assert_equal_outputs(migrate(tmp_path / "model.h5"), old.predict(samples()[0], verbose=0))
    new = convnet()
    new.save(tmp_path / "model.keras")
    assert_equal_outputs(migrate(str(tmp_path / "model.keras")), new.predict(samples()[0], verbose=0))


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with another configuration."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def replaced_by(entry: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        flatten = next(e for e in config["config"]["layers"] if "flatten" in e["config"]["name"])
        flatten.update(class_name=entry["class_name"], config={"name": flatten["name"], **entry["config"]})

    return change


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class_name": "Lambda", "config": {"function": ["4wA=", None, None]}}, "holds code.*Lambda"),
        ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "calls tf.io.write_file, which has no"),
        ({"class_name": "TensorFlowOpLayer", "config": {"node_def": ""}}, "which calls whatever the file names"),
        (
            {"class_name": "Unheard", "config": {}},
            r"cannot be rebuilt in tf_keras, .* for layer '.*flatten' of class Unheard.*`custom_objects`",
        ),
    ],
)
def test_files_that_are_refused(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    path, _ = saved(pruned, tmp_path / "model.h5")
    with pytest.raises((InvalidFile, InvalidModel), match=message):
        migrate(rewritten(path, replaced_by(entry)))


def test_a_migrated_file_with_code_is_refused(tmp_path: Path) -> None:
    model = migrate(saved(quantized, tmp_path / "model.h5")[0])
    model.save(tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad:
        for name in good.namelist():
            bad.writestr(
                name,
                good.read(name).replace(b'\\"class_name\\": \\"QuantizeLayer\\"', b'\\"class_name\\": \\"Lambda\\"'),
            )
    with pytest.raises(InvalidFile, match="holds code: .*class Lambda"):
        tfbig.load(tmp_path / "bad.keras")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path, _ = saved(pruned, tmp_path / "model.h5")

    def change(config: dict[str, Any]) -> None:
        dense = next(e for e in config["config"]["layers"] if "dense" in e["config"]["name"])
        dense["config"]["layer"]["config"]["units"] = 11

    with pytest.raises(InvalidFile, match=r"do not fit the model: Layer 'prune_low_magnitude_dense' expects .*11"):
        migrate(rewritten(path, change))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_truncated_and_missing_files(suffix: str, tmp_path: Path) -> None:
    path, _ = saved(pruned, tmp_path / f"model{suffix}")
    (tmp_path / f"half{suffix}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for name, reason in ((f"half{suffix}", "is damaged or truncated"), (f"none{suffix}", "does not exist")):
        with pytest.raises(InvalidFile, match=f"{name}` {reason}"):
            migrate(tmp_path / name)


def test_the_summary_counts(tmp_path: Path) -> None:
    found = summary(migrate(saved(lambda: clustered(zeros=True), tmp_path / "model.h5")[0]))
    assert found.most_values == 144 and 0.45 < found.zero_fraction < 0.5 and found.quantized_layers == 0
    assert summary(migrate(saved(quantized, tmp_path / "qat.h5")[0])).quantized_layers == 6
