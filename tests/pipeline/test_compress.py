"""`compress` runs a recipe, leaves its input alone, and speaks about the files it wrote."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.errors import InvalidArgument, InvalidData, InvalidModel, OutputExists
from tfbig.exporters.associated_files import read_associated_files
from tfbig.pipeline.compress import compress

RECIPE = [tfbig.Prune(sparsity=0.8), tfbig.Quantize("int8")]


def splits(data) -> dict:
    return {"train": data.train, "validation": data.validation, "test": data.test}


@pytest.fixture(scope="module")
def result(small_model, fresh_digits):
    return compress(small_model, RECIPE, **splits(fresh_digits()), epochs=2, verbose=0)


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result") / "small"
    result.save(folder, saved_model=True)
    return folder


def test_stages_are_measured_on_their_files(result, digits_arrays):
    assert [stage.name for stage in result.stages] == ["float", "1 prune 0.8", "2 quantize int8"]
    for stage in result.stages:
        assert stage.measurement.samples == len(digits_arrays["x_test"])
        assert stage.measurement.bytes == stage.file.stat().st_size
    assert list(result.stages[1].history) == ["accuracy", "loss", "val_accuracy", "val_loss"]


def test_stages_keep_what_they_promise(result):
    float_, pruned, integer = (stage.measurement for stage in result.stages)
    assert float_.quality > 0.7 and integer.quality > 0.5
    assert float_.zero_fraction < 0.01
    assert pruned.zero_fraction == pytest.approx(0.8, abs=0.01)
    assert integer.zero_fraction >= pruned.zero_fraction - 1e-9
    assert not any(op.reason for op in tfbig.inspect(result.file).ops)


def test_input_model_is_untouched(small_model, model_file, result):
    for now, before in zip(small_model.get_weights(), tfbig.load(model_file).get_weights(), strict=True):
        np.testing.assert_array_equal(now, before)
    assert type(small_model).__name__ == "Functional"


def test_same_seed_gives_the_same_weights(result, small_model, fresh_digits):
    again = compress(small_model, RECIPE, **splits(fresh_digits()), epochs=2, verbose=0)
    for one, other in zip(result.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_saved_folder_is_complete(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if "saved_model/" not in str(path)}
    assert names == {
        *("model.keras", "model.tflite", "saved_model", "recipe.json", "report.html", "report.json"),
        *("stages", "stages/float.tflite", "stages/1-prune-0.8.tflite"),
    }


def test_report_speaks_of_files_that_are_there(folder):
    report = json.loads((folder / "report.json").read_text())
    rows = {row["stage"]: row["measurement"] for row in report["rows"]}
    assert list(rows) == ["float", "1 prune 0.8", "model.keras", "saved_model", "2 quantize int8"]
    for measurement in rows.values():
        path = folder / measurement["file"]
        size = sum(p.stat().st_size for p in path.rglob("*")) if path.is_dir() else path.stat().st_size
        assert path.is_dir() or measurement["bytes"] == size
        assert measurement["quality"] is not None
    assert rows["2 quantize int8"]["file"] == "model.tflite"
    assert "Beside float, 2 quantize int8 is" in report["verdict"]
    assert set(report["inspections"]) == {"stages/float.tflite", "stages/1-prune-0.8.tflite", "model.tflite"}
    assert all(op["milliseconds"] for op in report["inspections"]["model.tflite"]["ops"] if op["weights"])


def test_saved_files_measure_as_reported(folder, fresh_digits):
    report = tfbig.Recipe.load(folder / "recipe.json"), json.loads((folder / "report.json").read_text())
    assert report[0].get_config() == report[1]["recipe"]
    for row in report[1]["rows"]:
        again = tfbig.measure(folder / row["measurement"]["file"], fresh_digits(), latency=False)
        assert again.quality == row["measurement"]["quality"]
        assert again.bytes == row["measurement"]["bytes"]


def test_saved_keras_model_loads_and_exports_to_the_same_quality(folder, fresh_digits, tmp_path):
    model = tfbig.load(folder / "model.keras")
    tfbig.export(model, tmp_path / "again.tflite")
    again = tfbig.measure(tmp_path / "again.tflite", fresh_digits(), latency=False)
    assert again.quality == tfbig.measure(folder / "model.tflite", fresh_digits(), latency=False).quality


def test_result_returned_by_save_names_the_saved_files(result, tmp_path):
    saved = result.save(tmp_path / "a")
    assert saved.file == tmp_path / "a" / "model.tflite" and saved.file.exists()
    assert str(tmp_path / "a" / "model.keras") in [row.measurement.file for row in saved.report.rows]
    assert "2 quantize int8" in saved.table and str(result) == result.table


def test_result_can_be_saved_twice_but_not_over_something(result, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"`.*kept` exists already. Choose another output, or replace it"):
        result.save(tmp_path / "kept")
    assert (tmp_path / "kept" / "mine.txt").read_text() == "mine"
    result.save(tmp_path / "kept", overwrite=True)
    assert not (tmp_path / "kept" / "mine.txt").exists()


def test_without_test_split_validation_judges_and_a_note_says_so(small_model, fresh_digits, capsys):
    data = fresh_digits()
    result = compress(
        small_model, tfbig.Prune(sparsity=0.5), train=data.train, validation=data.validation, epochs=1, verbose=0
    )
    assert capsys.readouterr() == ("", "")
    assert result.stages[0].measurement.samples == data.spec.samples["validation"]
    assert result.notes == ("No test split was given: quality was measured on the validation split.",)
    assert "Note: No test split" in result.table


def test_progress_is_told(small_model, fresh_digits, capsys):
    compress(small_model, tfbig.Prune(sparsity=0.5), **splits(fresh_digits()), epochs=1, verbose=2)
    told = capsys.readouterr().out
    assert "Stage 1 of 1: prune 0.5\n" in told
    assert "  float.tflite: accuracy " in told and "  1-prune-0.5.tflite: accuracy " in told


def test_compiled_loss_is_used(small_model, fresh_digits):
    model = keras.models.clone_model(small_model)
    model.set_weights(small_model.get_weights())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    result = compress(model, tfbig.Prune(sparsity=0.5), **splits(fresh_digits()), epochs=1, verbose=0)
    assert result.stages[1].history["loss"][0] > 5  # a sum over batches of 32, not a mean


def test_learning_rate_of_an_optimizer_is_kept(small_model, fresh_digits):
    still = keras.optimizers.SGD(1e-12)
    result = compress(
        small_model, tfbig.Prune(sparsity=0.01), **splits(fresh_digits()), epochs=1, optimizer=still, verbose=0
    )
    before, after = small_model.get_layer("body").kernel.numpy(), result.model.get_layer("body").kernel.numpy()
    np.testing.assert_allclose(after[after != 0], before[after != 0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"epochs": 0}, InvalidArgument, "`epochs` must be a whole number of at least 1, received 0."),
        ({"optimizer": "adamm"}, InvalidArgument, "Unknown optimizer 'adamm'.*Did you mean 'adam'?"),
        ({"resume": True}, InvalidArgument, "`resume` needs `directory`, the folder that holds the finished stages"),
        ({"recipe": "smal"}, InvalidArgument, "Unknown recipe 'smal'. Known: .*Did you mean 'small'?"),
        ({"recipe": []}, InvalidArgument, "`stages` must hold at least one technique"),
        (
            {"recipe": [7]},
            InvalidArgument,
            r"A stage must be a technique such as tfbig.Prune\(sparsity=0.8\).*received 7",
        ),
        (
            {"model": "model.keras"},
            InvalidModel,
            "`model` must be a Keras 3 model, received builtins.str. Load a file with",
        ),
    ],
)
def test_bad_arguments_are_told_at_once(small_model, fresh_digits, options, kind, text):
    given = {"model": small_model, "recipe": RECIPE, **splits(fresh_digits()), **options}
    with pytest.raises(kind, match=text):
        compress(given.pop("model"), given.pop("recipe"), **given)


def test_data_that_does_not_fit_is_told_at_once(small_model, digits_arrays):
    x, y = digits_arrays["x_train"], digits_arrays["y_train"]
    narrow = tf.data.Dataset.from_tensor_slices((x[:, :, :7], y)).batch(32)
    with pytest.raises(InvalidData, match=r"expects inputs of shape \(8, 8, 1\), received \(8, 7, 1\)"):
        compress(small_model, RECIPE, train=narrow)
    high = tf.data.Dataset.from_tensor_slices((x, y + 5)).batch(320)
    with pytest.raises(InvalidData, match="its 10 output units expect labels 0 to 9, received 5 to 14"):
        compress(small_model, RECIPE, train=high)


def test_schedules_given_as_a_share_of_the_training_follow_its_length(fresh_digits, small_model):
    prepared = tfbig.Prune(sparsity=0.8, begin=0.0, end=1.0, frequency=1).prepare(small_model)
    tfbig.training.fit(prepared, fresh_digits().train, epochs=2, verbose=0)
    machine = prepared.machines[0]
    assert int(machine.total_steps.numpy()) == int(machine.step.numpy()) > 0


def test_metric_and_associated_files_hold_for_every_file(small_model, fresh_digits, tmp_path):
    def share_of_zeros(labels, outputs):
        return float(np.mean(outputs.argmax(-1) == 0))

    files = {"labels.txt": "\n".join("0123456789")}
    recipe, data = [tfbig.Quantize("int8")], fresh_digits()
    options = {"epochs": 1, "verbose": 0, "associated_files": files}
    result = compress(small_model, recipe, **splits(data), metric=share_of_zeros, **options).save(tmp_path / "out")
    for row in result.report.rows:
        assert row.measurement.quality_name == "share_of_zeros" and 0 < row.measurement.quality < 0.3
        assert read_associated_files(row.measurement.file) == files
    with pytest.raises(InvalidArgument, match="Unknown metric 'f2'.*Did you mean 'f1'"):
        compress(small_model, recipe, **splits(data), metric="f2", **options)


def test_loss_of_a_model_that_was_never_compiled_is_chosen_for_the_original(small_model, fresh_digits):
    model = keras.models.clone_model(small_model)
    model.set_weights(small_model.get_weights())
    result = compress(model, tfbig.Quantize("int8"), **splits(fresh_digits()), epochs=1, verbose=0)
    assert result.stages[1].history["accuracy"] and result.stages[1].history["loss"][0] < 1.5


def test_a_model_that_came_with_zeros_can_be_rewritten(fresh_digits):
    """What is wrapped to keep them is the rewritten model, not the one before."""
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", input_shape=(8, 8, 1), units=(32,))
    kernel = max(model.weights, key=lambda weight: weight.numpy().size)
    kernel.assign(np.where(np.arange(32) < 16, kernel, 0))
    result = tfbig.compress(model, [tfbig.LowRank(rank=0.5)], **splits(fresh_digits()), epochs=1, verbose=0)
    assert [row.name for row in result.stages] == ["float", "1 low rank 0.5"]
    assert result.stages[1].measurement.bytes < result.stages[0].measurement.bytes


class Scale(keras.layers.Layer):  # not registered, as in most examples
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


def test_layers_that_nobody_registered_are_saved(digits_arrays, tmp_path):
    body = [keras.layers.Flatten(), keras.layers.Dense(16, activation="relu"), Scale(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *body], name="own")
    train = digits_arrays["x_train"][:64], digits_arrays["y_train"][:64]
    result = compress(model, "int8", train=train, epochs=1, verbose=0)
    saved = result.save(tmp_path / "own")
    assert [row.name for row in saved.saved] == ["model.keras"] and (tmp_path / "own" / "model.tflite").is_file()


def test_a_file_that_cannot_be_written_costs_only_itself(result, tmp_path, monkeypatch):
    from tfbig.errors import ConversionFailed
    from tfbig.pipeline import result as module

    def refused(model, path, **options):
        raise ConversionFailed("the file does not load again")

    monkeypatch.setattr(module, "export", refused)
    with pytest.warns(UserWarning, match="model.keras was not written: the file does not load again"):
        saved = result.save(tmp_path / "rest")
    assert sorted(path.name for path in (tmp_path / "rest").iterdir()) == [
        *("model.tflite", "recipe.json", "report.html", "report.json", "stages")
    ]
    assert saved.notes[-1] == "model.keras was not written: the file does not load again"


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 1e-3 * keras.ops.minimum(1.0, keras.ops.cast(step, "float32") / 10.0)


@pytest.mark.parametrize(
    ("recipe", "options", "text"),
    [
        (
            tfbig.Prune,
            {},
            r"`stages` must be a list of techniques, such as \[tfbig.Quantize\('int8'\)\], received <class",
        ),
        ("int8", {"loss": "mean_squared_eror"}, r"Unknown loss .*Did you mean 'mean_squared_error'\?"),
        ("int8", {"optimizer": keras.optimizers.Adam(Warmup())}, "`optimizer` cannot be made again for each stage"),
    ],
)
def test_what_no_stage_could_use_is_told_before_the_first(small_model, fresh_digits, recipe, options, text):
    with pytest.raises(InvalidArgument, match=text):
        compress(small_model, recipe, **splits(fresh_digits()), verbose=0, **options)
