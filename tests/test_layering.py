"""DESIGN's floors: a file imports only from lower floors, or from files above it in its own folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import weightscope

PACKAGE = Path(weightscope.__file__).parent
# Lowest first; within a folder, each file may import those before it.
_FOLDERS = {
    "checkpoints": "dtypes json_bounds header_json header reference reading json_object listing folder "
    "source safetensors digests same local memory pickled local_source patience transport remote ranges "
    "download hub_errors hub repository hub_source quantized stream",
    "families.entries": "shorthand encoders bert_names vision image_encoders speech gated_decoders "
    "image_text gpt2_names interleaved_decoders mixtures latent_decoders sparse_decoders hybrids "
    "plain_decoders encoder_decoders long_inputs composed remote_decoders state_space",
    "families": "verification registry family_text sizes matching file_problems family_file copies "
    "guess_torch guess refine matrix places experts split duplicates assign agreement draft user_family "
    "mixture strangers stated mixers wholeness remarks beside judgement detect select find gather",
    "kernels": "compiling build library",
    "spectra": "threads workspace compiled precision moments gram probes accumulate stack_gram lanczos "
    "operators bounds extremal gram_top spectrum power_law marchenko_pastur measures numbers outcome "
    "streamed side_by_side solver tridiagonal batched_lanczos device_sums device_pass group_tops held "
    "group_spectra group_solver batch",
    "sweep": "plan exact streaming memory devices read_ahead read_blocks streamed transfer several run "
    "journal",
    "training": "seeds image_set idx parquet_images find_images images task data networks padding descent "
    "stochastic settings thresholds history saved_state follow fits claims merging_losses "
    "merging_claims merging_figure bounds decay_claims decay_figure merging_nets",
    "training.experiments": "merging decay_sweep",
    "recipes": "document fields parts training_spec overrides sizes spec problems "
    "shipped load outcome results inspecting "
    "finished joint analysing training run",
    "cli": "options progress render render_analysis render_inspection analyze inspect families plot "
    "render_recipe terminal "
    "render_training train run app",
}


def _folder(name):
    return [f"{name}.{module}" for module in _FOLDERS[name].split()]


FLOORS: list[list[str]] = [
    ["errors", "exclusive", "difference", "counting", "wording"],
    _folder("checkpoints"),
    [
        "families.heads",
        "families.qkv_layouts",
        "families.part_layouts",
        "families.layouts",
        "families.naming",
        "families.spec",
    ],
    _folder("families.entries"),
    _folder("families"),
    _folder("kernels"),
    _folder("spectra"),
    [*_folder("sweep"), "checkpoint"],
    ["table", "over_experts", "summary", "coverage", "options", "provenance", "weightwatcher"],
    ["baselines", "plots"],
    ["publish", "report", "group_entries", "inspection", "drafting"],
    ["planning", "analysis", "estimate"],
    _folder("training"),
    _folder("training.experiments"),
    _folder("recipes"),
    _folder("cli"),
]
# Assembled from all floors: they hold no logic of their own.
DOORS = {"__init__", "__main__", "cli.__init__"}
PLACE = {name: (floor, i) for floor, names in enumerate(FLOORS) for i, name in enumerate(names)}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name not in DOORS and not name.endswith("__init__"):
            yield pytest.param(name, path, id=name)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("weightscope"):
            module = node.module.removeprefix("weightscope").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                yield inner if inner in PLACE else module


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_imports_go_down(name, path):
    assert name in PLACE, f"{name} has no floor: give it one in this test"
    floor, position = PLACE[name]
    for other in imported(path):
        assert other in PLACE, f"{name} imports {other}"
        other_floor, other_position = PLACE[other]
        same_folder = other.rpartition(".")[0] == name.rpartition(".")[0]
        assert other_floor < floor or (other_floor == floor and same_folder and other_position < position), (
            f"{name} imports {other}, which is not below it"
        )


def test_every_floor_is_inhabited():
    existing = {parameter.values[0] for parameter in modules()}
    assert existing == set(PLACE)


@pytest.mark.parametrize(
    "name", ["table", "plots", "report", "summary", "families.assign", "checkpoints.local"]
)
def test_these_do_not_import_torch(name):
    code = f"import sys, weightscope.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_functions_and_files_are_small():
    for parameter in modules():
        name, path = parameter.values
        assert len(path.read_text().splitlines()) <= 400, name
