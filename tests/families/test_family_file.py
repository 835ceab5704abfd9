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


ENTRY = "name: x\npatterns:\n- template: 'a.{layer}.b'\n"
TOLD = {
    "a misspelt field and what it leaves missing": (
        "name: x\npatterns:\n- templates: 'a'\n  group: Q\n",
        [
            "In line 3",
            "no field 'templates' (did you mean 'template'?)",
            "(and 1 more problem)",
            "transposed",
        ],
    ),
    "in which entry": (
        f"{ENTRY}  groups: Q\n",
        ["In line 4 (template 'a.{layer}.b')", "did you mean 'group'?"],
    ),
    "a missing field": (f"{ENTRY}", ["In line 3", "there is no 'group'"]),
    "of the whole file": ("name: x\nprefix: [a]\npatterns: []\n", ["In line 2", "did you mean 'prefixes'?"]),
    "a group": (f"{ENTRY}  group: m1\n", ["In line 4", "no group 'm1' (did you mean 'M1'?)", "unembedding"]),
    "an entry of text": ("name: x\npatterns:\n\n- just\n", ["In line 4", "'just' stands where a mapping is"]),
    "a word for a flag": (
        f"{ENTRY}  group: Q\n  transposed: maybe\n",
        ["line 5", "'maybe'", "true or"],
    ),
    "empty": ("", ["There is nothing in the file"]),
    "a list": ("[1, 2]", ["stands a list", "a mapping of fields is needed"]),
    "a bare brace": (
        "name: x\npatterns:\n- template: {prefix}h.{layer}.w\n",
        ["family.yaml, line 3: ", "In line 3 put what begins with {prefix} in quotes."],
    ),
    "two colons": (
        "name: x\npatterns: []\nb: c: d\n",
        ["family.yaml, line 3: mapping values are not allowed here."],
    ),
    "an open bracket": ("a: 1\nb: [1\n\nc: 2\n", ["line 4: ", "while parsing a flow", "of line 2"]),
    "a tab": ("name: x\n\tfoo: y\n", ["line 2: found character '\\t'"]),
    "a bell": ("name: x\nb: \x07\n", ["line 2: special characters are not allowed"]),
    "a key twice": ("name: x\npatterns: []\nname: y\n", ["line 3: the key 'name' stands twice"]),
}


@pytest.mark.parametrize(("text", "words"), TOLD.values(), ids=TOLD)
def test_what_is_wrong_is_told_by_line_and_in_words(tmp_path, text, words):
    with pytest.raises(UnknownFamily) as caught:
        load_family(written(tmp_path, text))
    told = str(caught.value)
    for word in words:
        assert word in told, told
    assert "Input should be" not in told
    assert "FamilySpec" not in told


def test_a_file_that_is_not_there_is_not_answered_with_fields():
    with pytest.raises(UnknownFamily) as caught:
        load_family("absent.yaml")
    assert "families show gpt2" not in str(caught.value)
    assert "Check the path" in str(caught.value)


def test_neither_name_nor_file():
    with pytest.raises(UnknownFamily, match="or nearly so"):
        load_family("nonsense")
    with pytest.raises(UnknownFamily, match="cannot be read"):
        load_family("missing.yaml")
