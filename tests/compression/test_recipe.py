"""Recipes: named ones, files, round trips, and what a stage may be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfbig
from tfbig.compression.recipe import as_recipe, describe
from tfbig.errors import InvalidArgument, InvalidFile

Prune, Quantize, Distill, Recipe = tfbig.Prune, tfbig.Quantize, tfbig.Distill, tfbig.Recipe


@pytest.mark.parametrize("name", Recipe.names())
def test_named_recipe(name):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.description.endswith(".") and len(recipe.description) > 40
    assert recipe.stages[-1][0] == Quantize("int8")
    assert Recipe.from_json(recipe.to_json()) == Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_names_are_what_the_readme_and_the_command_promise():
    assert Recipe.names() == ["balanced", "fast", "int8", "shallow", "small", "tiny"]


TECHNIQUES = st.one_of(
    st.builds(Prune, sparsity=st.floats(0.01, 0.99), power=st.floats(0.5, 5), frequency=st.integers(1, 1000)),
    st.builds(
        Quantize, dtype=st.sampled_from(["int8", "int16x8", "int4"]), exempt=st.lists(st.text(max_size=5), max_size=2)
    ),
    st.builds(Distill, temperature=st.floats(0.1, 20), alpha=st.floats(0, 1)),
    st.builds(tfbig.Cluster, clusters=st.integers(2, 256), layers=st.none() | st.dictionaries(st.text(), st.none())),
)
STAGES = st.lists(TECHNIQUES, min_size=1, max_size=3, unique_by=lambda technique: technique.name).map(tuple)


@settings(deadline=None, max_examples=60)
@given(st.lists(STAGES, min_size=1, max_size=4), st.text(max_size=20), st.text(max_size=20))
def test_any_recipe_survives_json_and_yaml(stages, name, description):
    recipe = Recipe(stages, name=name, description=description)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_stage_may_be_one_technique_or_several():
    recipe = Recipe([Prune(sparsity=0.8), (Quantize("int8"), Distill())])
    assert recipe.stages == ((Prune(sparsity=0.8),), (Quantize("int8"), Distill()))
    assert json.loads(recipe.to_json())["stages"] == [
        [{"name": "prune", "sparsity": 0.8}],
        [{"name": "quantize"}, {"name": "distill"}],
    ]


def test_files(tmp_path):
    recipe = Recipe([(Prune(sparsity=0.7), Distill())], name="mine")
    for name, text in (("a.json", recipe.to_json()), ("a.yaml", recipe.to_yaml()), ("a.yml", recipe.to_yaml())):
        (tmp_path / name).write_text(text)
        assert Recipe.load(tmp_path / name) == Recipe.load(str(tmp_path / name)) == recipe
    (tmp_path / "unnamed.yaml").write_text("stages:\n  - name: prune\n    sparsity: 0.7\n  - [name: quantize]\n")
    assert Recipe.load(tmp_path / "unnamed.yaml").stages == ((Prune(sparsity=0.7),), (Quantize(),))


def test_everything_that_compress_takes(tmp_path):
    recipe = Recipe([Prune(sparsity=0.7)])
    (tmp_path / "a.json").write_text(recipe.to_json())
    assert as_recipe(recipe) is recipe
    assert (
        as_recipe(Prune(sparsity=0.7)) == as_recipe([Prune(sparsity=0.7)]) == as_recipe(tmp_path / "a.json") == recipe
    )
    assert as_recipe([(Prune(sparsity=0.7),)]) == recipe
    assert as_recipe("int8") == Recipe.load("int8")


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ([Prune(sparsity=0.8)], "prune 0.8"),
        ([Prune()], "prune 0.5"),
        ([Prune(sparsity=0.9, schedule="constant"), Distill(temperature=2.0)], "prune 0.9 + distill"),
        ([Quantize()], "quantize int8"),
        ([tfbig.PruneChannels(params=0.5)], "prune channels 0.5"),
        ([tfbig.Cluster(), tfbig.Preserve()], "cluster 16 + preserve"),
    ],
)
def test_stage_in_words(stage, text):
    assert describe(tuple(stage)) == text


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ([], r"`stages` must hold at least one technique, such as \[tfbig.Quantize\('int8'\)\]."),
        ([()], r"A stage must be a technique such as tfbig.Prune\(sparsity=0.8\), or a tuple of them, received \(\)"),
        (["prune"], "A stage must be a technique such as .*received 'prune'"),
        ([(Prune(), Prune())], "A stage must hold each technique once, received prune, prune. Make it two stages."),
    ],
)
def test_stages_that_are_none(stages, text):
    with pytest.raises(InvalidArgument, match=text):
        Recipe(stages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "A recipe must be YAML: .*line 1"),
        ("just words", "A recipe must be a mapping with a list of `stages`, received 'just words'"),
        ("stages: prune", "`stages` of a recipe must be a list of techniques .*received 'prune'"),
        ("name: mine", "`stages` of a recipe must be a list of techniques .*received None"),
        ("stage: []", "Unknown key of a recipe 'stage'. Known: description, name, stages. Did you mean 'stages'?"),
        ("stages: [prune]", r"A technique must be a mapping with a `name`, such as \{name: prune\}, received 'prune'"),
        ("stages: [{name: prun}]", "Unknown technique 'prun'.*Did you mean 'prune'?"),
        ("stages: [{name: prune, sparsity: 1.2}]", r"`sparsity` must be in \(0, 1\), received 1.2."),
        ("stages: [{name: prune, sparsity: much}]", r"`sparsity` must be in \(0, 1\), received 'much'."),
    ],
)
def test_texts_that_are_no_recipes(text, message, tmp_path):
    with pytest.raises(InvalidArgument, match=message):
        Recipe.from_yaml(text)
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InvalidArgument, match=f"The recipe file '.*bad.yaml' is no recipe. {message}"):
        Recipe.load(tmp_path / "bad.yaml")


def test_json_that_is_none(tmp_path):
    with pytest.raises(InvalidArgument, match="A recipe must be JSON: Expecting .*line 1 column 2"):
        Recipe.from_json("[")
    (tmp_path / "small.json").write_text(Recipe([tfbig.Quantize(freeze_after=1e-05)]).to_json())
    assert Recipe.load(tmp_path / "small.json").stages[0][0].freeze_after == 1e-05


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(InvalidArgument, match="Unknown recipe 'smal'. Known: balanced, .*Did you mean 'small'?"):
        Recipe.load("smal")
    with pytest.raises(InvalidFile, match="The recipe file 'gone.yaml' does not exist. Named recipes: balanced, fast"):
        Recipe.load("gone.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InvalidFile, match="The recipe file '.*picture.yaml' is not text"):
        Recipe.load(tmp_path / "picture.yaml")
