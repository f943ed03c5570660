"""`Distill` and `Distiller`: what is learned, from whom, and that nothing else moves."""

import json

import keras
import numpy as np
import pytest
from distill_models import cnn, crossentropy, images, same, soft_targets, state

import tfbig
from tfbig.compression import technique_from_config
from tfbig.compression.techniques.distill import AttentionTransfer, Distill, Distiller, FeatureMatch, SoftTargets
from tfbig.errors import InvalidArgument, InvalidData, InvalidModel

LOSS = "sparse_categorical_crossentropy"


def compiled(model, loss=LOSS, **options):
    model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"], **options)
    return model


def training_loss(model, x, y, sample_weight=None):
    """The loss of one step, without the step."""
    y_pred = model(x, training=True)
    return float(model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True))


def test_public_names():
    assert tfbig.Distill is Distill and tfbig.Distiller is Distiller
    assert issubclass(Distiller, keras.distillation.Distiller)


def test_training_leaves_teacher_and_given_student_alone():
    x, y = images()
    teacher, student = cnn(8, name="teacher", dropout=0.5), cnn()
    before = state(teacher), state(student)
    technique = Distill(teacher=teacher, features=["relu0"], attention=["relu1"])
    prepared = compiled(technique.prepare(student))
    prepared.fit(x, y, epochs=2, verbose=0)
    finished = technique.finish(prepared)
    assert same(state(teacher), before[0]) and same(state(student), before[1])
    assert same(state(prepared.own_teachers[0]), before[0])
    assert teacher.trainable and all(layer.trainable for layer in teacher.layers)
    assert "call" not in teacher.get_layer("relu0").__dict__ and "call" not in finished.get_layer("relu0").__dict__
    assert type(finished) is type(student) and finished.name == student.name
    assert [w.shape for w in finished.weights] == [w.shape for w in student.weights]
    assert not same(state(finished), before[1])


@pytest.mark.parametrize("ends", [(None, None), ("softmax", None), (None, "softmax"), ("softmax", "softmax")])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_hinton_for_logits_and_probabilities(ends, alpha):
    x, y = images()
    teacher, student = cnn(8, activation=ends[0], seed=1), cnn(activation=ends[1], seed=2)
    scores = [keras.Model(m.input, m.layers[-2].output)(x) for m in (teacher, student)]
    logits = [np.asarray(s) @ m.layers[-1].get_weights()[0] for s, m in zip(scores, (teacher, student), strict=True)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=ends[1] is None)
    distiller = compiled(Distiller(teacher, student, temperature=3.0, alpha=alpha), loss)
    distiller.student.get_layer("norm0").trainable = distiller.student.get_layer("norm1").trainable = False
    q = np.exp(logits[1]) / np.exp(logits[1]).sum(-1, keepdims=True)
    expected = (1 - alpha) * crossentropy(y, q) + alpha * soft_targets(logits[0], logits[1], 3.0)
    assert training_loss(distiller, x, y) == pytest.approx(expected, rel=1e-4)


def test_penalties_of_the_student_count_in_full():
    x, y = images()
    teacher = cnn(8)
    plain = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    config = plain.get_config()
    config["layers"][-1]["config"]["kernel_regularizer"] = keras.regularizers.serialize(keras.regularizers.L2(0.1))
    penalised = keras.Sequential.from_config(config)
    penalised.set_weights(plain.get_weights())
    penalty = 0.1 * np.sum(np.square(plain.layers[-1].get_weights()[0]))
    for alpha in (0.0, 0.4, 1.0):
        losses = [training_loss(compiled(Distiller(teacher, s, alpha=alpha)), x, y) for s in (plain, penalised)]
        assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-3)


def test_sample_weights_reach_both_losses():
    x, y = images()
    distiller = compiled(Distiller(cnn(8), cnn()))
    whole = training_loss(distiller, x[:32], y[:32])
    weight = np.repeat([2.0, 0.0], 32).astype("float32")
    distiller.student.trainable = False
    frozen = [training_loss(distiller, x[:32], y[:32]), training_loss(distiller, x, y, weight)]
    assert frozen[0] == pytest.approx(frozen[1], rel=1e-4) and frozen[0] != pytest.approx(whole, rel=1e-4)


