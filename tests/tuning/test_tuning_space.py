"""From values to recipes, and which values a model leaves."""

from __future__ import annotations

import keras
import keras_tuner
import pytest

import tfbig
from tfbig.errors import InvalidArgument
from tfbig.tuning.space import CHOICES, STAGES, RecipeSpace


@pytest.fixture(scope="module")
def space(wide_model):
    return RecipeSpace(wide_model, ["stem", "classifier", "body"], epochs=(1, 2))


def test_declares_every_choice_to_keras_tuner(space):
    hp = keras_tuner.HyperParameters()
    plan = space.build(hp)
    assert set(hp.values) == {*CHOICES, "epochs"}
    assert plan.values == {name: hp.values[name] for name in plan.values}


def test_plan_is_the_recipe_of_its_values(space):
    plan = space.plan(
        {"channels": 0.5, "sparsity": 0.8, "clusters": 16, "bits": "int8", "distill": True, "exempt": 1, "epochs": 2}
    )
    spared = {"layers": {"stem": None}}
    assert plan.recipe.get_config()["stages"] == [
        [{"name": "prune_channels", "flops": 0.5}, {"name": "distill"}],
        [{"name": "prune", "sparsity": 0.8, "scope": "global", **spared}, {"name": "distill"}],
        [{"name": "cluster", **spared}, {"name": "distill"}],
        [{"name": "quantize"}, {"name": "distill"}],
    ]
    assert plan.epochs == 2
    assert str(plan).startswith("prune channels 0.5 + distill, prune 0.8 + distill")
    assert tfbig.Recipe.from_yaml(plan.recipe.to_yaml()) == plan.recipe


def test_values_that_come_to_the_same_have_one_key(space):
    unchanged = {"sparsity": 0.0, "clusters": 0, "rank": 1.0, "channels": 0.5, "bits": "int8"}
    assert space.plan({**unchanged, "exempt": 0}).key == space.plan({**unchanged, "exempt": 2}).key
    assert space.plan({**unchanged, "epochs": 1}).key != space.plan({**unchanged, "epochs": 2}).key
    assert space.plan({"bits": "float32", "exempt": 2}).recipe is None


def test_named_recipes_are_where_it_begins(space):
    stages = [space.plan(values).recipe.stages for values in space.known()]
    assert len(stages[0]) == 1  # The cheapest one first.
    for recipe in map(tfbig.Recipe.load, tfbig.Recipe.names()):
        assert recipe.stages in stages


def test_harm_grows_with_every_choice_alone(space):
    for name, choice in STAGES.items():
        found = [space.harm({name: value}) for value in CHOICES[name]]
        assert found == sorted(found) and found[0] < found[-1]
        assert choice.harm(choice.unchanged) == 0
    assert space.harm({"distill": True}) < space.harm({"distill": False})
    assert space.harm({"rank": 0.5}) > space.harm({"channels": 0.5}) > space.harm({"sparsity": 0.5, "bits": "int8"})


def test_model_without_a_graph_leaves_no_channels_to_prune():
    @keras.saving.register_keras_serializable(package="test_tuning_space")
    class Subclassed(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = keras.layers.Dense(10)

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 64)))

    model = Subclassed(name="subclassed")
    model(keras.ops.zeros((1, 8, 8, 1)))
    space = RecipeSpace(model, ["dense"], epochs=1)
    assert space.choices["channels"] == space.choices["rank"] == (1.0,)
    assert any(note.startswith("No choice of channels: PruneChannels needs") for note in space.notes)
    with pytest.raises(InvalidArgument, match=r"`space\['channels'\]` cannot be searched for this model"):
        RecipeSpace(model, [], epochs=1, given={"channels": [1.0, 0.5]})


def test_model_without_channels_to_spare_keeps_them(small_model):
    space = RecipeSpace(small_model, [], epochs=1)
    assert space.choices["channels"] == (1.0,) and space.notes[0].startswith("No choice of channels: `flops`=0.9")
    assert space.choices["exempt"] == (0,)


def test_model_without_blocks_to_spare_keeps_them():
    inputs = keras.Input((64,))
    y = keras.layers.Dense(32, name="wide")(inputs)
    plain = keras.Model(inputs, keras.layers.Dense(10)(y))
    y = keras.layers.Add()([y, keras.layers.Dense(32, use_bias=False, name="branch")(y)])
    half = keras.Model(inputs, keras.layers.Dense(10)(y))
    space = RecipeSpace(plain, [], epochs=1)
    assert space.choices["blocks"] == (1.0,)
    assert space.notes[0].startswith("No choice of blocks: PruneBlocks finds no residual block")
    assert RecipeSpace(half, [], epochs=1).choices["blocks"] == CHOICES["blocks"]
    inputs = keras.Input((512,))
    y = keras.layers.Dense(8)(inputs)
    thin = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Add()([y, keras.layers.Dense(8)(y)])))
    assert RecipeSpace(thin, [], epochs=1).notes[0].startswith("No choice of blocks: `flops`=0.75 cannot be met")


@pytest.mark.parametrize("name", STAGES)
def test_values_of_a_choice_come_back_from_its_technique(name):
    choice = STAGES[name]
    assert choice.checked(name, choice.unchanged) == choice.unchanged == choice.values[0]
    assert sorted(choice.values, key=choice.size, reverse=True) == list(choice.values)
    for value in choice.values[1:]:
        technique = choice.technique(**choice.options(value, ["stem"]))
        assert choice.value_of(technique) == value
        others = [other.value_of(technique) for other in STAGES.values() if other is not choice]
        assert not any(others)


def test_smallest_files_are_of_every_kind_that_size_does_not_order(wide_model):
    space = RecipeSpace(wide_model, [], epochs=1, given={"blocks": [1.0, 0.5], "channels": [0.5, 1.0], "rank": 1.0})
    kinds = list(space.smallest())
    assert [plans[0].values["bits"] for plans in kinds] == ["int4", "int8"]
    assert {(p.values["sparsity"], p.values["clusters"], p.values["exempt"]) for p in kinds[0]} == {(0.9, 8, 0)}
    assert [(p.values["blocks"], p.values["channels"]) for p in kinds[0]] == [
        (0.5, 0.5),
        (0.5, 1.0),
        (1.0, 0.5),
        (1.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"bit": ["int8"]}, r"Unknown choice in `space`: 'bit'.*Did you mean 'bits'\?"),
        ({"bits": ["int7"]}, r"Unknown value of `space\['bits'\]`: 'int7'"),
        ({"sparsity": 1.0}, r"`space\['sparsity'\]` must be in \[0, 1\), received 1.0"),
        ({"channels": [0.5, 0]}, r"`space\['channels'\]` must be in \(0, 1\], received 0"),
        ({"distill": 1}, r"`space\['distill'\]` must be True or False, received 1"),
        ({"clusters": [1]}, r"`clusters` must be an int in \[2, 256\], received 1"),
        ({"exempt": -1}, r"`space\['exempt'\]` must be a whole number of at least 0, received -1"),
        ({"rank": []}, r"`space\['rank'\]` must hold at least one value"),
        (
            {"bits": "float32", "blocks": 1.0, "channels": 1.0, "rank": 1.0, "sparsity": 0.0, "clusters": 0},
            "`space` leaves nothing to search",
        ),
    ],
)
def test_bad_choices_are_told(wide_model, given, text):
    with pytest.raises(InvalidArgument, match=text):
        RecipeSpace(wide_model, [], epochs=1, given=given)
