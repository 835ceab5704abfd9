"""`weightscope families` and its commands, as a user types them."""

import subprocess
import sys

import pytest
import torch
import yaml
from typer.testing import CliRunner

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint, write_gpt2
from tests.families.made_up import llama, llama_config
from weightscope.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def made_up(folder):
    tensors = {**llama(0, 1), "model.layers.0.extra.weight": torch.randn(3, 4)}
    return write_checkpoint(folder, tensors, llama_config(2, model_type="new"))


def test_draft_prints_yaml_on_stdout_and_notes_on_stderr(tmp_path):
    done = run("families", "draft", made_up(tmp_path / "model"))
    assert done.exit_code == 0
    content = yaml.safe_load(done.stdout)
    assert content["name"] == "new"
    assert {pattern["group"] for pattern in content["patterns"]} >= {"Q", "K", "V", "O", "M1", "G", "M2"}
    assert "model.layers.0.self_attn.q_proj.weight [8, 8] F32" in done.stdout
    assert "note:" not in done.stdout
    assert "note: The model_type 'new' is not registered." in done.stderr
    (tmp_path / "my.yaml").write_text(done.stdout)
    with_draft = run("analyze", tmp_path / "model", "--family", tmp_path / "my.yaml", "--json", "--quiet")
    guessed = run("analyze", tmp_path / "model", "--json", "--quiet")
    ours, theirs = (yaml.safe_load(each.stdout) for each in (with_draft, guessed))
    assert ours["groups"] == theirs["groups"]
    assert ours["coverage"] == theirs["coverage"]
    assert (ours["family"], theirs["family"]) == ("new", "unknown")
    assert run("families", "show", tmp_path / "my.yaml").exit_code == 0


def test_draft_of_a_known_family(tmp_path):
    done = run("families", "draft", write_gpt2(tmp_path))
    assert done.stderr == ""
    assert yaml.safe_load(done.stdout) == yaml.safe_load(run("families", "show", "gpt2").stdout) | {
        "stack": "decoder"
    }
    assert "matches nothing here" in done.stdout


def test_draft_takes_what_inspect_takes(tmp_path):
    write_gpt2(tmp_path / "inner")
    assert "name: gpt2" in run("families", "draft", tmp_path, "--subfolder", "inner").stdout
    forced = run("families", "draft", tmp_path / "inner", "--family", "gpt_bigcode")
    assert "name: gpt_bigcode" in forced.stdout
    assert "note: The checkpoint is refused: " in forced.stderr
    torch.save(gpt2_tensors(), tmp_path / "weights.pt")
    assert "name: gpt2" in run("families", "draft", tmp_path / "weights.pt", "--allow-pickle").stdout


def test_draft_says_what_is_wrong_with_the_checkpoint(tmp_path):
    mixed = write_checkpoint(tmp_path, {**gpt2_tensors(), **llama(2, 3)}, {**GPT2_CONFIG, "n_layer": 4})
    done = run("families", "draft", mixed)
    assert done.exit_code == 0
    assert "note: The checkpoint is refused: Other layers have the names of family 'llama'" in done.stderr
    assert "# - template: 'model.layers.{layer}.mlp.up_proj.weight'" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["demo", "--family", "nonsense"], ["demo", "--family", "bert"], ["."]],
    ids=" ".join,
)
def test_nothing_is_printed_on_stdout_if_it_fails(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "weightscope", "families", "draft", *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_verified():
    listed = run("families", "--verified").stdout.splitlines()
    assert [line.split()[0] for line in listed] == weightscope.list_families()
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in listed}
    assert said["llama"] == "transformers 5.23, modules"
    assert said["phi3"] == "transformers 5.23, forward pass"
    assert said["phi-msft"] == "formula"
    assert all("transformers 5.23, " in line or "formula" in line for line in listed)