def test_evaluate_and_predict_are_the_students():
    x, y = images()
    student = compiled(cnn())
    distiller = compiled(Distill(teacher=cnn(8)).prepare(student))
    history = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    assert set(history) == {"loss", "accuracy", "student_loss", "distillation_loss", "val_loss", "val_accuracy"}
    assert history["loss"][0] == pytest.approx((history["student_loss"][0] + history["distillation_loss"][0]) / 2)
    student.set_weights(distiller.student.get_weights())
    expected = student.evaluate(x, y, verbose=0)
    assert distiller.evaluate(x, y, verbose=0) == pytest.approx(expected)
    assert distiller.test_on_batch(x, y) == pytest.approx(expected, rel=1e-5)
    assert history["val_loss"][0] == pytest.approx(expected[0])
    assert np.array_equal(distiller.predict(x, verbose=0), student.predict(x, verbose=0))
    assert distiller.outputs is distiller.student.outputs


def test_a_student_learns_from_the_teacher_alone():
    x, y = images(256)
    teacher = compiled(cnn(8, name="teacher", seed=0))
    teacher.fit(x, y, epochs=15, verbose=0)
    taught = Distill(teacher=teacher, alpha=1.0, temperature=2.0).prepare(cnn(seed=1))
    taught.compile(keras.optimizers.Adam(0.02))
    taught.fit(x, epochs=15, verbose=0)
    answers = teacher.predict(x, verbose=0).argmax(-1)
    assert np.mean(answers == y) > 0.9
    assert np.mean(taught.predict(x, verbose=0).argmax(-1) == answers) > 0.85


def test_without_a_teacher_the_model_teaches_its_trained_self():
    x, y = images()
    student = cnn()
    prepared = compiled(Distill().prepare(student))
    assert same(state(prepared.own_teachers[0]), state(student))
    assert prepared.own_teachers[0] is not student
    other = cnn(8)
    assert Distill(alpha=0.2).with_teacher(other) == Distill(teacher=other, alpha=0.2)
    assert Distill(teacher=student).with_teacher(other).teacher is student


def test_several_teachers_count_by_their_weights():
    x, y = images()
    teachers, student = [cnn(8, seed=1), cnn(6, activation=None, seed=2)], cnn(seed=3)
    each = [training_loss(compiled(Distiller(t, student, alpha=1.0)), x, y) for t in teachers]
    both = training_loss(compiled(Distiller(teachers, student, alpha=1.0)), x, y)
    weighted = training_loss(compiled(Distiller(teachers, student, alpha=1.0, teacher_weights=(3, 1))), x, y)
    assert both == pytest.approx(np.mean(each), rel=1e-4)
    assert weighted == pytest.approx((3 * each[0] + each[1]) / 4, rel=1e-4)


def test_features_and_attention_add_their_losses():
    x, y = images()
    teacher, student = cnn(4, seed=1), cnn(4, seed=2)
    student.trainable = False
    features = [np.asarray(keras.Model(m.input, m.get_layer("relu1").output)(x)) for m in (teacher, student)]
    maps = [np.sum(f**2, -1).reshape(len(x), -1) for f in features]
    a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps)

    def loss(**options):
        prepared = Distill(teacher=teacher, alpha=1.0, **options).prepare(student)
        prepared.student.trainable = False
        return training_loss(compiled(prepared), x, y)

    plain = loss()
    squares = np.mean((features[0] - features[1]) ** 2)
    assert loss(features=["relu1"], feature_weight=2.0) - plain == pytest.approx(2 * squares, rel=1e-3)
    assert loss(attention=["relu1"]) - plain == pytest.approx(1000 * np.mean((a - b) ** 2), rel=1e-3)


def test_a_learned_projection_is_trained_and_left_behind():
    x, y = images()
    technique = Distill(teacher=cnn(8), features=[("relu0", "relu1")])
    prepared = compiled(technique.prepare(cnn(4)))
    before = state(prepared.projections[0])
    assert prepared.projections[0].kernel.shape == (4, 8)
    prepared.fit(x, y, verbose=0)
    assert not same(before, state(prepared.projections[0]))
    assert len(technique.finish(prepared).weights) == len(cnn(4).weights)


