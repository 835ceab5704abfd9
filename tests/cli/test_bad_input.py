"""Bad input as a user meets it: one clean message, the right exit code, and nothing written."""

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import huggingface_hub.constants as constants
import pytest
import torch
import yaml

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint, write_gpt2
from tests.families.made_up import llama
from weightscope.cli import main
from weightscope.report import JOURNAL_FILE
from weightscope.table import KEY_COLUMNS

Write = Callable[[Path], Path | None]
INDEX = "model.safetensors.index.json"


class Done(NamedTuple):
    """What a command left."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["weightscope", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code or 0
        assert isinstance(code, int)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def earlier_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that an earlier run wrote, pictures and a stranger's file included."""
    folder = tmp_path_factory.mktemp("earlier")
    analysis = weightscope.analyze(write_gpt2(folder / "model", seed=1), spectrum=True)
    analysis.save(folder / "report")
    (folder / "report" / "notes.txt").write_text("mine")
    return folder / "report"


@pytest.fixture
def out(earlier_report: Path, tmp_path: Path) -> Path:
    """A copy of that report, in the way of the next one."""
    return Path(shutil.copytree(earlier_report, tmp_path / "out"))


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, hidden ones too, but for the journal that an interrupted run leaves."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != JOURNAL_FILE
    }


def assert_error(done: Done, kind: str, *words: str) -> None:
    """Exit 1, nothing on stdout, and one line of three sentences on stderr that holds these words."""
    assert done.code == 1, done
    assert done.stdout == ""
    assert re.fullmatch(rf"{kind}: \S.*\. \S.*\. \S.*\.\n", done.stderr), done.stderr
    assert done.stderr.rstrip("\n").isprintable()
    assert len(done.stderr) < 1500
    for word in words:
        assert word in done.stderr, done.stderr


def write_header(folder: Path, header: object, data: bytes = b"") -> None:
    encoded = json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def write_config(folder: Path, **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps({**GPT2_CONFIG, **changes}))


def absent(folder: Path) -> Path:
    return folder / "absent"


def text_alone(folder: Path) -> None:
    (folder / "README.md").write_text("weights follow")


def empty(folder: Path) -> None:
    pass


