"""Recipe files: what may stand in them, what is said of the rest, what ships; the tables that join models."""

import json
import math
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import weightscope
from tests.factories import write_gpt2
from weightscope import analyze
from weightscope.errors import OptionError, RecipeError
from weightscope.families.spec import DEFAULT_GROUPS
from weightscope.options import Options
from weightscope.recipes.joint import Report, joint_matrices, joint_summary, norm_preservation
from weightscope.recipes.load import list_recipes, load_recipe
from weightscope.recipes.outcome import ModelOutcome, reference_of
from weightscope.recipes.results import resolved_text
from weightscope.recipes.shipped import shipped_folder, shipped_recipes
from weightscope.recipes.spec import ModelSpec, OptionsSpec

ROOT = Path(__file__).parent.parent
GOOD = """\
experiment: analyze
title: Two models

models:
  one:
    source: demo
  two:
    source: org/name
    revision: main
options:
  rtol: 1e-5
  groups: Q,K
"""


def written(folder, text=GOOD):
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(path, *settings):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, settings)
    return caught.value


# ------------------------------------------------------------------------------- what ships


def test_what_ships_is_paper_a():
    assert list(shipped_recipes()) == [
        "paper_a/figure1",
        "paper_a/figure2",
        "paper_a/figure3",
        "paper_a/figure4",
        "paper_a/figure5",
        "paper_a/table1",
    ]
    for name, loaded in list_recipes().items():
        assert loaded.recipe.paper.item.replace(" ", "").lower() == name.split("/")[1]


# Section 6.1 and Table 1 of the paper, typed from its text.
TABLE_1 = {
    "BERT": (12, 768, 3072, 110e6),
    "RoBERTa": (12, 768, 3072, 125e6),
    "GPT2-Large": (36, 1280, 5120, 774e6),
    "GPT2-XL": (48, 1600, 6400, 1.5e9),
    "Phi-2": (32, 2560, 10240, 2.8e9),
    "GPT-J": (28, 4096, 16384, 6e9),
}


def test_table_1_expects_what_the_paper_prints():
    models = load_recipe("paper_a/table1").recipe.models.values()
    sizes = {m.label: tuple(m.expected.model_dump().values()) for m in models}
    assert sizes == TABLE_1


def test_the_figures_show_the_papers_models_in_its_order():
    labels = {
        name: [model.label for model in load_recipe(f"paper_a/{name}").recipe.models.values()]
        for name in ("figure1", "figure4")
    }
    assert labels == {"figure1": ["Phi-2", "GPT-J"], "figure4": ["BERT", "GPT2-Large", "RoBERTa", "GPT2-XL"]}


def test_every_shipped_model_has_a_revision_and_is_the_hubs():
    for loaded in list_recipes().values():
        for model in getattr(loaded.recipe, "models", {}).values():
            assert model.revision
            assert reference_of(model) == f"{model.source}@{model.revision}"


@pytest.mark.parametrize("name", ["paper_a/figure1", "paper_a/figure1.yaml", "paper_a/figure1.yml"])
def test_a_shipped_name_with_or_without_its_ending(name):
    assert load_recipe(name).stem == "figure1"


def test_an_existing_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("paper_a").mkdir()
    Path("paper_a/figure1.yaml").write_text(GOOD)
    assert load_recipe("paper_a/figure1.yaml").recipe.title == "Two models"


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="only a checkout has it")
def test_the_wheel_is_told_to_take_every_recipe():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    mapped = wheel["force-include"]
    for path in (ROOT / "recipes").rglob("*.y*ml"):
        folder = path.parent.relative_to(ROOT).as_posix()
        assert mapped[folder] == f"weightscope/recipes/shipped/{path.parent.name}"
    if Path(weightscope.__file__).parent.parent == ROOT:
        assert shipped_folder() == ROOT / "recipes"


