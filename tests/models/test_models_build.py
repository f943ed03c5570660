"""The contract of every builder, and the errors of `build`."""

import inspect

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument
from tfbig.models import BUILDERS

SMALL: dict[str, dict] = {
    "mlp": {"input_shape": (6,), "units": (8, 12), "classes": 3, "dropout": 0.1},
    "mobilenet": {"input_shape": (8, 8, 1), "width": 0.125, "classes": 3, "dropout": 0.1},
    "resnet": {"input_shape": (8, 8, 1), "width": 0.25, "classes": 3},
}


def small(name: str) -> keras.Model:
    return tfbig.models.build(name, **SMALL[name])


def sample(model: keras.Model, count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(count, *model.input_shape[1:])).astype("float32")


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
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(x, np.arange(4) % 3, verbose=0)
    assert all(np.any(after != w) for after, w in zip(model.get_weights(), before, strict=True) if w.ndim > 1)

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
        ("mlp", {"units": (8, 0)}, r"`units\[1\]` must be a whole number of at least 1, received 0"),
        ("mlp", {"dropout": 1.0}, r"`dropout` must be in \[0, 1\), received 1.0"),
        ("mlp", {"classes": True}, "`classes` must be a whole number"),
        ("mobilenet", {"strides": (1, 2)}, "`strides` must have one entry for each of the 6 `filters`"),
    ],
)
def test_errors_name_the_argument(name, config, text):
    with pytest.raises(InvalidArgument, match=text):
        tfbig.models.build(name, **config)
