"""The README says what the package does: its commands, its output, its Python."""

import re
import shutil
from pathlib import Path

import pytest
import transformers
from typer.testing import CliRunner

from weightscope.cli.app import app

README = Path(__file__).parent.parent / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the README stands beside tests/ in a checkout only"
)


def blocks(language=""):
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


def test_the_two_commands():
    assert blocks()[0] == "pip install . && weightscope analyze demo\n"
    assert blocks()[2] == "pip install '.[test]' && pytest\n"


def test_the_output_is_what_the_command_prints(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    printed = CliRunner().invoke(app, ["analyze", "demo", "--device", "cpu"]).stdout
    expected = [line.rstrip() for line in blocks()[1].splitlines()]
    assert [line.rstrip() for line in printed.splitlines()][: len(expected)] == expected


def test_the_commands_run(tmp_path, monkeypatch, hub):
    """The block on your own checkpoint, run as it stands on a Phi of the true architecture and small size."""
    monkeypatch.chdir(tmp_path)
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    transformers.PhiForCausalLM(transformers.PhiConfig(**sizes, vocab_size=100)).save_pretrained("phi-2")
    hub.add("microsoft/phi-2", {path.name: path for path in Path("phi-2").iterdir()})
    commands = [line.split("#")[0].split() for line in blocks()[3].splitlines()]
    assert len(commands) == 5
    shutil.copytree("phi-2", "other-phi")
    assert CliRunner().invoke(app, ["analyze", "./other-phi", "--out", "other-report"]).exit_code == 0
    for _, command, *arguments in commands:
        done = CliRunner().invoke(app, [command, *arguments])
        assert done.exit_code == 0, (command, arguments, done.exception)
    assert any(request.origin == "storage" for request in hub.stats.requests)


def test_the_python_runs(capsys):
    (code,) = blocks("python")
    exec(code, {})
    assert "torch.Size([128, 128])" in capsys.readouterr().out


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