@pytest.mark.skipif(find_spec("hatchling") is None, reason="building a wheel takes hatchling")
def test_a_wheel_has_them(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for name in shipped_recipes():
        assert f"weightscope/recipes/shipped/{name}.yaml" in names


def test_a_folder_inside_the_package_is_what_a_wheel_reads(tmp_path, monkeypatch):
    inside = tmp_path / "weightscope" / "recipes" / "shipped" / "paper_z"
    inside.mkdir(parents=True)
    (inside / "figure9.yaml").write_text(GOOD)
    monkeypatch.setattr("weightscope.__file__", str(tmp_path / "weightscope" / "__init__.py"))
    assert list(shipped_recipes()) == ["paper_z/figure9"]


# ------------------------------------------------------------------------------- what may stand in one


def test_defaults_are_those_of_analyze(tmp_path):
    assert OptionsSpec().options() == Options()
    loaded = load_recipe(written(tmp_path))
    options = loaded.recipe.options.options()
    assert (options.rtol, options.groups) == (1e-5, DEFAULT_GROUPS[:2])
    assert set(OptionsSpec.model_fields) == set(Options.__dataclass_fields__)


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("options.layers=0-2,5", "layers", (0, 1, 2, 5)),
        ("options.layers=[5, 1]", "layers", (1, 5)),
        ("options.layers=3", "layers", (3,)),
        ("options.groups=[K, Q]", "groups", ("Q", "K")),
        ("options.rtol=1e-8", "rtol", 1e-8),
        ("options.epsilon=0.1", "epsilon", (0.1,)),
        ("options.epsilon=[1e-4, .5]", "epsilon", (1e-4, 0.5)),
        ("options.epsilon=0.1", "spectrum", True),
        ("options.spectrum=true", "spectrum", True),
        ("options.memory=4G", "memory", 4 * 10**9),
        ("options.memory=500MiB", "memory", 500 * 2**20),
        ("options.memory=1234567", "memory", 1234567),
        ("options.bound=proved", "bound", "proved"),
        ("options.device=cpu", "device", "cpu"),
        ("options.seed=7", "seed", 7),
        ("options.rtol=null", "rtol", 1e-6),
        ("options=null", "groups", DEFAULT_GROUPS),
    ],
)
def test_settings(tmp_path, setting, name, value):
    loaded = load_recipe(written(tmp_path), [setting])
    assert getattr(loaded.recipe.options.options(), name) == value


def test_a_key_without_a_value_has_its_default(tmp_path):
    text = "experiment: analyze\ntitle: x\npaper:\noptions:\nmodels: {a: {source: demo, family: }}"
    recipe = load_recipe(written(tmp_path, text)).recipe
    assert recipe.options == OptionsSpec()
    assert (recipe.paper, recipe.models["a"].family) == (None, None)


def test_settings_apply_in_order_and_a_new_source_forgets_the_old_ones_revision(tmp_path):
    path = written(tmp_path)
    models = load_recipe(path, ["models.two.source=./two"]).recipe.models
    assert (models["two"].source, models["two"].revision) == ("./two", None)
    for order in (1, -1):
        both = ["models.two.source=org/other", "models.two.revision=v2"][::order]
        assert reference_of(load_recipe(path, both).recipe.models["two"]) == "org/other@v2"
    assert load_recipe(path, ["title=a", "title=b"]).recipe.title == "b"
    assert list(load_recipe(path, ["models.two=null"]).recipe.models) == ["one"]
    added = load_recipe(path, ["models.three={source: demo, label: Three}"]).recipe.models
    assert (list(added), added["three"].label) == (["one", "two", "three"], "Three")


def test_what_is_run_is_a_recipe_that_says_the_same(tmp_path):
    loaded = load_recipe(written(tmp_path), ["options.layers=0-1", "models.two=null", "options.rtol=null"])
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(loaded.resolved()))
    second = load_recipe(str(again))
    assert second.recipe.options == loaded.recipe.options
    assert second.recipe.models == loaded.recipe.models
    assert (second.stem, second.file) == ("again", "mine")


@pytest.mark.parametrize(
    "text",
    ["1e5", "0e1", "12", "1.5", "yes", "null", "~", "2020-01-01", "a: b", "- a", "#", "0x1f", "1:30", "ü"],
)
def test_text_stays_text_in_what_is_written(tmp_path, text):
    loaded = load_recipe(written(tmp_path, GOOD.replace("main", json.dumps(text))))
    assert loaded.recipe.models["two"].revision == text
    again = load_recipe(written(tmp_path, resolved_text(loaded)))
    assert again.recipe == loaded.recipe.model_copy(update={"figure": again.recipe.figure})
    assert yaml.safe_load(resolved_text(loaded))["models"]["two"]["revision"] == text


