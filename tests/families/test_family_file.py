"""Families from YAML files."""

import pytest
import yaml
from typer.testing import CliRunner

import weightscope
from tests.factories import gpt2_tensors, write_checkpoint
from weightscope.cli.app import app
from weightscope.errors import UnknownFamily
from weightscope.families.family_file import load_family
from weightscope.families.registry import FAMILIES

GOOD = {
    "name": "mine",
    "patterns": [{"template": "h.{layer}.mlp.c_fc.weight", "group": "M1", "transposed": True}],
}


def written(tmp_path, content):
    path = tmp_path / "family.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_show_prints_reads_back_as_the_same_family(tmp_path, name):
    shown = CliRunner().invoke(app, ["families", "show", name])
    assert shown.exit_code == 0
    assert load_family(written(tmp_path, shown.stdout)) == FAMILIES[name]


def test_a_family_of_ones_own(tmp_path):
    folder = write_checkpoint(tmp_path / "model", gpt2_tensors(), {"model_type": "new"})
    analysis = weightscope.analyze(folder, family=written(tmp_path, GOOD))
    assert analysis.table["group"].tolist() == ["M1", "M1"]
    assert analysis.table["out_features"].tolist() == [32, 32]
    assert analysis.provenance["family"] == "mine"


BAD = {
    "unknown field": ({**GOOD, "prefix": "x"}, "prefix"),
    "unknown field of a pattern": ({"name": "x", "patterns": [{**GOOD["patterns"][0], "part": 1}]}, "part"),
    "unknown group": ({"name": "x", "patterns": [{"template": "a", "group": "M7"}]}, "group"),
    "no patterns": ({"name": "x"}, "patterns"),
    "bad template": ({"name": "x", "patterns": [{"template": "{block}", "group": "Q"}]}, "name template"),
    "unknown size": ({**GOOD, "config_keys": {"head": "n_head"}}, "config key of 'head'"),
    "a stack that is no name": ({**GOOD, "stack": "../../x"}, "stack '../../x'"),
    "a name of a page": ({**GOOD, "name": "x" * 61}, "at most 60"),
    "one template twice": ({**GOOD, "patterns": GOOD["patterns"] * 2}, "there twice"),
    "an attention of no kind": (
        {"name": "x", "patterns": [{"template": "a", "group": "Q", "attention_kind": "crossed"}]},
        "attention_kind.*'self' or 'cross'",
    ),
    "a kind for no attention": (
        {"name": "x", "patterns": [{"template": "a", "group": "M1", "attention_kind": "cross"}]},
        "Only attention has a kind",
    ),
    "a first layer below the first": ({**GOOD, "first_layer": -1}, "0 or more"),
    "a key twice": ("name: x\npatterns: []\nname: y\n", "'name' stands twice in the mapping of line 1"),
    "a key of a pattern twice": (
        "name: x\npatterns:\n- template: a\n  group: Q\n  group: K\n",
        "'group' stands twice .* line 3",
    ),
    "no mapping": ("just text", "the file"),
    "no YAML": ("a: [", "not YAML"),
}


@pytest.mark.parametrize(("content", "named"), BAD.values(), ids=BAD)
def test_bad_files_are_refused_by_field(tmp_path, content, named):
    with pytest.raises(UnknownFamily, match=named):
        load_family(written(tmp_path, content))


def test_neither_name_nor_file():
    with pytest.raises(UnknownFamily, match="or nearly so"):
        load_family("nonsense")
    with pytest.raises(UnknownFamily, match="cannot be read"):
        load_family("missing.yaml")
