"""`size` and `sizes` of recipes that train: what is laid over, and what is said of the rest."""

from __future__ import annotations

import pytest

from weightscope.errors import RecipeError
from weightscope.recipes.load import load_recipe

START = "experiment: merging\ntitle: Mine\n"


def written(folder, text):
    path = folder / "mine.yaml"
    path.write_text(START + text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("setting", ["setting: {samples: 7}\n", "setting:\n", "setting: null\n", ""])
def test_a_size_is_laid_over_whatever_the_setting_is(tmp_path, setting):
    path = written(tmp_path, setting + "size: small\nsizes: {small: {steps: 3}}\n")
    recipe = load_recipe(path).recipe
    assert recipe.setting.steps == 3
    assert recipe.setting.samples == (7 if "7" in setting else 100)


def test_no_size_is_the_paper_s_and_the_last_one_given_counts(tmp_path):
    path = written(tmp_path, "size: null\nsizes: {a: {steps: 3}, b: {steps: 4}}\n")
    assert load_recipe(path).recipe.setting.steps == 100_000
    assert load_recipe(path, ["size=a", "size=b"]).recipe.setting.steps == 4
    assert load_recipe(path, ["size=a", "size=null"]).recipe.size == "paper"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sizes: [1]", "At sizes, line 3 of mine.yaml: a list stands where a mapping is needed"),
        ("sizes: {a: 3}", "At sizes.a, line 3 of mine.yaml: the number 3 stands where a mapping"),
        ("sizes: {a: {widht: 3}}", "At sizes.a.widht, line 3 of mine.yaml: there is no such key (did"),
        ("sizes: {paper: {samples: 3}}", "'paper' is the setting as it is written"),
        ("size: [a]\nsizes: {a: {steps: 3}}", "it has no such size"),
        ("size: {a: b}", "it has no such size"),
        ("size: 3\nsizes: {3: {steps: 3}}", "it has no such size"),
        ("size: x\nsizes: {a: {steps: 3}}", "it has no such size"),
    ],
)
def test_sizes_that_are_none_are_refused_chosen_or_not(tmp_path, text, found):
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, text + "\n"))
    assert found in str(caught.value)


def test_a_recipe_that_a_run_wrote_has_no_other_size(tmp_path):
    """Its own is laid over already; another one would be a name without its numbers."""
    path = written(tmp_path, "size: smoke\nsetting: {steps: 3}\n")
    assert load_recipe(path).recipe.setting.steps == 3
    with pytest.raises(RecipeError, match="It has no 'sizes'"):
        load_recipe(path, ["size=quick"])


@pytest.mark.parametrize("kind", ["[merging]", "{a: b}", "3", "null", "merg"])
def test_an_experiment_that_is_none(tmp_path, kind):
    path = tmp_path / "mine.yaml"
    path.write_text(f"experiment: {kind}\ntitle: Mine\n")
    for settings in ([], ["size=quick"]):
        with pytest.raises(RecipeError, match="there is no"):
            load_recipe(str(path), settings)