@pytest.mark.parametrize("stem", ["a:b", ".hidden", "Zwölf Modelle", "x" * 120, "..."])
def test_odd_file_names_make_names_that_a_recipe_may_state(tmp_path, stem):
    path = tmp_path / f"{stem}.yaml"
    path.write_text(GOOD)
    loaded = load_recipe(str(path))
    path.write_text(yaml.safe_dump(loaded.resolved()))
    assert load_recipe(str(path)).file == loaded.file


# ------------------------------------------------------------------------------- what may not

BAD = {
    # what is changed in GOOD: (old, new), then what the message names
    "unknown key": ("title:", "titles:", "At titles, line 2 of mine.yaml", "did you mean 'title'?"),
    "unknown key of a model": ("    revision", "    revisions", "models.two.revisions, line 9", "'revision'"),
    "unknown option": ("  rtol", "  tolerance", "options.tolerance, line 11 ", "keys there are groups"),
    "missing key": ("    source: demo\n", "    label: x\n", "models.one.source, line 5 ", "it is missing"),
    "no experiment": ("experiment: analyze\n", "", "there is no 'experiment'", "inspect, analyze"),
    "another experiment": ("analyze", "analyse", "line 1 of mine.yaml", "did you mean 'analyze'?"),
    "text for a number": ("1e-5", "small", "options.rtol, line 11 ", "'small' stands where a number"),
    "number for a text": ("main", "12", "models.two.revision, line 9 ", "Put it in quotes"),
    "out of range": ("1e-5", "0.5", "options.rtol, line 11 ", "between 1e-12"),
    "unknown group": ("Q,K", "Q,X", "options.groups, line 12 ", "the group 'X' was asked for"),
    "a model that is text": ("  one:\n    source: demo", "  one: demo", "models.one, line 5 ", "a mapping"),
    "models that are a list": ("  one:\n    source: demo\n  two:\n    source: org/name\n    revision: main",
                               "  - demo", "models, line 4 ", "a list stands where a mapping"),
    "no models": ("  one:\n    source: demo\n  two:\n    source: org/name\n    revision: main",
                  "  {}", "models, line 4 ", "it is empty"),
    "a folder of a model": ("one:", "../one:", "models.../one, line 5 ", "is no name of a model"),
    "one folder twice": ("one:", "TWO:", "models.two, line 7 ", "'two' and 'TWO' have one name"),
    "the same key twice": ("  groups: Q,K", "  rtol: 1e-4", "Line 12 of mine.yaml",
                           "'options.rtol' a second time; the first is line 11"),
    "no YAML": ("title: Two", "title: [Two", "of mine.yaml is not YAML", "Correct the file"),
    "a tab": ("  rtol", "\trtol", "Line 11 of mine.yaml is not YAML", "Correct"),
    "a Python object": ("Two models", "!!python/object:os.system x", "is not YAML", "constructor"),
    "a key of two": ("rtol:", "? [a, b]\n  :", "Line 11 of mine.yaml", "a key that is no text"),
    "itself": ("Two models", "&a [*a]", "too deep", "Correct"),
    "a command to the terminal": ("Two models", '"\\e[2J"', "At title, line 2", "cannot be printed"),
    "a list of groups that is none": ("Q,K", "[Q, 7]", "options.groups, line 12", "the number 7 stands"),
    "a figure of what is not there": ("options:", "figure: {quantities: [nuclear_norm]}\noptions:",
                                      "figure.quantities, line 10", "with spectrum: true there are more"),
    "a figure of nothing": ("Q,K", "embedding", "options.groups, line 12", "can be drawn"),
    "a figure elsewhere": ("options:", "figure: {file: ../x}\noptions:", "figure.file", "no name of a file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes_are_refused_by_file_line_and_key(tmp_path, case):
    old, new, where, what = BAD[case]
    assert GOOD.count(old), case
    error = refused(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "mine.yaml' was to be run." in error.asked
    assert where in error.found
    assert what in str(error)
    assert error.advice.endswith(".")


def test_two_models_of_one_label(tmp_path):
    error = refused(written(tmp_path), "models.one.label=two")
    assert "'two' and 'one' have one label, 'two'" in str(error)


BAD_SETTINGS = {
    "options.rtl=1": ("options.rtl, --set options.rtl=1", "did you mean 'rtol'?"),
    "option.rtol=1": ("At option", "did you mean 'options'?"),
    "options.rtol=7": ("options.rtol, --set options.rtol=7", "between 1e-12"),
    "options.spectrum=maybe": ("options.spectrum, --set", "'maybe' stands where true or false is needed"),
    "options.layers=x": ("options.layers, --set", "no range of layers"),
    "options.layers=true": ("options.layers, --set", "true stands where text like 0-3,7"),
    "options.layers=1.5": ("options.layers, --set", "the number 1.5"),
    "options.epsilon=2": ("options.epsilon, --set", "between 0 and 1"),
    "options.epsilon=[a]": ("options.epsilon, --set", "'a' stands where a number or a list"),
    "options.memory=lots": ("options.memory, --set", "it is no size"),
    "options.bound=sure": ("options.bound, --set", "residual, probable, audited, proved"),
    "options.seed=-1": ("options.seed, --set", "greater than or equal to 0"),
    "options.seed=1.5": ("options.seed, --set", "a whole number is needed"),
    "options=7": ("options, --set options=7", "a mapping is needed"),
    "models.three.source=x": ("It has no model 'three'", "models.three={source: …}"),
    "models.tow.source=x": ("(did you mean 'two'?)", "Its models are one, two"),
    "models.tow=null": ("(did you mean 'two'?)", "Its models are one, two"),
    "models=null": ("At models, --set models=null", "it is missing"),
    "models.one.sources=x": ("models.one.sources, --set", "did you mean 'source'?"),
    "models.one.source=": ("models.one.source, --set", "it is missing"),
    "models.one.allow_pickle=1": ("models.one.allow_pickle, --set", "true or false"),
    "title.x=1": ("'title' is 'Two models' there", "Set 'title' as a whole"),
    "title=[": ("The value of 'title' is not YAML", "quotes"),
    "title={a: 1, a: 2}": ("The value of 'title' is not YAML", "a second time"),
    "title={a: 1}": ("title, --set", "a mapping stands where text"),
    "title": ("not of the form key=value", "--set options.device=cpu"),
    "=x": ("not of the form key=value", "Write"),
    "options..rtol=1": ("not of the form key=value", "Write"),
    "figure.quantities=stable_rank": ("figure.quantities, --set", "stands where a list"),
    "figure.quantities=[stable_rnk]": ("figure.quantities, --set", "did you mean 'stable_rank'?"),
    "experiment=train": ("--set experiment=train", "inspect, analyze"),
}


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_bad_settings_are_refused_by_key(tmp_path, setting):
    where, what = BAD_SETTINGS[setting]
    error = refused(written(tmp_path), setting)
    assert where in str(error), str(error)
    assert what in str(error), str(error)


def test_the_first_problem_is_told_and_the_others_are_counted(tmp_path):
    error = refused(written(tmp_path), "options.rtol=7", "options.bound=x", "models.one.foo=1")
    assert "(and 2 more problems)" in error.found


@pytest.mark.parametrize(
    ("name", "found", "advice"),
    [
        ("figure1", "none of this name", "Did you mean 'paper_a/figure1'?"),
        ("paper_a/figur4", "none of this name", "Did you mean 'paper_a/figure4'?"),
        ("nothing-like-it", "none of this name", "weightscope run --list"),
        ("missing.yaml", "There is no such file.", "weightscope run --list"),
        ("~nobody-here/x", "none of this name", "--list"),
        ("x" * 5000, "none of this name", "--list"),
        ("", "It is a folder", "--list"),
        ("../../etc", "no such file", "--list"),
    ],
)
def test_neither_name_nor_file(name, found, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused(name)
    assert found in error.found
    assert advice in error.advice


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"title: \xff\xfe")
    assert "no UTF-8 text: byte 7 is 0xff" in str(refused(str(tmp_path / "mine.yaml")))
    assert "is empty" in str(refused(written(tmp_path, "# nothing\n")))
    assert "no mapping" in str(refused(written(tmp_path, "- a\n- b\n")))
    assert "it is no recipe" in str(refused(written(tmp_path, "a: " + "x" * 2_000_000)))
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert "too large" in str(refused(written(tmp_path, bomb)))
    assert "holds a value of 5,000 characters" in str(refused(written(tmp_path, f"title: {'1' * 5000}")))


# ------------------------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("spec", "reference"),
    [
        ({"source": "demo"}, "demo"),
        ({"source": "org/name"}, "org/name"),
        ({"source": "org/name", "revision": "refs/pr/1"}, "org/name@refs/pr/1"),
        ({"source": "org/name", "revision": "v1", "subfolder": "a/b"}, "org/name@v1:a/b"),
        ({"source": "hf://org/name@v1", "subfolder": "a"}, "hf://org/name@v1:a"),
    ],
)
def test_references(spec, reference):
    assert reference_of(ModelSpec(**spec)) == reference


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"source": "demo", "revision": "v1"}, "revisions and subfolders are the Hub's"),
        ({"source": "org/name", "subfolder": "x"}, "revisions and subfolders are the Hub's"),
        ({"source": "a/b@v1", "revision": "v2"}, "states revision 'v1' itself"),
    ],
)
def test_a_revision_of_what_has_none(spec, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)
    with pytest.raises(OptionError, match=found):
        reference_of(ModelSpec(**spec))


