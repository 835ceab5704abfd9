"""Drafts of the families' own models: the entry of a known one, and guesses once its name is taken away."""

import json

import pytest

import weightscope
from tests.parity.cases import CASES
from tests.parity.models import build
from weightscope.drafting import draft_family
from weightscope.families.family_file import load_family
from weightscope.families.registry import FAMILIES


def layers_of(checkpoint):
    return {m.layer for m in checkpoint.matrices if m.layer is not None}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_drafts(tmp_path, case):
    model, mine = tmp_path / "model", tmp_path / "my.yaml"
    build(case).save_pretrained(model)
    mine.write_text(draft_family(model).text)
    assert load_family(str(mine)) == FAMILIES[case.family]
    with weightscope.open_checkpoint(model) as known:
        layers = layers_of(known)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "nobodys"}))
    draft = draft_family(model)
    mine.write_text(draft.text)
    with (
        weightscope.open_checkpoint(model) as guessed,
        weightscope.open_checkpoint(model, family=str(mine)) as drafted,
    ):
        assert guessed.detection.spec.name == "unknown"
        assert drafted.detection.spec.name == "nobodys"
        assert drafted.matrices == guessed.matrices
        assert drafted.skipped == guessed.skipped
        # ALBERT's groups stand in a place of their own, in which nobody would look for layers.
        assert case.family == "albert" or layers_of(drafted) == layers