def no_checkpoint(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no weights")
    return folder / "notes.txt"


def truncated(folder: Path) -> None:
    path = write_gpt2(folder) / "model.safetensors"
    os.truncate(path, path.stat().st_size - 10)


def truncated_in_the_header(folder: Path) -> None:
    os.truncate(write_gpt2(folder) / "model.safetensors", 100)


def truncated_shard(folder: Path) -> None:
    write_gpt2(folder, shards=3)
    os.truncate(folder / "model-00002-of-00003.safetensors", 500)


def no_bytes(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pointer_of_git_lfs(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def absurd_length(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")


def lying_shape(folder: Path) -> None:
    write_header(folder, {"x": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}, bytes(4))


def overlapping(folder: Path) -> None:
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    write_header(folder, {"x": one, "y": one}, bytes(4))


def unknown_dtype(folder: Path) -> None:
    write_header(folder, {"x": {"dtype": "F128", "shape": [1], "data_offsets": [0, 16]}}, bytes(16))


def index_of(shard: str) -> Write:
    def write(folder: Path) -> None:
        write_gpt2(folder, shards=2)
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"]["wte.weight"] = shard
        (folder / INDEX).write_text(json.dumps(index))

    return write


def two_checkpoints(folder: Path) -> None:
    for name in ("a", "b"):
        (write_gpt2(folder) / "model.safetensors").rename(folder / f"{name}.safetensors")


def broken_config(folder: Path) -> None:
    (write_gpt2(folder) / "config.json").write_text('{"model_type": "gpt2"')


def fused_weight_that_does_not_divide(folder: Path) -> None:
    tensors = {**gpt2_tensors(), "h.1.attn.c_attn.weight": torch.ones(8, 25)}
    write_checkpoint(folder, tensors, GPT2_CONFIG)


def two_copies(folder: Path) -> None:
    tensors = gpt2_tensors()
    tensors["transformer.h.0.mlp.c_fc.weight"] = -tensors["h.0.mlp.c_fc.weight"]
    write_checkpoint(folder, tensors, GPT2_CONFIG)


def half_of_the_layers(folder: Path) -> None:
    write_checkpoint(folder, gpt2_tensors(layers=4), {**GPT2_CONFIG, "n_layer": 8})


def a_gap(folder: Path) -> None:
    tensors = {name: tensor for name, tensor in gpt2_tensors(layers=5).items() if not name.startswith("h.2.")}
    write_checkpoint(folder, tensors)


def no_attention_in_one(folder: Path) -> None:
    tensors = {name: tensor for name, tensor in gpt2_tensors(layers=3).items() if "h.1.attn" not in name}
    write_checkpoint(folder, tensors, {**GPT2_CONFIG, "n_layer": 3})


def two_families(folder: Path) -> None:
    write_checkpoint(folder, {**gpt2_tensors(), **llama(2, 3)}, {**GPT2_CONFIG, "n_layer": 4})


def zeros_before_a_number(folder: Path) -> None:
    tensors = gpt2_tensors()
    tensors["h.01.mlp.c_fc.weight"] = -tensors["h.1.mlp.c_fc.weight"]
    write_checkpoint(folder, tensors, GPT2_CONFIG)


def another_width(folder: Path) -> None:
    write_checkpoint(folder, gpt2_tensors(), {**GPT2_CONFIG, "n_embd": 16})


def quantised_by_config(folder: Path) -> None:
    write_gpt2(folder)
    write_config(folder, quantization_config={"quant_method": "awq"})


def quantised_by_names(folder: Path) -> None:
    write_checkpoint(folder, {"h.0.mlp.c_fc.qweight": torch.ones(4, 4, dtype=torch.int32)}, GPT2_CONFIG)


def gguf(folder: Path) -> Path:
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    return folder / "model-Q4_K_M.gguf"


def pickled(folder: Path) -> None:
    torch.save(gpt2_tensors(), folder / "pytorch_model.bin")


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def unsafe_pickle(folder: Path) -> None:
    torch.save({**gpt2_tensors(), "x": Touch(folder / "made")}, folder / "pytorch_model.bin")


def truncated_pickle(folder: Path) -> None:
    pickled(folder)
    os.truncate(folder / "pytorch_model.bin", 1000)


def pickle_without_tensors(folder: Path) -> None:
    torch.save({"epoch": 3}, folder / "pytorch_model.bin")


def terminal_escape_in_a_name(folder: Path) -> None:
    write_header(folder, {"x\x1b[2J": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}, bytes(4))


NOT_FOUND, FORMAT, QUANTISED = "CheckpointNotFound", "CheckpointFormatError", "QuantizedCheckpointError"
ALLOW = "--allow-pickle"
SOURCES: dict[str, tuple[Write, str, Sequence[str], Sequence[str]]] = {
    "no such path": (absent, NOT_FOUND, ["no such file or folder", "'demo'"], []),
    "folder without safetensors": (text_alone, NOT_FOUND, ["no .safetensors file, only: README.md"], []),
    "empty folder": (empty, NOT_FOUND, ["It is empty."], []),
    "file of another kind": (no_checkpoint, NOT_FOUND, ["notes.txt", "'.txt', not safetensors"], []),
    "truncated file": (truncated, FORMAT, ["'model.safetensors'", "cut short"], []),
    "truncated header": (truncated_in_the_header, FORMAT, ["in a file of 100"], []),
    "truncated shard": (truncated_shard, FORMAT, ["'model-00002-of-00003.safetensors'", "500"], []),
    "no bytes": (no_bytes, FORMAT, ["The file has 0 bytes"], []),
    "pointer of Git LFS": (pointer_of_git_lfs, FORMAT, ["announce a header"], []),
    "absurd length": (absurd_length, FORMAT, ["18,446,744,073,709,551,615 bytes"], []),
    "lying shape": (lying_shape, FORMAT, ["'x'", "[1099511627776, 1048576]"], []),
    "overlapping tensors": (overlapping, FORMAT, ["'y'", "overlaps"], []),
    "unknown dtype": (unknown_dtype, FORMAT, ["unknown dtype 'F128'"], []),
    "index without its shard": (
        index_of("absent.safetensors"),
        FORMAT,
        ["'absent.safetensors'", "not there"],
        [],
    ),
    "index to the parent": (
        index_of("../x.safetensors"),
        FORMAT,
        ["'../x.safetensors'", "not a file of its"],
        [],
    ),
    "index to the root": (index_of("/etc/passwd"), FORMAT, ["'/etc/passwd'", "not a file of its"], []),
    "two checkpoints": (two_checkpoints, FORMAT, ["a.safetensors, b.safetensors", "Name one"], []),
    "broken config": (broken_config, FORMAT, ["config.json", "not JSON"], []),
    "fused weight that does not divide": (
        fused_weight_that_does_not_divide,
        "FamilyMismatch",
        ["'h.1.attn.c_attn.weight' of shape [8, 25]", "25 rows"],
        [],
    ),
    "two copies of a matrix": (two_copies, "FamilyMismatch", ["'transformer.h.0.mlp.c_fc.weight'", "M1"], []),
    "half of the layers": (
        half_of_the_layers,
        "FamilyMismatch",
        ["Layers 4-7 are missing", "states 8 layers", "--partial"],
        [],
    ),
    "a gap": (a_gap, "FamilyMismatch", ["Layer 2 is missing", "--partial"], []),
    "a layer without attention": (
        no_attention_in_one,
        "FamilyMismatch",
        ["Layer 1 lacks Q, K, V, O, which other layers have", "--partial"],
        [],
    ),
    "two families": (
        two_families,
        "FamilyMismatch",
        ["'gpt2'", "'h.0.", "'llama'", "'model.layers.2.", "--family"],
        [],
    ),
    "one layer under two numbers": (
        zeros_before_a_number,
        "FamilyMismatch",
        ["'h.01.mlp.c_fc.weight'", "'h.1.mlp.c_fc.weight'", "M1 of layer 1"],
        [],
    ),
    "another width": (another_width, "FamilyMismatch", ["8 columns", "model dimension of 16"], []),
    "quantised by config": (quantised_by_config, QUANTISED, ["awq", "'quantization_config'"], []),
    "quantised by names": (quantised_by_names, QUANTISED, ["GPTQ or AWQ", "'h.0.mlp.c_fc.qweight'"], []),
    "GGUF": (gguf, QUANTISED, ["model-Q4_K_M.gguf"], []),
    "pickle": (pickled, FORMAT, ["pytorch_model.bin", ALLOW], []),
    "unsafe pickle": (unsafe_pickle, FORMAT, ["weights_only=True", "refused", "GLOBAL getattr"], [ALLOW]),
    "truncated pickle": (truncated_pickle, FORMAT, ["could not read it"], [ALLOW]),
    "pickle without tensors": (pickle_without_tensors, FORMAT, ["a dict without named tensors"], [ALLOW]),
    "name with a terminal's escape": (terminal_escape_in_a_name, FORMAT, ["unprintable"], []),
}


@pytest.mark.parametrize("command", ["analyze", "analyze --quiet --json", "analyze --dry-run", "inspect"])
@pytest.mark.parametrize(("write", "kind", "words", "options"), SOURCES.values(), ids=SOURCES)
def test_sources(
    command: str,
    write: Write,
    kind: str,
    words: Sequence[str],
    options: Sequence[str],
    tmp_path: Path,
    run: Run,
) -> None:
    (tmp_path / "model").mkdir()
    source = write(tmp_path / "model") or tmp_path / "model"
    before = content(tmp_path)
    assert_error(run(*command.split(), source, *options), kind, *words)
    assert content(tmp_path) == before


HUB = ["org/name", "org/name@refs/pr/1", "org/name:sub", "hf://org/name", "hf://org/name@main"]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("reference", HUB)
@pytest.mark.parametrize("command", ["analyze", "inspect"])
def test_without_a_network(command: str, reference: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert_error(run(command, reference), "TransferError", "'org/name'", "could not be reached", "--cache")


@pytest.mark.parametrize(
    "reference",
    ["", "nonsense", "a b", "hf://", "./org/name", "x" * 5000, "~no-such-user/x", "\udcff"],
    ids=["empty", "word", "space", "nothing forced", "path", "long", "no such user", "no UTF-8"],
)
@pytest.mark.parametrize("command", ["analyze", "inspect"])
def test_what_is_no_reference(command: str, reference: str, run: Run) -> None:
    done = run(command, reference)
    assert_error(done._replace(stderr=done.stderr.replace("x" * 5000, "x")), NOT_FOUND, "asked for", "'demo'")


OPTIONS: dict[str, tuple[Sequence[str], str, Sequence[str]]] = {
    "layer 99": (["--layers", "99"], "SelectionError", ["Layer 99", "0 to 1"]),
    "one layer too many": (["--layers", "0-2"], "SelectionError", ["Layer 2", "0 to 1"]),
    "layers x": (["--layers", "x"], "SelectionError", ["'x'", "0-3,7"]),
    "layers reversed": (["--layers", "1-0"], "SelectionError", ["'1-0'"]),
    "layers negative": (["--layers=-1"], "SelectionError", ["'-1'"]),
    "layers empty": (["--layers", ""], "SelectionError", ["''"]),
    "unknown group": (["--groups", "Q,QQ"], "SelectionError", ["'QQ'", "QKV"]),
    "group in lower case": (["--groups", "q"], "SelectionError", ["'q'"]),
    "no group": (["--groups", ""], "SelectionError", ["''"]),
    "all and more": (["--groups", "all,Q"], "SelectionError", ["'all'"]),
    "rtol 1": (["--rtol", "1"], "OptionError", ["tolerance 1 "]),
    "rtol 0": (["--rtol", "0"], "OptionError", ["tolerance 0 "]),
    "rtol below rounding": (["--rtol", "1e-13"], "OptionError", ["tolerance 1e-13 "]),
    "rtol nan": (["--rtol", "nan"], "OptionError", ["tolerance nan "]),
    "rtol negative": (["--rtol", "-1e-6"], "OptionError", ["tolerance -1e-06 "]),
    "epsilon 2": (["--epsilon", "2"], "OptionError", ["epsilon 2 "]),
    "epsilon 0": (["--epsilon", "1e-3,0"], "OptionError", ["epsilon 0 "]),
    "epsilon nan": (["--epsilon", "nan"], "OptionError", ["epsilon nan "]),
    "epsilon x": (["--epsilon", "1e-3,x"], "OptionError", ["'1e-3,x'"]),
    "epsilon empty": (["--epsilon", ""], "OptionError", ["''"]),
    "schema excel": (["--schema", "excel"], "OptionError", ["'excel'", "weightscope, weightwatcher"]),
    "schema excel, spectrum": (["--schema", "excel", "--spectrum"], "OptionError", ["'excel'"]),
    "device cuda": (["--device", "cuda"], "DeviceUnavailable", ["'cuda'", "0 CUDA devices", "--device cpu"]),
    "device cuda:7": (["--device", "cuda:7"], "DeviceUnavailable", ["'cuda:7'"]),
    "device mps": (["--device", "mps"], "DeviceUnavailable", ["float64"]),
    "device nonsense": (["--device", "tpu"], "OptionError", ["'tpu'"]),
    "family nonsense": (["--family", "nonsense"], "UnknownFamily", ["'nonsense'", "None of the"]),
    "family empty": (["--family", ""], "UnknownFamily", []),
    "family that does not fit": (["--family", "bert"], "FamilyMismatch", ["'bert'", "such as 'h.0."]),
    "no such family file": (["--family", "absent.yaml"], "UnknownFamily", ["absent.yaml", "No such file"]),
}


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.parametrize(("options", "kind", "words"), OPTIONS.values(), ids=OPTIONS)
def test_options(
    options: Sequence[str], kind: str, words: Sequence[str], out: Path, tmp_path: Path, run: Run
) -> None:
    model = write_gpt2(tmp_path / "model")
    before = content(out)
    assert_error(run("analyze", model, *options, "--out", out), kind, *words)
    assert content(out) == before
    assert_error(run("analyze", model, *options, "--dry-run"), kind, *words)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [pytest.param(*case, id=name) for name, case in OPTIONS.items()],
)
def test_no_folder_is_made_for_a_run_that_cannot_start(
    options: Sequence[str], kind: str, words: Sequence[str], tmp_path: Path, run: Run
) -> None:
    done = run("analyze", write_gpt2(tmp_path / "model"), *options, "--out", tmp_path / "new")
    assert_error(done, kind, *words)
    assert not (tmp_path / "new").exists()


def test_a_schema_without_a_folder_is_refused_before_the_work(tmp_path: Path, run: Run) -> None:
    done = run("analyze", write_gpt2(tmp_path / "model"), "--schema", "weightwatcher")
    assert_error(done, "OptionError", "'weightwatcher'", "no folder", "--out DIR")


GOOD_FAMILY = {
    "name": "mine",
    "patterns": [{"template": "h.{layer}.mlp.c_fc.weight", "group": "M1", "transposed": True}],
}
PATTERN = GOOD_FAMILY["patterns"][0]
FAMILIES: dict[str, tuple[object, str, Sequence[str]]] = {
    "unknown field": ({**GOOD_FAMILY, "prefix": "x"}, "UnknownFamily", ["no field 'prefix'"]),
    "unknown field of a pattern": (
        {"name": "x", "patterns": [{**PATTERN, "part": 1}]},
        "UnknownFamily",
        ["part"],
    ),
    "unknown group": ({"name": "x", "patterns": [{**PATTERN, "group": "M7"}]}, "UnknownFamily", ["group"]),
    "unknown layout": ({"name": "x", "patterns": [{**PATTERN, "layout": "odd"}]}, "UnknownFamily", ["'odd'"]),
    "unknown placeholder": (
        {"name": "x", "patterns": [{**PATTERN, "template": "h.{block}.x"}]},
        "UnknownFamily",
        ["'h.{block}.x'", "{layer}"],
    ),
    "placeholder twice": (
        {"name": "x", "patterns": [{**PATTERN, "template": "{layer}.{layer}"}]},
        "UnknownFamily",
        ["'{layer}.{layer}'"],
    ),
    "open brace": (
        {"name": "x", "patterns": [{**PATTERN, "template": "h.{layer"}]},
        "UnknownFamily",
        ["'h.{layer'"],
    ),
    "matches nothing": (
        {"name": "x", "patterns": [{**PATTERN, "template": "blocks.{layer}.x"}]},
        "FamilyMismatch",
        ["'x'", "None of its layer templates"],
    ),
    "a template that matches nothing": (
        {"name": "x", "patterns": [PATTERN, {"template": "h.{layer}.mlp.proj.weight", "group": "M2"}]},
        "FamilyMismatch",
        ["'h.{layer}.mlp.proj.weight'", "nearest is 'h.0.mlp.c_proj.weight'"],
    ),
    "two templates for a tensor": (
        {"name": "x", "patterns": [PATTERN, {**PATTERN, "group": "G"}]},
        "FamilyMismatch",
        ["'h.0.mlp.c_fc.weight'", "'h.{layer}.mlp.c_fc.weight' (M1, transposed)", "(G"],
    ),
    "a template of one layer": (
        {"name": "x", "patterns": [PATTERN, {"template": "h.1.mlp.c_proj.weight", "group": "M2"}]},
        "FamilyMismatch",
        ["'h.1.mlp.c_proj.weight'", "The number in it", "'h.0.mlp.c_proj.weight'", "Write {layer}"],
    ),
    "a key twice": ("name: x\nname: y\npatterns: []\n", "UnknownFamily", ["'name' stands twice"]),
    "no patterns": ({"name": "x"}, "UnknownFamily", ["patterns"]),
    "empty": ("", "UnknownFamily", ["the file"]),
    "text": ("just text", "UnknownFamily", ["the file"]),
    "a list": ("[1, 2]", "UnknownFamily", ["the file"]),
    "no YAML": ("a: [", "UnknownFamily", ["not YAML"]),
    "no UTF-8": (b"name: \xff", "UnknownFamily", ["not YAML"]),
    "code": ("!!python/object/apply:os.system ['true']", "UnknownFamily", ["not YAML"]),
}


@pytest.mark.parametrize(("written", "kind", "words"), FAMILIES.values(), ids=FAMILIES)
def test_family_files(
    written: object, kind: str, words: Sequence[str], out: Path, tmp_path: Path, run: Run
) -> None:
    family, model = tmp_path / "family.yaml", write_gpt2(tmp_path / "model")
    if isinstance(written, bytes):
        family.write_bytes(written)
    else:
        family.write_text(written if isinstance(written, str) else yaml.safe_dump(written))
    before = content(out)
    assert_error(run("analyze", model, "--family", family, "--out", out), kind, *words)
    assert content(out) == before
    assert_error(run("inspect", model, "--family", family), kind, *words)
    if kind == "UnknownFamily":
        assert_error(run("families", "show", family), kind, *words)


@pytest.mark.parametrize("text", ["name: 2001-99-99", "[" * 5000], ids=["a date that is none", "deep"])
def test_family_files_on_which_the_yaml_reader_stumbles(text: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "family.yaml").write_text(text)
    assert_error(
        run("families", "show", tmp_path / "family.yaml"), "UnknownFamily", "family.yaml", "not YAML"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("nonsense", ["'nonsense'", "weightscope families"], id="nonsense"),
        pytest.param("absent.yaml", ["No such file"], id="absent file"),
        pytest.param(".", ["no regular file"], id="folder"),
        pytest.param("x" * 5000, [], id="long"),
        pytest.param("~no-such-user/x.yaml", [], id="no such user"),
    ],
)
def test_families_show(name: str, words: Sequence[str], run: Run) -> None:
    done = run("families", "show", name)
    assert_error(done._replace(stderr=done.stderr.replace("x" * 5000, "x")), "UnknownFamily", *words)


def rows(report: Path) -> list[dict[str, str]]:
    """The cells of matrices.csv as text, but for the checkpoint."""
    with (report / "matrices.csv").open(encoding="utf-8", newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name != "checkpoint"} for row in csv.DictReader(file)
        ]


def with_bad_values() -> dict[str, torch.Tensor]:
    tensors = gpt2_tensors()
    tensors["h.0.mlp.c_fc.weight"][3, 2] = torch.nan
    tensors["h.1.mlp.c_proj.weight"][0, 0] = -torch.inf
    tensors["h.1.attn.c_proj.weight"].zero_()
    return tensors


NUMBERS_FROM = len(KEY_COLUMNS) - 1  # without the checkpoint
BAD_VALUES = {
    "h.0.mlp.c_fc.weight": "non_finite",
    "h.1.mlp.c_proj.weight": "non_finite",
    "h.1.attn.c_proj.weight": "zero",
}


def strict_json(text: str) -> dict[str, object]:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("options", [[], ["--spectrum"]], ids=["norms", "spectra"])
def test_a_matrix_that_is_not_finite_is_stated_and_harms_no_other(
    options: Sequence[str], tmp_path: Path, run: Run
) -> None:
    bad = write_checkpoint(tmp_path / "bad", with_bad_values(), GPT2_CONFIG)
    done = run("analyze", bad, *options, "--out", tmp_path / "out", "--no-plots")
    assert done.code == 0
    assert done.stderr == ""
    assert "12 of 14 selected matrices analysed" in done.stdout
    for parameter, status in BAD_VALUES.items():
        assert f"{status}: {parameter}\n" in done.stdout
    weightscope.analyze(write_gpt2(tmp_path / "good"), spectrum=bool(options)).save(
        tmp_path / "expected", plots=False
    )
    found, expected = rows(tmp_path / "out"), rows(tmp_path / "expected")
    assert len(found) == len(expected) == 14
    for row, clean in zip(found, expected, strict=True):
        status = BAD_VALUES.get(row["parameter"], "ok")
        assert row["status"] == status
        if status == "ok":
            assert row == clean
        if status == "non_finite":
            assert set(list(row.values())[NUMBERS_FROM:]) == {""}
    strict_json((tmp_path / "out" / "summary.json").read_text())
    assert len(list((tmp_path / "out").iterdir())) == 5 + bool(options)


def test_strict_states_it_in_the_exit_code_alone(tmp_path: Path, run: Run) -> None:
    bad = write_checkpoint(tmp_path / "bad", with_bad_values(), GPT2_CONFIG)
    lenient = run("analyze", bad, "--json", "--no-plots", "--out", tmp_path / "out")
    strict = run("analyze", bad, "--json", "--no-plots", "--out", tmp_path / "out", "--strict")
    assert (lenient.code, strict.code) == (0, 3)
    assert lenient.stderr == strict.stderr == ""
    documents = [strict_json(done.stdout) for done in (lenient, strict)]
    for document in documents:
        del document["provenance"]
    assert documents[0] == documents[1]
    assert run("analyze", write_gpt2(tmp_path / "good"), "--strict").code == 0


def test_nothing_but_bad_values_is_still_a_report(tmp_path: Path, run: Run) -> None:
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in gpt2_tensors().items()}
    done = run("analyze", write_checkpoint(tmp_path / "bad", tensors, GPT2_CONFIG), "--out", tmp_path / "out")
    assert (done.code, done.stderr) == (0, "")
    assert "0 of 14 selected matrices analysed" in done.stdout
    assert {row["status"] for row in rows(tmp_path / "out")} == {"non_finite"}


def test_without_a_config_it_works_and_says_so(tmp_path: Path, run: Run) -> None:
    model = write_gpt2(tmp_path / "model")
    with_config = run("analyze", model, "--no-plots", "--out", tmp_path / "with")
    (model / "config.json").unlink()
    done = run("analyze", model, "--no-plots", "--out", tmp_path / "without")
    note = "There is no config.json: the family was taken from the tensors' names alone."
    assert (done.code, done.stderr) == (0, f"note: {note}\n")
    assert (with_config.code, with_config.stderr) == (0, "")
    assert "(gpt2)" in done.stdout
    assert rows(tmp_path / "without") == rows(tmp_path / "with")
    assert note in json.loads((tmp_path / "without" / "summary.json").read_text())["notes"]
    assert run("analyze", model, "--quiet").stderr == ""
    assert note in json.loads(run("inspect", model, "--json").stdout)["notes"]


@pytest.mark.parametrize("write", [half_of_the_layers, a_gap, no_attention_in_one])
def test_what_is_there_is_analysed_if_that_is_what_is_wanted(write: Write, tmp_path: Path, run: Run) -> None:
    write(tmp_path / "model")
    whole = run(
        "analyze", tmp_path / "model", "--partial", "--strict", "--no-plots", "--out", tmp_path / "out"
    )
    assert whole.code == 0
    assert re.search(r"note: Layers? .* (are missing: |is missing: |lacks )", whole.stderr)
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]
    assert any(note in whole.stderr for note in notes if note.startswith("Layer"))
    assert (
        "missing" in (told := run("inspect", tmp_path / "model", "--partial")).stderr
        or "lacks" in told.stderr
    )
    assert told.code == 0


