"""Index and config files that lie: refused or read, never a crash, soon and with little memory."""

import json
import tracemalloc
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import pytest
import torch

from tests.checkpoints.fuzzing import value
from tests.factories import GPT2_CONFIG, write_checkpoint, write_gpt2
from weightscope.analysis import plan_analysis
from weightscope.checkpoint import open_checkpoint
from weightscope.checkpoints.stream import open_source
from weightscope.cli import render_inspection
from weightscope.errors import CheckpointFormatError, WeightscopeError
from weightscope.inspection import inspect
from weightscope.options import Options

INDEX = "model.safetensors.index.json"
MB = 1_000_000


def assert_refused(folder: Path, *words: str) -> None:
    started = process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointFormatError) as caught:
            open_source(folder)
        assert tracemalloc.get_traced_memory()[1] < 70 * MB
    finally:
        tracemalloc.stop()
    assert process_time() - started < 1
    assert len(str(caught.value)) < 1000
    for word in words:
        assert word in str(caught.value)


HEAVY_INDEX = {
    "a million tensors": lambda: (
        b'{"weight_map":{' + b",".join(b'"%d":"x"' % i for i in range(1_000_000)) + b"}}"
    ),
    "a list of ten million": lambda: b'{"weight_map":[' + b"1," * 10_000_000 + b"1]}",
    "lists in lists": lambda: b"[" + (b"[" * 500 + b"]" * 500 + b",") * 20_000 + b"1]",
    "66 MB": lambda: b'{"weight_map":{' + b" " * 66_000_000 + b"}}",
}


@pytest.mark.parametrize("content", HEAVY_INDEX.values(), ids=HEAVY_INDEX.keys())
def test_a_heavy_index(content: Any, tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    (tmp_path / INDEX).write_bytes(content())
    assert_refused(tmp_path, INDEX, "far more")


def test_an_index_that_names_a_tensor_twice(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    text = (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(text.replace('{"wte.weight"', '{"wte.weight": "elsewhere", "wte.weight"'))
    assert_refused(tmp_path, INDEX, "a key twice")


@pytest.mark.parametrize(
    "content",
    [b'{"x": [' + b"1000," * 1_900_000 + b"1]}", b'{"x": "' + b"a" * 11_000_000 + b'"}'],
    ids=["two million numbers", "11 MB"],
)
def test_a_heavy_config(content: bytes, tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    assert_refused(tmp_path, "config.json", "far more")


def test_a_config_with_a_key_twice_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "model_type": "gpt2", "n_layer": 2}')
    assert inspect(tmp_path).family == "gpt2"


ODD = [
    None, True, False, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**30, 10**4000, "", "12",
    "x" * 100_000, "\x1b[2J", "[/b]", "é🙂", [], [1], ["x"] * 1000, [[["x"]]], {}, {"a": {"b": []}},
    [None, 1, {}],
]  # fmt: skip
KEYS = [
    "model_type", "architectures", "n_layer", "n_embd", "n_head", "n_inner", "vocab_size",
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "quantization_config", "compression_config", "quantization", "torch_dtype", "text_config",
]  # fmt: skip


def assert_known(folder: Path) -> None:
    """All that is done without reading a weight ends, or in an error of ours that can be printed."""
    refusal = ""
    try:
        found = inspect(folder)
        text = json.dumps(found.as_dict(), ensure_ascii=False)
        assert len(text) < 20_000
        assert all(note.isprintable() for note in (*found.notes, *found.guesses, *found.architectures))
        with open_checkpoint(folder) as checkpoint:
            plan_analysis(checkpoint, Options(device="cpu"))
    except WeightscopeError as error:
        refusal = str(error)
    assert len(refusal) < 1000
    assert refusal.isprintable()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_config_may_be_anything(key: str, tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    for odd in ODD:
        (tmp_path / "config.json").write_text(json.dumps({**GPT2_CONFIG, key: odd}))
        assert_known(tmp_path)


def test_names_with_brackets_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path, {"a[/b].weight": torch.ones(2, 2), "[red]c.weight": torch.ones(2, 2)}, {})
    render_inspection.inspection(inspect(tmp_path))
    printed = capsys.readouterr().out
    assert "a[/b].weight" in printed
    assert "[red]c.weight" in printed


@pytest.mark.parametrize("name", ["layers.0.a{}.q_proj.weight", "layers.0.x.{}.q_proj.weight"])
def test_names_that_follow_no_rule(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {name.format(number): torch.ones(1, 1) for number in range(1500)}, {})
    started = process_time()
    found = inspect(tmp_path)
    assert process_time() - started < 5
    assert len(found.guesses) == 1  # all of them would be Q of layer 0
    assert any("No role was guessed for 1499 tensors" in note for note in found.notes)
    assert sum(group.matrices for group in found.groups) == 1500


def test_configs_of_anything(tmp_path: Path) -> None:
    rng = Random(20261122)
    write_gpt2(tmp_path)
    for _ in range(60):
        changes = {rng.choice(KEYS): value(rng, 3) for _ in range(rng.randrange(1, 5))}
        (tmp_path / "config.json").write_text(json.dumps({**GPT2_CONFIG, **changes}))
        assert_known(tmp_path)
