"""The README says what the package does: its commands, its output, its Python."""

import re
from pathlib import Path

import pytest
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


def test_the_commands_exist(tmp_path, monkeypatch):
    """Each line of the block on your own checkpoint, run on the demo: every option it names is there."""
    monkeypatch.chdir(tmp_path)
    commands = [line.split("#")[0].split() for line in blocks()[3].splitlines()]
    assert len(commands) == 5
    for _, command, *arguments in commands:
        if command == "plot":
            assert CliRunner().invoke(app, ["plot", "--help"]).exit_code == 0
            continue
        arguments = ["demo" if argument == "./phi-2" else argument for argument in arguments]
        assert CliRunner().invoke(app, [command, *arguments]).exit_code == 0, arguments


def test_the_python_runs(capsys):
    (code,) = blocks("python")
    exec(code, {})
    assert "torch.Size([128, 128])" in capsys.readouterr().out


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