def test_a_layer_number_beyond_all_integers(tmp_path: Path, run: Run) -> None:
    tensors = {**gpt2_tensors(), f"h.{'9' * 20}.mlp.c_fc.weight": torch.ones(8, 32)}
    model = write_checkpoint(tmp_path / "model", tensors, GPT2_CONFIG)
    assert_error(run("analyze", model, "--out", tmp_path / "out"), "FamilyMismatch", "9" * 20)
    assert_error(run("inspect", model), "FamilyMismatch", "9" * 20)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_names_that_are_no_text(tmp_path: Path, run: Run) -> None:
    model = write_gpt2(tmp_path / os.fsdecode(b"mod\xff"))
    (model / "model.safetensors").rename(model / os.fsdecode(b"x\xfe.safetensors"))
    (model / os.fsdecode(b"README\xfd")).write_text("")
    done = run("analyze", model, "--no-plots", "--out", tmp_path / "out")
    assert (done.code, done.stderr) == (0, "")
    assert {row["checkpoint"] for row in weightscope.read_table(tmp_path / "out").to_dict("records")} == {
        str(tmp_path / r"mod\udcff")
    }
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert [file["name"] for file in provenance["files"]] == [r"x\udcfe.safetensors"]
    assert run("inspect", model).code == 0


