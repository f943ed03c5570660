"""The code in the documentation runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tfbig

DOCS = Path(tfbig.__file__).parents[1] / "docs"
PAGE = DOCS / "coming_from_tfmot.md"
CALLS = r"`(tfbig\.[A-Z]\w+\([^`]*\))"


def blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_page_for_people_from_tfmot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks one after another; then each technique in the tables is made with the options it shows."""
    monkeypatch.chdir(tmp_path)
    text, names = PAGE.read_text(encoding="utf-8"), {"__name__": "docs"}
    for block in blocks(text):
        exec(compile(block, str(PAGE), "exec"), names)
    assert {"old.tflite", "migrated.tflite"} <= {path.name for path in tmp_path.iterdir()}
    calls = re.findall(CALLS, text)
    assert len(calls) > 20
    for call in calls:
        made: Any = eval(call, names)
        assert type(made).__module__.startswith(("tfbig.compression.", "tf_keras.")), call


def test_every_public_call_of_tfmot_is_on_the_page() -> None:
    from tfbig.compression.tfmot.toolkit import toolkit

    text = PAGE.read_text(encoding="utf-8")
    public = [
        name
        for part in (toolkit().sparsity.keras, toolkit().clustering.keras, toolkit().quantization.keras)
        for name in dir(part)
        if name[0] != "_"
        and callable(getattr(part, name))
        and name.startswith(("prune", "Prun", "strip", "cluster_", "quantize_"))
    ]
    assert len(public) >= 12
    assert [name for name in public if name not in text] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"\b((?:benchmarks|tests|examples|tfbig)/[\w/]+\.py)\b", page.read_text(encoding="utf-8")):
        assert (DOCS.parent / name).is_file(), name


def test_the_page_of_recipes_lists_those_there_are() -> None:
    named = re.findall(r"^\| `(\w+)` \|", (DOCS / "recipes.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == tfbig.Recipe.names()


def test_the_recipe_of_the_page_is_the_same_in_python_and_in_yaml(capsys: pytest.CaptureFixture) -> None:
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    (code,), (text,) = blocks(page), blocks(page, "yaml")
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert tfbig.Recipe.from_yaml(text).stages == scope["recipe"].stages
    assert tfbig.Recipe.from_yaml(capsys.readouterr().out) == scope["recipe"]
