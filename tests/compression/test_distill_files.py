"""Teachers that are files: Keras, LiteRT (float and int8) and SavedModel."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from distill_models import cnn, images, same, state

from tfbig.compression.distillation import litert
from tfbig.compression.distillation.teacher import Teacher
from tfbig.compression.techniques.distill import Distill
from tfbig.errors import InvalidArgument, InvalidFile, InvalidModel

LOSS = "sparse_categorical_crossentropy"
KINDS = ("keras", "saved_model", "float_litert", "int8_litert", "one_by_one")


def _litert(model, *, int8=False, batch=None):
    function = tf.function(model).get_concrete_function(tf.TensorSpec((batch, 8, 8, 1), "float32", name="image"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if int8:
        x, _ = images(64)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[i : i + 1]] for i in range(64))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The converter asks for statistics that the representative data gives.
        return converter.convert()


@pytest.fixture(scope="module")
def teacher():
    x, y = images(256)
    model = cnn(8, name="teacher", seed=0)
    model.compile("adam", LOSS)
    model.fit(x, y, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def files(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    teacher.save(folder / "teacher.keras")
    teacher.export(folder / "saved", verbose=False)
    (folder / "float.tflite").write_bytes(_litert(teacher))
    (folder / "int8.tflite").write_bytes(_litert(teacher, int8=True))
    (folder / "one.tflite").write_bytes(_litert(teacher, batch=1))
    names = ("teacher.keras", "saved", "float.tflite", "int8.tflite", "one.tflite")
    return {kind: str(folder / name) for kind, name in zip(KINDS, names, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_answers_as_the_model_it_was_made_of(kind, files, teacher):
    x, _ = images(21, seed=1)
    source = Teacher(files[kind])
    expected = teacher.predict(x, verbose=0)
    eager = source(tf.constant(x))["outputs"][0][0]
    graph = tf.function(source, autograph=False)(tf.constant(x))["outputs"][0][0]
    assert source.shapes() == {"outputs": [[(None, 10)]], "features": {}}
    assert source.sources[0].activations == ["softmax"]
    assert np.allclose(eager, expected, atol=0.1 if kind == "int8_litert" else 1e-5)
    assert np.allclose(eager, graph, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_teaches_and_is_saved_by_its_path(kind, files, tmp_path):
    x, y = images(64)
    technique = Distill(teacher=files[kind])
    assert technique.get_config() == {"teacher": files[kind]}
    prepared = technique.prepare(cnn())
    prepared.compile("adam", LOSS)
    history = prepared.fit(x, y, epochs=2, verbose=0).history
    assert history["distillation_loss"][1] < history["distillation_loss"][0]
    prepared.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    assert loaded.own_teachers == [] and same(state(loaded), state(prepared))
    assert len(loaded.weights) == len(cnn().weights)
    loaded.fit(x, y, verbose=0)


@pytest.mark.parametrize("kind", ["saved_model", "one_by_one"])
def test_answers_of_a_file_are_cached(kind, files, tmp_path, teacher):
    x, y = images(24)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(24).batch(8)
    for _ in range(2):
        for images_, taught in Distill(teacher=files[kind]).cache(dataset, tmp_path):
            expected = teacher.predict(images_, verbose=0)
            assert np.allclose(taught.knowledge["outputs"][0][0], expected, atol=1e-5)
    assert (tmp_path / "keys.bin").stat().st_size == 24 * 8


def test_layers_of_a_keras_file_can_be_seen(files):
    prepared = Distill(teacher=files["keras"], features=["relu0"]).prepare(cnn())
    assert prepared.projections[0].kernel.shape == (4, 8)


@pytest.mark.parametrize("kind", ["saved_model", "float_litert"])
def test_layers_of_other_files_cannot(kind, files):
    with pytest.raises(InvalidArgument, match="need the layers of a Keras model, but teacher '.*' is a file without"):
        Distill(teacher=files[kind], features=["relu0"]).prepare(cnn())


def test_a_file_with_other_outputs(files):
    with pytest.raises(InvalidModel) as error:
        Distill(teacher=files["float_litert"]).prepare(cnn(classes=3))
    assert "`teacher` 'float.tflite' gives outputs of shape (None, 10), the student 'student' (None, 3)" in str(
        error.value
    )


def test_integers_go_in_as_integers(tmp_path):
    tokens = keras.Input((5,), dtype="int32")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(20, 4)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(3)(embedded))
    function = tf.function(model).get_concrete_function(tf.TensorSpec((None, 5), "int32", name="tokens"))
    path = tmp_path / "tokens.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())
    x = np.random.default_rng(0).integers(0, 20, (7, 5))
    assert litert.describe(str(path))[0][0][2] == "int32"
    assert np.allclose(Teacher(path)(tf.constant(x))["outputs"][0][0], model(x), atol=1e-5)


def test_several_inputs_are_matched_by_name(tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"b": b, "a": a}, keras.layers.Dense(2)(keras.layers.Concatenate()([b, a])))
    model.export(tmp_path / "saved", verbose=False)
    generator = np.random.default_rng(0)
    x = {"a": tf.constant(generator.normal(size=(4, 3)), "float32")}
    x["b"] = tf.constant(generator.normal(size=(4, 2)), "float32")
    teacher = Teacher(tmp_path / "saved")
    assert np.allclose(teacher(x)["outputs"][0][0], model(x), atol=1e-5)
    with pytest.raises(InvalidModel, match="takes 2 inputs \\([ab], [ab]\\), the batch has 1"):
        teacher(x["a"])


def test_a_path_that_does_not_exist():
    with pytest.raises(
        InvalidFile, match="`teacher` 'missing.keras' does not exist. Give the path of a trained model."
    ):
        Distill(teacher="missing.keras")


def test_a_path_that_is_no_model(tmp_path):
    text = tmp_path / "teacher.txt"
    text.write_text("hello")
    for path in (text, tmp_path):
        with pytest.raises(
            InvalidFile, match="is not a model: expected a .keras, .h5 or .tflite file, or a SavedModel"
        ):
            Distill(teacher=path)


def test_a_litert_file_that_is_none(tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"not a flatbuffer" * 10)
    with pytest.raises(InvalidFile, match="broken.tflite' is not a LiteRT file that can be run"):
        Distill(teacher=path).prepare(cnn())


def test_a_saved_model_that_cannot_be_read(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 10)
    with pytest.raises(InvalidFile, match="is not a SavedModel that can be read"):
        Distill(teacher=tmp_path).prepare(cnn())


def test_a_saved_model_without_a_signature(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(InvalidFile, match="has no serving signature to call"):
        Distill(teacher=tmp_path).prepare(cnn())


def test_a_saved_model_for_one_batch_size(tmp_path):
    module = tf.Module()
    module.call = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec((4, 8), "float32", "x")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.call)
    with pytest.raises(InvalidFile, match="takes batches of a fixed size only"):
        Distill(teacher=tmp_path).prepare(cnn())
