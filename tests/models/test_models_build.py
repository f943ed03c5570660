"""The contract of every builder, and the errors of `build`."""

import inspect

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument, InvalidFile
from tfbig.models import BUILDERS

SMALL: dict[str, dict] = {
    "mlp": {"input_shape": (6,), "units": (8, 12), "classes": 3, "dropout": 0.1},
    "mobilenet": {"input_shape": (8, 8, 1), "width": 0.125, "classes": 3, "dropout": 0.1},
    "q_network": {"input_shape": (12, 12, 2), "actions": 3, "filters": (4, 4, 4), "units": (8,), "dueling": True},
    "recommender": {"users": 20, "items": 30, "dimensions": 4, "units": (8, 4), "output_activation": None},
    "resnet": {"input_shape": (8, 8, 1), "width": 0.25, "classes": 3},
    "seq2seq": {"vocabulary": 20, "source_length": 5, "target_length": 6, "width": 8, "depth": 1, "heads": 2, "mlp": 8},
    "text_classifier": {"vocabulary": 20, "length": 6, "width": 8, "heads": 2, "mlp": 8, "depth": 1, "classes": 3},
    "vit": {"input_shape": (8, 8, 1), "classes": 3, "width": 8, "heads": 2, "mlp": 8, "depth": 2, "dropout": 0.1},
}


def small(name: str) -> keras.Model:
    return tfbig.models.build(name, **SMALL[name])


def sample(model: keras.Model, count: int = 4):
    """Random inputs; whole numbers, below the smallest vocabulary above, where the model takes ids."""
    random = np.random.default_rng(0)
    arrays = []
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        ids = tensor.dtype.startswith("int")
        arrays.append(random.integers(0, 20, shape) if ids else random.uniform(size=shape).astype("float32"))
    return arrays if len(arrays) > 1 else arrays[0]


def test_every_builder_has_a_small_configuration_here():
    assert set(SMALL) == set(BUILDERS.names())


@pytest.mark.parametrize("name", BUILDERS.names())
def test_builder_declares_and_documents_its_arguments(name):
    builder = BUILDERS[name].build
    parameters = inspect.signature(builder).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.annotation is not p.empty for p in parameters)
    assert all(f"{p.name}:" in builder.__doc__ for p in parameters if p.name != "name")
    assert "Reference" in builder.__doc__


@pytest.mark.parametrize("name", BUILDERS.names())
def test_builder_trains_one_step_and_survives_saving(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = small(name)
    x = sample(model)
    before = model.get_weights()
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, np.random.default_rng(1).uniform(size=(4, *model.output_shape[1:])), verbose=0)
    names = [weight.path for weight in model.weights]
    still = [n for n, a, b in zip(names, model.get_weights(), before, strict=True) if b.ndim > 1 and (a == b).all()]
    assert not still

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("name", BUILDERS.names())
def test_layer_names_are_chosen_not_counted(name):
    keras.backend.clear_session()
    assert [layer.name for layer in small(name).layers] == [layer.name for layer in small(name).layers]