def test_regression_takes_the_compiled_loss():
    x, y = images()
    teacher, student = (cnn(f, activation=None, classes=2, seed=f) for f in (8, 4))
    student.trainable = False
    distiller = compiled(Distiller(teacher, student, alpha=1.0), "mae")
    expected = np.mean(np.abs(teacher.predict(x, verbose=0) - student.predict(x, verbose=0)))
    assert training_loss(distiller, x, np.zeros((len(x), 2))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanSquaredError()])
def test_a_named_loss_compares_the_outputs_as_they_are(loss):
    x, y = images()
    teacher, student = cnn(8), cnn()
    student.trainable = False
    prepared = compiled(Distiller(teacher, student, [SoftTargets(loss=loss)], alpha=1.0))
    expected = np.mean((teacher.predict(x, verbose=0) - student.predict(x, verbose=0)) ** 2)
    assert training_loss(prepared, x, y) == pytest.approx(expected, rel=1e-4)


def test_keras_own_distillation_losses_work_beside_ours():
    x, y = images()
    teacher, student = cnn(4, seed=1), cnn(4, seed=2)
    student.trainable = False
    ours, theirs, default = (
        training_loss(compiled(Distiller(teacher, student, losses, alpha=1.0)), x, y)
        for losses in (
            [SoftTargets(3.0), FeatureMatch("relu0")],
            [
                keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence()),
                keras.distillation.FeatureDistillation(teacher_layer_name="relu0", student_layer_name="relu0"),
            ],
            [keras.distillation.LogitsDistillation(3.0), FeatureMatch("relu0")],
        )
    )
    assert theirs == pytest.approx(ours, rel=1e-3) and default == pytest.approx(ours, rel=1e-3)


def two_headed(seed, *, named):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,), name="x")
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(inputs)
    size = keras.layers.Dense(1, name="size")(inputs)
    return keras.Model(inputs, {"kind": kind, "size": size} if named else [kind, size])