# ------------------------------------------------------------------------------- joint tables


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    found = []
    for seed, layers in ((0, 3), (1, 2)):
        folder = write_gpt2(tmp_path_factory.mktemp("m"), layers=layers, seed=seed)
        analysis = analyze(folder)
        outcome = ModelOutcome(name=f"m{seed}", label=f"M {seed}", reference=str(folder), status="done")
        found.append(Report(outcome=outcome, table=analysis.table, summary=analysis.summary))
    return found


def test_norm_preservation_is_lemma_3s(reports):
    """Against plain numpy on the tables."""
    table = norm_preservation(reports)
    assert table["model"].tolist() == ["M 0", "M 1"]
    for report, (_, row) in zip(reports, table.iterrows(), strict=True):
        norms = {
            group: report.table[report.table["group"] == group]["frobenius_norm"].to_numpy()
            for group in ("QKV", "M1", "M2", "O")
        }
        three = np.stack([norms["QKV"], norms["M1"], norms["M2"]])
        ratios = three.max(axis=0) / three.min(axis=0)
        assert row["layers"] == three.shape[1]
        assert row["within_layer_max_over_min_mean"] == pytest.approx(ratios.mean())
        assert row["within_layer_max_over_min_max"] == pytest.approx(ratios.max())
        assert row["within_layer_worst"] == ratios.argmax()
        assert row["within_layer_coefficient_of_variation"] == pytest.approx(
            (three.std(axis=0) / three.mean(axis=0)).mean()
        )
        for group, values in norms.items():
            assert row[f"over_layers_max_over_min_{group}"] == pytest.approx(values.max() / values.min())
        share = norms["O"] / three.mean(axis=0)
        assert row["o_over_mean"] == pytest.approx(share.mean())
        assert (row["o_over_mean_min"], row["o_over_mean_max"]) == pytest.approx((share.min(), share.max()))


def test_the_joint_summary_has_a_row_a_group(reports):
    table = joint_summary(reports)
    assert table.groupby("model")["group"].apply(list).to_dict() == {
        f"M {i}": ["Q", "K", "V", "O", "QKV", "M1", "M2"] for i in (0, 1)
    }
    rows = reports[1].table[reports[1].table["group"] == "M1"]
    (found,) = table[(table["model"] == "M 1") & (table["group"] == "M1")].to_dict("records")
    assert found["stable_rank_mean"] == pytest.approx(rows["stable_rank"].mean())
    assert found["stable_rank_harmonic_mean"] == pytest.approx(1 / (1 / rows["stable_rank"]).mean())
    assert found["stable_rank_gaussian"] == pytest.approx(math.sqrt(8 * 32) / (math.sqrt(8) + math.sqrt(32)))
    norms = rows["frobenius_norm"]
    assert found["frobenius_norm_max_over_min"] == pytest.approx(norms.max() / norms.min())


def test_joint_matrices_are_the_tables(reports):
    whole = joint_matrices(reports)
    for report in reports:
        rows = whole[whole["model"] == report.outcome.label].drop(columns="model").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, report.table)