@pytest.mark.parametrize("name", ["mlp", "resnet", "mobilenet"])
def test_scores_stay_float32_under_mixed_precision(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small(name)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "float32"
    assert any(layer.compute_dtype == "float16" for layer in model.layers)


def test_resnet8_is_the_one_of_mlperf_tiny():
    model = tfbig.models.build("resnet")
    assert model.count_params() == 78_666
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 9


@pytest.mark.parametrize("depth, parameters", [(20, 274_442), (56, 861_770)])
def test_resnet_depths(depth, parameters):
    model = tfbig.models.build("resnet", depth=depth)
    main_path = [v for v in model.layers if isinstance(v, keras.layers.Conv2D) and "shortcut" not in v.name]
    assert len(main_path) + 1 == depth
    assert model.count_params() == parameters


def test_big_mlp_is_one_line():
    model = tfbig.models.build("mlp")
    hidden = [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert hidden == [1000, 2000, 1000, 10]


def test_a_model_can_be_given_another_name():
    assert tfbig.models.build("mlp", name="big").name == "big"
    with pytest.raises(TypeError, match="positional"):
        tfbig.models.build(name="big")


def test_applications_come_by_name_without_weights():
    model = tfbig.models.build("MobileNetV2", input_shape=(32, 32, 3), classes=5, alpha=0.35)
    assert model.output_shape == (None, 5)
    assert "MobileNetV2" in tfbig.models.names() and "resnet" in tfbig.models.names()


@pytest.mark.parametrize(
    "name, config, text",
    [
        ("resent", {}, "Unknown model 'resent'.*Did you mean 'resnet'"),
        ("MobilNetV2", {}, "Did you mean 'MobileNetV2'"),
        ("resnet", {"dept": 8}, "Unknown argument of model 'resnet'.*'dept'.*Did you mean 'depth'"),
        ("MobileNetV2", {"alpah": 1.0}, "Did you mean 'alpha'"),
        ("MobileNetV2", {"input_shape": (8, 8, 3)}, "keras.applications.MobileNetV2 refused"),
        ("resnet", {"depth": 9}, r"`depth` must be 6 n \+ 2.*received 9.*ResNet50"),
        ("resnet", {"depth": "8"}, "`depth` must be a whole number of at least 8, received '8'"),
        ("resnet", {"input_shape": (28, 28)}, r"`input_shape` must be \(height, width, channels\), received"),
        ("resnet", {"filters": (16, 32)}, "`filters` must be a sequence of 3 whole numbers"),
        ("resnet", {"width": 0}, r"`width` must be in \(0, 64\], received 0"),
        ("resnet", {"weight_decay": -1}, "`weight_decay` must be in"),
        ("mlp", {"units": ()}, "`units` must be a sequence of whole numbers"),
        ("recommender", {"units": ()}, "`units` must be a sequence of whole numbers"),
        ("recommender", {"kind": "ncf", "units": 0}, "`units` must be a sequence of whole numbers"),
        ("mlp", {"units": (8, 0)}, r"`units\[1\]` must be a whole number of at least 1, received 0"),
        ("mlp", {"dropout": 1.0}, r"`dropout` must be in \[0, 1\), received 1.0"),
        ("mlp", {"classes": True}, "`classes` must be a whole number"),
        ("vit", {"patch": 5}, r"`input_shape` must be a multiple of `patch`.*\(32, 32, 3\) and patch=5"),
        ("vit", {"width": 10, "heads": 4}, "`width` must be a multiple of `heads`, received width=10 and heads=4"),
        ("text_classifier", {"length": 0}, "`length` must be a whole number of at least 1"),
        ("q_network", {"input_shape": (8, 8)}, r"`input_shape` must be \(height, width, frames\) or \(features,\)"),
        ("q_network", {"kernels": (3,)}, "`kernels` must be a sequence of 3 whole numbers"),
        ("recommender", {"kind": "two_towers"}, "`kind` must be 'two_tower' or 'ncf'.*Did you mean 'two_tower'"),
        ("recommender", {"users": 0}, "`users` must be a whole number of at least 1"),
        ("seq2seq", {"width": 6, "heads": 4}, "`width` must be a multiple of `heads`, received width=6 and heads=4"),
        ("seq2seq", {"buckets": 7}, "`buckets` must be even.*received buckets=7"),
        ("seq2seq", {"decoder_depth": 0}, "`decoder_depth` must be a whole number of at least 1"),
        ("seq2seq", {"vocabulary": 1}, "`vocabulary` must be a whole number of at least 2"),
        ("mobilenet", {"strides": (1, 2)}, "`strides` must have one entry for each of the 6 `filters`"),
    ],
)
def test_errors_name_the_argument(name, config, text):
    with pytest.raises(InvalidArgument, match=text):
        tfbig.models.build(name, **config)


def test_vit_base_has_the_size_of_the_paper():
    model = tfbig.models.build(
        "vit", input_shape=(224, 224, 3), patch=16, width=768, depth=12, heads=12, mlp=3072, classes=1000
    )
    assert model.count_params() == 86_567_656


def test_dueling_values_are_value_plus_centred_advantage():
    model = small("q_network")
    parts = [model.get_layer(name).output for name in ("state_value", "advantages")]
    value, advantages = keras.Model(model.inputs[0], parts).predict(sample(model), verbose=0)
    wanted = value + advantages - advantages.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(model(sample(model)), wanted, atol=1e-6)


def test_atari_network_and_one_for_plain_features():
    assert tfbig.models.build("q_network").output_shape == (None, 4)
    assert tfbig.models.build("q_network", input_shape=(6,), units=(32, 32)).count_params() == 6 * 32 + 32 + 1056 + 132


@pytest.mark.parametrize("kind, units", [("two_tower", (16, 8)), ("ncf", (16, 8)), ("ncf", ())])
def test_recommenders_learn_who_likes_what(kind, units):
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("recommender", users=16, items=16, kind=kind, dimensions=8, units=units)
    user, item = (a.ravel() for a in np.meshgrid(np.arange(16), np.arange(16)))
    liked = ((user + item) % 2).astype("float32")
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.fit([user, item], liked, epochs=60, batch_size=64, verbose=0)
    assert model.evaluate([user, item], liked, verbose=0)[1] > 0.95


def test_tokens_in_another_order_are_another_text():
    model = small("text_classifier")
    tokens = np.arange(6)[None]
    assert np.abs(model(tokens) - model(tokens[:, ::-1])).max() > 1e-5


def test_weights_that_cannot_be_downloaded_are_told_with_the_way_out(monkeypatch):
    def offline(weights=None):
        raise Exception("URL fetch failure on https://example.org/a.h5: None -- no network")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(InvalidFile, match="The weights of ResNet50 could not be downloaded.*weights='FILE.weights.h5'"):
        tfbig.models.build("ResNet50", weights="imagenet")