@pytest.mark.parametrize("named", [True, False])
def test_each_output_is_taught_by_its_own_loss(named):
    generator = np.random.default_rng(0)
    x, kind, size = generator.normal(size=(16, 4)), generator.integers(0, 3, 16), generator.normal(size=(16, 1))
    teacher, student = two_headed(1, named=named), two_headed(2, named=named)
    losses = {"kind": LOSS, "size": "mse"}
    distiller = Distiller(teacher, student, temperature=2.0, alpha=1.0)
    distiller.compile("sgd", losses if named else list(losses.values()))
    y = {"kind": kind, "size": size} if named else [kind, size]
    (p, a), (q, b) = ([np.asarray(o) for o in keras.tree.flatten(m(x))] for m in (teacher, student))
    expected = soft_targets(np.log(p), np.log(q), 2.0) + np.mean((a - b) ** 2)
    assert training_loss(distiller, x, y) == pytest.approx(expected, rel=1e-4)
    distiller.fit(x, y, verbose=0)


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A model without a graph."""

    def __init__(self, units=10, **options):
        super().__init__(**options)
        self.units = units
        self.flatten = keras.layers.Flatten(name="flatten")
        self.scores = keras.layers.Dense(units)

    def build(self, input_shape):
        self.flatten.build(input_shape)
        self.scores.build(self.flatten.compute_output_shape(input_shape))
        super().build(input_shape)

    def call(self, inputs):
        return self.scores(self.flatten(inputs))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class Restless(Subclassed):
    """A model that insists on training mode."""

    def __init__(self, **options):
        super().__init__(**options)
        self.noise = keras.layers.Dropout(0.5, name="noise")

    def call(self, inputs):
        return super().call(self.noise(inputs, training=True))


def test_subclassed_models_teach_and_learn():
    x, y = images()
    teacher, student = Subclassed(name="teacher"), Subclassed()
    for model in (teacher, student):
        model.build((None, 8, 8, 1))
    logits = [np.asarray(m(x)) for m in (teacher, student)]
    technique = Distill(teacher=teacher, alpha=1.0, features=["flatten"])
    prepared = compiled(technique.prepare(student), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert training_loss(prepared, x, y) == pytest.approx(soft_targets(*logits, 4.0), rel=1e-4)
    prepared.fit(x, y, verbose=0)
    assert type(technique.finish(prepared)) is Subclassed


def test_a_saved_distiller_goes_on_where_it_was(tmp_path):
    x, y = images()
    technique = Distill(teacher=(cnn(8), cnn(6)), teacher_weights=(2, 1), features=["relu0"], attention=["relu1"])
    prepared = technique.prepare(cnn())
    prepared.compile("adam", LOSS, metrics=["accuracy"])
    prepared.fit(x, y, verbose=0, shuffle=False)
    prepared.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    for model in (prepared, loaded):
        model.fit(x, y, verbose=0, shuffle=False)
    assert same(state(loaded), state(prepared))
    assert same(state(loaded.own_teachers[0]), state(prepared.own_teachers[0]))


def test_a_cloned_distiller_keeps_its_teacher():
    distiller = Distill(teacher=cnn(8)).prepare(cnn())
    twin = keras.models.clone_model(distiller)
    assert [v.shape for v in twin.variables] == [v.shape for v in distiller.variables]
    assert not twin.own_teachers[0].trainable


def test_training_fit_takes_a_prepared_student(tmp_path):
    x, y = images()
    prepared = Distill(teacher=cnn(8)).prepare(cnn())
    history = tfbig.training.fit(
        prepared, (x, y), validation_data=(x, y), epochs=2, verbose=0, checkpoint=tmp_path / "checkpoints"
    ).history
    assert {"loss", "distillation_loss", "val_loss"} <= set(history) and "val_distillation_loss" not in history
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize(
    "technique",
    [
        Distill(),
        Distill(temperature=2.0, alpha=0.9, loss="mse", teacher_weights=None),
        Distill(features=["a", ("b", "c")], attention=[("d", "e")], feature_weight=0.5, attention_weight=3.0),
        Distill(loss=keras.losses.Huber(delta=2.0)),
    ],
)
def test_options_make_the_round_trip_through_json(technique):
    config = json.loads(json.dumps(technique.get_config()))
    twin = technique_from_config({"name": "distill", **config})
    assert twin.get_config() == technique.get_config()


def test_models_stay_out_of_the_configuration():
    assert Distill(teacher=cnn(), alpha=0.1).get_config() == {"alpha": 0.1}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": 0}, "`temperature` must be in (0, inf), received 0."),
        ({"temperature": -2.0}, "`temperature` must be in (0, inf), received -2.0."),
        ({"alpha": 1.5}, "`alpha` must be in [0, 1], received 1.5."),
        ({"alpha": -0.1}, "`alpha` must be in [0, 1], received -0.1."),
        ({"feature_weight": -1.0}, "`feature_weight` must be in [0, inf), received -1.0."),
        ({"loss": "kl_divergenz"}, "`loss` must be 'auto', 'kl_divergence', or a Keras loss or its name"),
        ({"features": "relu0"}, "`features` must be a list of layer names or of pairs"),
        ({"attention": [("a", "b", "c")]}, "`attention` must be a list of layer names or of pairs"),
        (
            {"teacher": 3},
            "`teacher` must be a Keras 3 model or a path to a .keras, .h5 or .tflite file or a SavedModel",
        ),
        ({"teacher": ()}, "`teacher` must be one model or path, or several, received none."),
        ({"teacher": len}, "received builtins.builtin_function_or_method."),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(InvalidArgument) as error:
        Distill(**options)
    assert text in str(error.value)


def test_weights_that_do_not_fit_the_teachers():
    with pytest.raises(InvalidArgument, match="`teacher_weights` must hold one weight of at least 0 for each of the 2"):
        Distill(teacher=(cnn(), cnn()), teacher_weights=(1.0,))


def test_a_teacher_with_other_outputs():
    with pytest.raises(InvalidModel) as error:
        Distill(teacher=cnn(classes=100, name="big")).prepare(cnn())
    assert "`teacher` 'big' gives outputs of shape (None, 100), the student 'student' (None, 10)" in str(error.value)


def test_a_teacher_with_other_inputs():
    inputs = keras.Input((16, 16, 1))
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(InvalidModel) as error:
        Distill(teacher=keras.Model(inputs, outputs, name="big")).prepare(cnn())
    text = str(error.value)
    assert "`teacher` 'big' takes inputs of shape (None, 16, 16, 1), the student 'student' (None, 8, 8, 1)" in text
    assert "keras.layers.Resizing" in text


@pytest.mark.parametrize("option", ["features", "attention"])
@pytest.mark.parametrize("pair", [("relu9", "relu0"), ("relu0", "relu9")])
def test_an_unknown_layer(option, pair):
    with pytest.raises(InvalidArgument) as error:
        Distill(teacher=cnn(8, name="teacher"), **{option: [pair]}).prepare(cnn())
    whose = "student" if pair[0] == "relu9" else "teacher"
    assert f"model '{whose}' has no layer 'relu9'. Did you mean 'relu" in str(error.value)


def test_a_teacher_in_training_mode():
    teacher = Restless(name="restless")
    teacher.build((None, 8, 8, 1))
    prepared = compiled(Distill(teacher=teacher).prepare(cnn()))
    with pytest.raises(InvalidModel) as error:
        prepared.fit(*images(), verbose=0)
    assert "`teacher` 'restless' is in training mode" in str(error.value) and "noise" in str(error.value)


def test_a_student_with_its_own_train_step():
    class Own(Subclassed):
        def train_step(self, data):
            return super().train_step(data)

    student = Own(name="own")
    student.build((None, 8, 8, 1))
    with pytest.raises(InvalidModel, match="`student` 'own' has a train_step of its own"):
        Distiller(cnn(8), student)


def pinball(y, p):
    return keras.ops.mean(keras.ops.maximum(0.9 * (y - p), -0.1 * (y - p)), -1)


def test_outputs_that_nobody_explains_are_compared_by_their_squares():
    x, y = images()
    teacher, student = (cnn(f, activation=None, classes=3) for f in (8, 4))
    y = np.random.default_rng(0).normal(size=(len(y), 3)).astype("float32")
    prepared = compiled(Distill(teacher=teacher, alpha=1.0).prepare(student), pinball)
    want = np.mean((np.asarray(teacher(x)) - np.asarray(prepared.student(x, training=True))) ** 2)
    assert training_loss(prepared, x, y) == pytest.approx(want, rel=1e-3)


def test_one_number_is_not_compared_as_classes():
    x, y = images()
    teacher, student = (cnn(f, activation=None, classes=1) for f in (8, 4))
    prepared = compiled(Distill(teacher=teacher, loss="kl_divergence").prepare(student), pinball)
    with pytest.raises(
        InvalidArgument, match=r"`loss='kl_divergence'` compares classes, and the output of 'student' is"
    ):
        prepared.fit(x, y, verbose=0)


def test_what_was_not_prepared_cannot_be_finished():
    with pytest.raises(InvalidModel, match="`model` 'student' was not prepared with Distill"):
        Distill().finish(cnn())


def test_losses_that_are_none():
    with pytest.raises(InvalidArgument, match="`distillation_losses` must be keras.distillation.DistillationLoss"):
        Distiller(cnn(8), cnn(), ["mse"])
    with pytest.raises(InvalidArgument, match="`distillation_loss_weights` must hold one number for each of the 2"):
        Distiller(cnn(8), cnn(), [SoftTargets(), AttentionTransfer("relu0")], [1.0])


def test_cached_answers_without_the_layer_that_is_asked():
    x, y = images()
    teacher = cnn(8)
    dataset = Distill(teacher=teacher).cache(_batches(x, y))
    prepared = compiled(Distill(teacher=teacher, features=["relu0"]).prepare(cnn()))
    with pytest.raises(InvalidData, match="carries the teacher's answers without its layer 'relu0'"):
        prepared.fit(dataset, shuffle=False, verbose=0)


def _batches(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
