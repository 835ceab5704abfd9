"""The documentation says what the package does: every block runs, every printed output is the real one."""

import difflib
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from weightscope.cli.app import app
from weightscope.errors import WeightscopeError
from weightscope.families.layouts import LAYOUTS
from weightscope.families.spec import FLAGS, SIZES, CopyPattern, FamilySpec, IgnoredPattern, MatrixPattern
from weightscope.table import columns
from weightscope.training.settings import DecaySettings, MergingSettings
from weightscope.weightwatcher import COLUMNS

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "pages"
pytestmark = pytest.mark.skipif(not PAGES.exists(), reason="only a checkout has the docs")

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
# Lines that differ from run to run.
VOLATILE = re.compile(r'memory for tensors|read, [\d.]+ s on|time: about|"created"|seconds')
RUN = [
    "index.md",
    "tutorials/first-analysis.md",
    "explanation/numerics.md",
    "reference/data.md",
    "reference/training.md",
    *(
        f"how-to/{name}.md"
        for name in ("add-a-family", "live-model", "pickles", "recipes", "resume", "scripts-and-ci", "train")
    ),
]


def lines(text):
    return [line.rstrip() for line in text.splitlines() if line.strip() and not VOLATILE.search(line)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_blocks_run_and_print_what_the_page_shows(page, tmp_path):
    """A page's bash and Python blocks run in order in one folder; a text block after one is its output."""
    printed, ran = None, 0
    for kind, options, body in BLOCK.findall((PAGES / page).read_text()):
        title = TITLE.search(options)
        if title:
            (tmp_path / title[1]).write_text(body)
        if kind in ("bash", "python"):
            if "pip install" in body or "mkdocs" in body:
                printed = None
                continue
            command = ["bash", "-c", body] if kind == "bash" else [sys.executable, "-c", body]
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            done = subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, check=False,
                env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore", "COLUMNS": "100"},
            )  # fmt: skip
            assert "Traceback" not in done.stderr, done.stderr
            printed = done.stdout if done.stdout.strip() else done.stderr
            ran += 1
        elif kind in ("text", "json", "csv", "yaml") and printed is not None and not title:
            shown, real = lines(body), lines(printed)
            if "..." not in shown:
                assert shown == real, "\n".join(
                    difflib.unified_diff(shown, real, "page", "real", lineterm="")
                )
            printed = None
    assert ran > 0


def test_every_column_is_documented():
    text = (PAGES / "reference" / "columns.md").read_text()
    for column in columns(with_spectrum=True, epsilon=()):
        assert f"`{column.name}`" in text, column.name
    section = text.partition("## weightwatcher.csv")[2].partition("\n## ")[0]
    for column in COLUMNS:
        assert f"`{column.name}`" in section, column.name


def test_every_option_is_documented():
    import typer.main

    text = (PAGES / "reference" / "cli.md").read_text()
    waiting = list(typer.main.get_command(app).commands.values())
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or f"`{option}" in text, (command.name, option)


@pytest.mark.parametrize("settings", [MergingSettings, DecaySettings])
def test_every_setting_is_documented(settings):
    text = (PAGES / "reference" / "training.md").read_text()
    for field in fields(settings):
        assert f"`{field.name}`" in text, field.name


@pytest.mark.parametrize("spec", [FamilySpec, MatrixPattern, IgnoredPattern, CopyPattern])
def test_every_field_of_a_family_file_is_documented(spec):
    text = (PAGES / "how-to" / "add-a-family.md").read_text()
    assert [field.name for field in fields(spec) if f"`{field.name}`" not in text] == []


def test_every_layout_and_size_of_a_family_file_is_documented():
    text = (PAGES / "how-to" / "add-a-family.md").read_text()
    assert [name for name in (*LAYOUTS, *SIZES, *FLAGS) if f"`{name}`" not in text] == []


def test_every_error_is_documented():
    text = (PAGES / "reference" / "errors.md").read_text()
    for error in WeightscopeError.__subclasses__():
        assert f"`{error.__name__}`" in text, error.__name__


def test_pages_named_by_the_equation_table_exist():
    for name in re.findall(r"`(tests/[\w/]+\.py)`", (PAGES / "explanation" / "equations.md").read_text()):
        assert (ROOT / name).exists(), name