def test_values_near_the_end_of_float64(tmp_path: Path, run: Run) -> None:
    tensors = {name: tensor.double() * 1e200 for name, tensor in gpt2_tensors().items()}
    model = write_checkpoint(tmp_path / "model", tensors, GPT2_CONFIG)
    done = run("analyze", model, "--out", tmp_path / "out")
    assert (done.code, done.stderr) == (0, "")
    assert {row["status"] for row in rows(tmp_path / "out")} == {"ok"}


def test_a_config_cannot_command_the_terminal(tmp_path: Path, run: Run) -> None:
    model = write_gpt2(tmp_path / "model")
    write_config(model, architectures=["\x1b[2JGPT2LMHeadModel"])
    for command in ("inspect", "analyze"):
        done = run(command, model)
        assert done.code == 0
        assert "\x1b" not in done.stdout + done.stderr


def in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("below", "words"),
    [("", "File exists"), ("report", "Not a directory"), ("a/b/report", "Not a directory")],
    ids=["a file", "below a file", "far below a file"],
)
@pytest.mark.parametrize("options", [[], ["--quiet", "--json", "--no-plots"]], ids=["tables", "json"])
def test_a_report_that_cannot_be_written(
    below: str, words: str, options: Sequence[str], tmp_path: Path, run: Run
) -> None:
    model, out = write_gpt2(tmp_path / "model"), in_the_way(tmp_path) / below
    before = content(tmp_path)
    assert_error(run("analyze", model, "--out", out, *options), "OutputError", str(out), words, "--out")
    assert content(tmp_path) == before


