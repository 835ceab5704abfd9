"""The demo checkpoint: what it is, that it is trained, that its recipe runs."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf

import weightscope

RECIPE = Path(__file__).parent.parent / "recipes" / "demo_checkpoint.py"


def test_what_it_is(demo):
    config = json.loads((demo / "config.json").read_text())
    assert (config["model_type"], config["vocab_size"]) == ("gpt2", 256)
    found = weightscope.inspect("demo")
    assert (found.family, found.layers, found.model_dimension, list(found.dtypes)) == (
        "gpt2",
        4,
        128,
        ["BF16"],
    )
    assert (demo / "model.safetensors").stat().st_size <= 2_000_000


def test_it_has_learnt_to_read_python(demo):
    """On this very file, which it has never seen, it needs less than half of a fresh model's ln 256."""
    model = hf.GPT2LMHeadModel.from_pretrained(demo).float()
    text = torch.tensor(list(Path(__file__).read_bytes()[:1024])).view(4, 256)
    with torch.no_grad():
        loss = model(text, labels=text).loss.item()
    assert loss < math.log(256) / 2


def test_its_spectra_differ_from_initialisation(demo):
    torch.manual_seed(0)
    fresh = weightscope.analyze(hf.GPT2LMHeadModel(hf.GPT2Config.from_pretrained(demo))).table
    trained = weightscope.analyze("demo").table
    assert (fresh["stable_rank"] > 0.93 * fresh["stable_rank_gaussian"]).all()
    assert (trained["stable_rank"] < fresh["stable_rank"]).all()
    assert trained["stable_rank"].mean() < 0.7 * fresh["stable_rank"].mean()


@pytest.mark.skipif(not RECIPE.exists(), reason="recipes/ stands beside tests/ in a checkout only")
def test_the_recipe_runs(tmp_path):
    log = tmp_path / "loss.csv"
    command = [sys.executable, str(RECIPE), "--out", str(tmp_path / "out"), "--log", str(log), "--steps", "2"]
    subprocess.run(command, check=True, capture_output=True)
    assert log.read_text().splitlines()[0] == "step,training_loss,held_out_loss,seconds"
    found = weightscope.inspect(tmp_path / "out")
    assert (found.family, found.parameters) == ("gpt2", weightscope.inspect("demo").parameters)
