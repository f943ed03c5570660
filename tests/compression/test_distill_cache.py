"""The teacher's answers are computed once for each sample, found again by content, and right."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from distill_models import cnn, images, same, state

from tfbig.compression.distillation import cache
from tfbig.compression.techniques.distill import Distill
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile, InvalidModel


def batches(x, y, size=16, *, shuffle=True):
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    return (dataset.shuffle(len(x), seed=0) if shuffle else dataset).batch(size)


@pytest.fixture
def asked(monkeypatch):
    """Counts the samples that a teacher answers."""
    counts = []
    teach = cache._Answering.teach
    monkeypatch.setattr(
        cache._Answering, "teach", lambda self, keys, x: (counts.append(len(keys)), teach(self, keys, x))[1]
    )
    return counts


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_each_sample_is_answered_once_and_rightly(where, tmp_path, asked):
    x, y = images(50)
    teachers = cnn(8, name="teacher"), cnn(6)
    technique = Distill(teacher=teachers, features=["relu1"])
    dataset = technique.cache(batches(x, y), None if where == "memory" else tmp_path / "answers")
    assert int(dataset.cardinality()) == 4
    feature = keras.Model(teachers[0].input, teachers[0].get_layer("relu1").output)
    orders = []
    for _ in range(3):
        seen = 0
        for images_, taught in dataset:
            seen += len(images_)
            orders.append(tuple(taught.labels.numpy()))
            for answer, teacher in zip(taught.knowledge["outputs"], teachers, strict=True):
                assert np.allclose(answer[0], teacher(images_), atol=1e-6)
            assert np.allclose(taught.knowledge["features"]["relu1"], feature(images_), atol=1e-6)
        assert seen == 50
    assert sum(asked) == 50
    assert orders[:4] != orders[4:8]


def test_training_with_cached_answers_is_training_with_the_teacher():
    x, y = images()
    teacher, student = cnn(8, seed=1), cnn(seed=2)
    results = []
    for cached in (False, True):
        technique = Distill(teacher=teacher, features=["relu0"], attention=[("relu1", "relu0")])
        prepared = technique.prepare(student)
        for projection in prepared.projections:
            projection.set_weights([np.full(w.shape, 0.1) for w in projection.get_weights()])
        prepared.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        dataset = batches(x, y, shuffle=False)
        prepared.fit(technique.cache(dataset) if cached else dataset, epochs=3, shuffle=False, verbose=0)
        results.append(state(technique.finish(prepared)))
    assert all(np.allclose(results[0][path], results[1][path], atol=1e-5) for path in results[0])


def test_answers_on_disk_serve_the_next_process(tmp_path, asked):
    x, y = images(40)
    technique = Distill(teacher=cnn(8))
    for rows in (20, 40, 40):
        for _ in technique.cache(batches(x[:rows], y[:rows], 10, shuffle=False), tmp_path / "answers"):
            pass
    assert sum(asked) == 40


@pytest.mark.parametrize("file", ["rows.bin", "keys.bin"])
def test_a_half_written_row_is_dropped(file, tmp_path, asked):
    x, y = images(20)
    teacher = cnn(8)
    list(Distill(teacher=teacher).cache(batches(x, y, 5), tmp_path))
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-3])
    for images_, taught in Distill(teacher=teacher).cache(batches(x, y, 5), tmp_path):
        assert np.allclose(taught.knowledge["outputs"][0][0], teacher(images_), atol=1e-6)
    assert sum(asked) == 25


def test_other_weights_are_another_teacher(tmp_path):
    x, y = images(20)
    teacher = cnn(8)
    list(Distill(teacher=teacher).cache(batches(x, y), tmp_path))
    teacher.layers[1].bias.assign_add(np.ones(8))
    with pytest.raises(InvalidFile, match="holds the answers of another teacher, or other layers of it"):
        Distill(teacher=teacher).cache(batches(x, y), tmp_path)


def test_a_folder_with_something_else_in_it(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(InvalidFile, match="holds something else than a teacher cache. Choose an empty folder."):
        Distill(teacher=cnn(8)).cache(batches(*images(20)), tmp_path)


def test_equal_samples_share_an_answer(asked):
    x, y = images(8)
    dataset = Distill(teacher=cnn(8)).cache(batches(np.concatenate([x, x]), np.concatenate([y, y]), 16))
    first, second = (next(iter(dataset))[1].knowledge["outputs"][0][0].numpy() for _ in range(2))
    assert np.allclose(np.sort(first, axis=0), np.sort(second, axis=0), atol=1e-6)
    assert sum(asked) == 16


def test_new_samples_in_every_epoch_are_answered_and_told(asked):
    x, y = images(32)
    noisy = batches(x, y).map(lambda x, y: (x + tf.random.normal(tf.shape(x)), y))
    teacher = cnn(8)
    dataset = Distill(teacher=teacher).cache(noisy)
    list(dataset)
    with pytest.warns(UserWarning, match="yields samples that the teacher cache has not seen in a whole epoch"):
        for images_, taught in dataset:
            assert np.allclose(taught.knowledge["outputs"][0][0], teacher(images_), atol=1e-6)
    assert sum(asked) == 64


def test_weights_and_absent_labels_pass_through():
    x, y = images(16)
    technique = Distill(teacher=cnn(8), alpha=1.0)
    weighted = technique.cache(tf.data.Dataset.from_tensor_slices((x, y, y + 1)).batch(8))
    assert all(np.array_equal(weight, taught.labels + 1) for _, taught, weight in weighted)
    unlabelled = technique.cache(tf.data.Dataset.from_tensor_slices(x).batch(8))
    prepared = technique.prepare(cnn())
    prepared.compile("sgd")
    history = prepared.fit(unlabelled, shuffle=False, verbose=0).history
    assert history["loss"][0] > 0


def test_several_inputs_make_one_key():
    a, b = keras.Input((3,), name="a"), keras.Input((), dtype="int64", name="b")
    x = keras.layers.Concatenate()([a, keras.layers.Reshape((4,))(keras.layers.Embedding(5, 4)(b))])
    teacher = keras.Model({"a": a, "b": b}, keras.layers.Dense(2)(x))
    generator = np.random.default_rng(0)
    inputs = {"a": generator.normal(size=(12, 3)).astype("float32"), "b": generator.integers(0, 5, 12)}
    inputs["a"][1], inputs["b"][:2] = inputs["a"][0], (0, 1)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, np.zeros(12))).batch(4)
    cached = Distill(teacher=teacher, loss="mse").cache(dataset)
    for _ in range(2):
        for x, taught in cached:
            assert np.allclose(taught.knowledge["outputs"][0][0], teacher(x), atol=1e-6)


def test_fingerprints_tell_samples_apart():
    x = np.random.default_rng(0).normal(size=(1000, 3, 3)).astype("float32")
    keys = cache.fingerprints(tf.constant(x)).numpy()
    assert len(set(keys.tolist())) == 1000
    assert np.array_equal(keys[::-1], cache.fingerprints(tf.constant(x[::-1])).numpy())


def test_the_teacher_given_is_not_touched():
    x, y = images(32)
    teacher = cnn(8)
    before = state(teacher)
    list(Distill(teacher=teacher, features=["relu0"]).cache(batches(x, y)))
    assert same(state(teacher), before) and teacher.trainable


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ((np.zeros(3), np.zeros(3)), "`dataset` must be a tf.data.Dataset of batches, received tuple."),
        (tf.data.Dataset.from_tensor_slices(np.zeros((4, 8, 8, 1))), "`dataset` gives inputs of shape (8, 8, 1)"),
        (tf.data.Dataset.from_tensors(np.zeros((4, 9, 9, 1))), "the teacher 'student' takes (None, 8, 8, 1)"),
    ],
)
def test_a_dataset_that_does_not_fit(dataset, text):
    with pytest.raises(InvalidData) as error:
        Distill(teacher=cnn(8)).cache(dataset)
    assert text in str(error.value)


def test_answers_without_a_fixed_size():
    tokens = keras.Input((None,), dtype="int64")
    teacher = keras.Model(tokens, keras.layers.Embedding(10, 4)(tokens))
    with pytest.raises(InvalidData, match="fixed size for each sample, received \\(None, None, 4\\)"):
        Distill(teacher=teacher).cache(tf.data.Dataset.from_tensors(np.zeros((2, 5), "int64")))


def test_a_cache_without_a_teacher():
    with pytest.raises(InvalidArgument, match="`cache` needs a teacher, but Distill\\(\\) has none yet"):
        Distill().cache(batches(*images(8)))


def test_a_teacher_in_training_mode_is_refused_before_the_first_batch():
    model = cnn(8)

    class Restless(keras.Model):
        def __init__(self):
            super().__init__(name="restless")
            self.inner, self.noise = model, keras.layers.Dropout(0.5, name="noise")

        def call(self, x):
            return self.noise(self.inner(x), training=True)

    teacher = Restless()
    teacher(np.zeros((1, 8, 8, 1)))
    with pytest.raises(InvalidModel, match="`teacher` 'restless' is in training mode: .* still changes noise"):
        Distill(teacher=teacher).cache(batches(*images(8)))


def test_a_full_disk_leaves_the_teacher_to_answer_and_no_half_written_row(tmp_path, monkeypatch):
    x, y = images(32)
    teacher = cnn(8)
    dataset = Distill(teacher=teacher).cache(batches(x, y, 8, shuffle=False), tmp_path)

    def full_behind_the_first_batch(file, mode):
        if file.name == "keys.bin" and file.stat().st_size:
            raise OSError(28, "No space left on device")
        return open(file, mode)

    monkeypatch.setattr(cache, "open", full_behind_the_first_batch, raising=False)
    with pytest.warns(UserWarning, match="cache cannot grow, .* for what is not in it: .*No space left"):
        for images_, taught in dataset:
            assert np.allclose(taught.knowledge["outputs"][0][0], teacher(images_), atol=1e-6)
    assert (tmp_path / "keys.bin").stat().st_size == 8 * 8
    assert (tmp_path / "rows.bin").stat().st_size == 8 * 4 * 10