def test_nothing_is_read_when_the_report_cannot_be_written(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise AssertionError("a weight was read")

    model = write_gpt2(tmp_path / "model")
    monkeypatch.setattr(os, "preadv", fail)
    assert_error(run("analyze", model, "--out", in_the_way(tmp_path) / "x"), "OutputError")


@contextmanager
def limit_files(size: int) -> Iterator[None]:
    """Let writes beyond so many bytes of a file fail, as on a full disk.

    Only around the call: pytest's own output may go to a file as well.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000, 5000, 20_000])
def test_a_disk_that_fills_leaves_the_earlier_report(size: int, out: Path, tmp_path: Path, run: Run) -> None:
    model = write_gpt2(tmp_path / "model")
    before = content(out)
    with limit_files(size):
        again = run("analyze", model, "--out", out)
        anew = run("analyze", model, "--out", tmp_path / "new")
    assert_error(again, "OutputError", str(out), "File too large")
    assert content(out) == before
    assert_error(anew, "OutputError", "File too large")
    assert content(tmp_path / "new") == {}
    journal = out / JOURNAL_FILE
    assert not journal.exists() or "--resume" in again.stderr  # computed already: only the report is missing
    done = run("analyze", model, "--out", out, "--resume")
    assert done.code == 0
    assert not journal.exists()


@pytest.mark.parametrize("name", ["summary.json", "spectra.parquet", "provenance.json"])
def test_a_folder_in_the_place_of_a_file_leaves_the_earlier_report(
    name: str, out: Path, tmp_path: Path, run: Run
) -> None:
    (out / name).unlink()
    (out / name).mkdir()
    (out / name / "mine").write_text("kept")
    before = content(out)
    done = run("analyze", write_gpt2(tmp_path / "model"), "--no-plots", "--out", out)
    assert_error(done, "OutputError", "Is a directory")
    assert content(out) == before


def test_a_file_that_shrinks_while_it_is_read(
    out: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_gpt2(tmp_path / "model")
    whole, reads = os.preadv, []

    def shrink(descriptor: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        reads.append(offset)
        if len(reads) == 3:
            os.truncate(model / "model.safetensors", offset + 10)
        return whole(descriptor, buffers, offset, flags)

    before = content(out)
    monkeypatch.setattr(os, "preadv", shrink)
    done = run("analyze", model, "--out", out)
    assert_error(done, FORMAT, "'model.safetensors'", "it shrank while it was read")
    assert content(out) == before


@pytest.fixture(scope="session")
def table(earlier_report: Path) -> Path:
    """A good table."""
    return earlier_report / "matrices.csv"


def replaced(pattern: str, by: str) -> Callable[[Path, Path], Path]:
    def write(table: Path, folder: Path) -> Path:
        text, count = re.subn(pattern, by, table.read_text(), count=1)
        assert count
        (folder / "x.csv").write_text(text)
        return folder / "x.csv"

    return write


def holding(content: bytes, name: str = "x.csv") -> Callable[[Path, Path], Path]:
    def write(table: Path, folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def folder_alone(table: Path, folder: Path) -> Path:
    return folder


TABLES: dict[str, tuple[Callable[[Path, Path], Path], Sequence[str]]] = {
    "missing file": (lambda table, folder: folder / "absent.csv", ["no such file"]),
    "missing Parquet file": (lambda table, folder: folder / "absent.parquet", ["no such file"]),
    "folder without a table": (folder_alone, ["matrices.csv", "no such file"]),
    "empty": (holding(b""), ["x.csv", "not a table"]),
    "text": (holding(b"weights follow\n"), ["lacks the columns checkpoint"]),
    "another table": (holding(b"layer,loss\n1,2\n"), ["lacks the columns checkpoint"]),
    "binary": (holding(bytes(range(128, 256))), ["not a table"]),
    "unclosed quote": (holding(b'a,b\n"1,2\n'), ["not a table"]),
    "no Parquet": (holding(b"PAR1" + bytes(20), "x.parquet"), ["not a table"]),
    "empty Parquet": (holding(b"", "x.parquet"), ["not a table"]),
    "a column missing": (
        replaced("stable_rank_gaussian", "other"),
        ["columns stable_rank_gaussian"],
    ),
    "text for a layer": (replaced(r"decoder,0,", "decoder,zero,"), ["zero"]),
    "half a layer": (replaced(r"decoder,0,", "decoder,0.5,"), ["0.5"]),
}


@pytest.mark.parametrize(("write", "words"), TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a good one"])
def test_plots_of_what_is_no_table(
    write: Callable[[Path, Path], Path],
    words: Sequence[str],
    beside: bool,
    table: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    bad = write(table, tmp_path)
    before = content(tmp_path)
    done = run("plot", *[table] * beside, bad, "--out", tmp_path / "x.png")
    assert_error(done, "TableError", *words)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "write",
    [holding(b"a,b\n1,2\n1,2,3,4\n"), replaced(r"decoder,0,", f"decoder,{'9' * 20},")],
    ids=["ragged", "a layer beyond 64 bits"],
)
def test_tables_on_which_pandas_stumbles(
    write: Callable[[Path, Path], Path], table: Path, tmp_path: Path, run: Run
) -> None:
    done = run("plot", write(table, tmp_path), "--out", tmp_path / "x.png")
    assert_error(done, "TableError", "x.csv")


def test_a_plot_of_a_table_without_rows(table: Path, tmp_path: Path, run: Run) -> None:
    headed = replaced(r"(?s)\n.*", "\n")(table, tmp_path)
    assert_error(run("plot", headed, "--out", tmp_path / "x.png"), "SelectionError", "No row")
    assert not (tmp_path / "x.png").exists()


PLOTS: dict[str, tuple[Sequence[str], str, Sequence[str]]] = {
    "unknown quantity": (["--quantity", "nonsense"], "SelectionError", ["'nonsense'", "frobenius_norm"]),
    "text for a quantity": (
        ["--quantity", "status"],
        "SelectionError",
        ["'status'", "no such column of numbers"],
    ),
    "quantity of another tool": (["--quantity", "log_norm"], "SelectionError", ["'log_norm'"]),
    "unknown ending": (["--out", "{}/x.docx"], "OutputError", ["x.docx", ".png, .svg or .pdf"]),
    "no ending": (["--out", "{}/picture"], "OutputError", ["picture", ".png, .svg or .pdf"]),
    "a folder": (["--out", "{}"], "OutputError", [".png, .svg or .pdf"]),
    "a folder called picture": (["--out", "{}/taken.png"], "OutputError", ["taken.png", "Is a directory"]),
    "absent folder": (["--out", "{}/absent/x.png"], "OutputError", ["x.png", "No such file"]),
    "below a file": (["--out", "{}/file/x.png"], "OutputError", ["x.png", "Not a directory"]),
    "name too long": (["--out", f"{{}}/{'x' * 300}.png"], "OutputError", ["File name too long"]),
}


@pytest.mark.parametrize(("options", "kind", "words"), PLOTS.values(), ids=PLOTS)
def test_plots_that_cannot_be(
    options: Sequence[str],
    kind: str,
    words: Sequence[str],
    table: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    in_the_way(tmp_path)
    (tmp_path / "taken.png").mkdir()
    before = content(tmp_path)
    done = run("plot", table, *(option.format(tmp_path) for option in options))
    assert_error(done, kind, *words)
    assert content(tmp_path) == before


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_disk_that_fills_leaves_the_earlier_picture(
    ending: str, table: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / f"x.{ending}").write_text("earlier")
    with limit_files(1000):
        done = run("plot", table, "--out", tmp_path / f"x.{ending}")
    assert_error(done, "OutputError", f"x.{ending}", "File too large")
    assert content(tmp_path) == {f"x.{ending}": b"earlier"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["analyze"],
        ["analyze", "demo", "demo"],
        ["analyze", "demo", "--nonsense"],
        ["analyze", "demo", "--rtol", "x"],
        ["analyze", "demo", "--layers"],
        ["inspect"],
        ["plot"],
        ["families", "show"],
        ["families", "nonsense"],
    ],
    ids=" ".join,
)
def test_usage_exits_2(arguments: Sequence[str], run: Run) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [["-m", "weightscope"], ["-c", "from weightscope.cli import main; main()"]]
)
def test_the_same_in_a_process_of_its_own(command: Sequence[str], tmp_path: Path) -> None:
    truncated(tmp_path)
    done = subprocess.run(
        [sys.executable, *command, "analyze", str(tmp_path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_error(Done(done.returncode, done.stdout, done.stderr), FORMAT, "cut short")
    assert not (tmp_path / "out").exists()
