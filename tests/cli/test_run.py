"""`weightscope run`: paper A's recipes on small models of its architectures, and all that can go wrong."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint, write_gpt2
from tests.small_models import SMALL, sizes_of, write_small
from tests.test_inspection import TABLE_1, write_sparse
from weightscope import analyze, read_table
from weightscope.cli.app import app
from weightscope.cli.run import EXAMPLES
from weightscope.report import JOURNAL_FILE, REPORT_FILES

FIGURES = {"figure1": ["phi-2", "gpt-j"], "figure4": ["bert", "gpt2-large", "roberta", "gpt2-xl"]}
LABELS = {
    "bert": "BERT", "roberta": "RoBERTa", "gpt2-large": "GPT2-Large", "gpt2-xl": "GPT2-XL", "phi-2": "Phi-2",
    "gpt-j": "GPT-J",
}  # fmt: skip
JOINT = ["norm_preservation.csv", "summary.csv", "matrices.csv", "recipe.yaml", "provenance.json"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take most of a small run's time; where none is looked at, their files are empty."""
    monkeypatch.setattr("weightscope.report._pictures", lambda *_: {})
    monkeypatch.setattr("weightscope.recipes.analysing.joint_figure", lambda *_: "a figure")
    monkeypatch.setattr("weightscope.recipes.analysing.save_figure", lambda _, path: path.write_bytes(b""))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folder of each of the six, by the name that the recipes give it."""
    folder = tmp_path_factory.mktemp("models")
    return {name: write_small(folder / name, name) for name in SMALL}


def run(*arguments):
    return CliRunner().invoke(
        app, ["run", *(str(argument) for argument in arguments)], catch_exceptions=False
    )


def sources(models):
    return [part for name, folder in models.items() for part in ("--set", f"models.{name}.source={folder}")]


def recipe_of(path, **models):
    """A recipe that analyses these folders."""
    content = {
        "experiment": "analyze", "title": "Mine",
        "models": {name: {"source": str(source)} for name, source in models.items()},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def csv_rows(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


# ------------------------------------------------------------------------------- what ships


@pytest.mark.parametrize("arguments", [[], ["--list"], ["paper_a/figure1", "--list"]])
def test_the_list(arguments):
    done = run(*arguments)
    assert done.exit_code == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [*(f"paper_a/figure{number}" for number in range(1, 6)), "paper_a/table1"]
    assert "Figure 1: Stable ranks and Frobenius norms of Phi-2 and GPT-J" in done.stdout


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_on_small_models_of_their_architectures(small, name):
    models = {model: small[model] for model in FIGURES[name]}
    done = run(f"paper_a/{name}", *sources(models))
    assert done.exit_code == 0, done.stderr
    out = Path(name)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*JOINT, f"{name}.png", f"{name}.svg", *models]
    )
    labels = [LABELS[model] for model in models]
    svg = (out / f"{name}.svg").read_text()
    positions = [svg.index(f">{label}</text>") for label in labels]  # rows in the paper's order
    assert positions == sorted(positions)
    assert svg.count(">layer</text>") == 2 * len(models)
    for group in ("Q", "K", "V", "O", "QKV", "M1", "M2", "Gaussian"):
        assert f">{group}</text>" in svg
    for model, folder in models.items():
        assert {path.name for path in (out / model).iterdir()} == {
            *(set(REPORT_FILES) - {"spectra.parquet", "weightwatcher.csv", "experts.csv"}), "identity.json",
        }  # fmt: skip
        assert len(read_table(out / model)) == 7 * sizes_of(folder)[0]
        line = next(line for line in done.stdout.splitlines() if line.strip().startswith(LABELS[model]))
        assert line.split()[1] == str(sizes_of(folder)[0])
    assert pd.read_csv(out / "norm_preservation.csv")["model"].tolist() == labels
    assert list(dict.fromkeys(read_table(out / "matrices.csv")["model"])) == labels
    assert "What must come out" in done.stdout


def test_a_models_report_is_the_one_that_analyze_writes(small):
    run("paper_a/figure1", *sources({"phi-2": small["phi-2"], "gpt-j": small["gpt-j"]}), "--out", "out")
    for name in ("phi-2", "gpt-j"):
        analyze(small[name], groups="Q,K,V,O,QKV,M1,M2").save("alone")
        pd.testing.assert_frame_equal(read_table("out/" + name), read_table("alone"))
        assert Path("out", name, "stable_rank.svg").read_text() == Path("alone/stable_rank.svg").read_text()


def test_table_1_agrees_with_the_paper_on_headers_of_the_true_sizes(tmp_path):
    for name in SMALL:
        (tmp_path / name).mkdir()
        write_sparse(tmp_path / name, *TABLE_1[LABELS[name]][:2])
    done = run("paper_a/table1", *sources({name: tmp_path / name for name in SMALL}), "--strict")
    assert done.exit_code == 0, done.stdout
    rows = csv_rows("table1/table1.csv")
    assert {row["model"]: row["agrees"] for row in rows} == dict.fromkeys(TABLE_1, "yes")
    assert [line.split()[-1] for line in done.stdout.splitlines() if "≈" in line] == ["yes"] * 6


def test_table_1_on_small_models(small):
    done = run("paper_a/table1", *sources(small))
    assert done.exit_code == 0, done.stderr
    rows = csv_rows("table1/table1.csv")
    assert [row["model"] for row in rows] == list(map(LABELS.get, small))
    for name, row in zip(small, rows, strict=True):
        found = tuple(int(row[k]) for k in ("layers", "model_dimension", "feed_forward_dimension"))
        assert found == sizes_of(small[name])
        assert (row["agrees"], row["status"]) == ("no", "done")
        assert f"{LABELS[name]} is not as in the paper: layers, model dimension" in done.stdout
    assert run("paper_a/table1", *sources(small), "--strict").exit_code == 3


def test_a_size_agrees_where_it_is_the_papers(small):
    layers, model, feed_forward = sizes_of(small["bert"])
    parameters = torch.nn.utils.parameters_to_vector(SMALL["bert"][0](SMALL["bert"][1]).parameters()).numel()
    size = {"layers": layers, "model_dimension": model, "feed_forward_dimension": feed_forward}
    settings = ["--set", "models.bert.expected={}"]
    for key, value in {**size, "parameters": round(parameters * 1.04)}.items():
        settings += ["--set", f"models.bert.expected.{key}={value}"]
    others = [part for name in small if name != "bert" for part in ("--set", f"models.{name}=null")]
    done = run("paper_a/table1", *sources({"bert": small["bert"]}), *others, *settings, "--strict")
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "yes" in done.stdout
    (row,) = csv_rows("table1/table1.csv")
    assert (row["agrees"], row["differing"]) == ("yes", "")
    assert int(row["parameters"]) == parameters
    narrow = ["--set", "table.parameters_within=0.03"]
    done = run("paper_a/table1", *sources({"bert": small["bert"]}), *others, *settings, *narrow, "--strict")
    assert done.exit_code == 3
    assert "BERT is not as in the paper: parameters." in done.stdout


def test_sizes_without_a_papers_numbers_are_a_plain_table(small):
    Path("mine.yaml").write_text(
        f"experiment: inspect\ntitle: Mine\nmodels: {{a: {{source: {small['phi-2']}}}}}\n"
    )
    done = run("mine.yaml", "--strict")
    assert done.exit_code == 0
    assert "paper" not in done.stdout
    assert Path("mine/mine.csv").exists()


# ------------------------------------------------------------------------------- failures


def test_a_missing_model_does_not_lose_the_other(small):
    """GPT-J is a reference to the Hub, which is not read here."""
    done = run("paper_a/figure1", *sources({"phi-2": small["phi-2"], "gpt-j": Path("./not-there")}))
    assert done.exit_code == 1
    assert "1 of 2 models failed:\n  GPT-J: CheckpointNotFound: " in done.stderr
    assert "'not-there'" in done.stderr
    svg = Path("figure1/figure1.svg").read_text()
    assert ">Phi-2</text>" in svg
    assert ">GPT-J</text>" not in svg
    provenance = json.loads(Path("figure1/provenance.json").read_text())
    assert [model["status"] for model in provenance["models"].values()] == ["done", "failed"]
    assert provenance["models"]["gpt-j"]["error"]["type"] == "CheckpointNotFound"
    assert not Path("figure1/gpt-j").exists()
    quiet = run("paper_a/figure1", *sources({"phi-2": small["phi-2"], "gpt-j": Path("./not-there")}), "-q")
    assert quiet.stderr.startswith("1 of 2 models failed:")


@pytest.mark.parametrize("recipe", ["table1", "figure1"])
def test_if_every_model_fails_nothing_is_written(recipe, hub):
    done = run(f"paper_a/{recipe}", "--set", "models.phi-2.source=./nothing")
    assert done.exit_code == 1
    assert "Every model failed; nothing was written." in done.stdout
    assert "models failed:" in done.stderr
    assert list(Path().iterdir()) == []


REPOSITORIES = {
    "bert": "google-bert/bert-base-uncased", "roberta": "FacebookAI/roberta-base",
    "gpt2-large": "openai-community/gpt2-large", "gpt2-xl": "openai-community/gpt2-xl",
    "phi-2": "microsoft/phi-2", "gpt-j": "EleutherAI/gpt-j-6b",
}  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("way", ["stream", "cache"])
@pytest.mark.parametrize("recipe", [*FIGURES, "table1"])
def test_the_recipes_from_the_hub(recipe, way, small, hub):
    """As they stand: the repositories that they name, of small models over loopback."""
    commits = {}
    for name, repository in REPOSITORIES.items():
        repo = hub.add(repository, {path.name: path for path in small[name].iterdir()})
        commits[name] = repo.commit
    names = FIGURES.get(recipe, list(REPOSITORIES))
    cache = [part for name in names for part in ("--set", f"models.{name}.cache=true")]
    done = run(f"paper_a/{recipe}", *(cache if way == "cache" else []))
    assert done.exit_code == 0, done.stdout
    if recipe == "table1":
        rows = csv_rows("table1/table1.csv")
        assert {row["status"] for row in rows} == {"done"}
        return
    for name in names:
        provenance = json.loads((Path(recipe) / name / "provenance.json").read_text())
        assert provenance["revision"] == commits[name]
        local = analyze(small[name]).table
        streamed = read_table(Path(recipe) / name)
        pd.testing.assert_series_equal(streamed["stable_rank"], local["stable_rank"], rtol=1e-12)


def test_a_row_for_the_model_that_could_not_be_read(small):
    done = run("paper_a/table1", *sources({**small, "gpt-j": Path("./not-there")}))
    assert done.exit_code == 1
    rows = csv_rows("table1/table1.csv")
    assert (rows[-1]["model"], rows[-1]["status"], rows[-1]["layers"]) == ("GPT-J", "failed", "")
    assert "not read" in done.stdout


@pytest.mark.usefixtures("undrawn")
def test_what_an_earlier_run_wrote_stays_if_every_model_fails(small):
    models = sources({"phi-2": small["phi-2"], "gpt-j": small["gpt-j"]})
    run("paper_a/figure1", *models)
    before = content(Path("figure1"))
    missing = ["--set", "models.phi-2.source=./a", "--set", "models.gpt-j.source=./b"]
    assert run("paper_a/figure1", *missing).exit_code == 1
    assert content(Path("figure1")) == before


@pytest.mark.usefixtures("undrawn")
def test_each_kind_of_failure_is_a_models_own(tmp_path, hub):
    good = write_gpt2(tmp_path / "good")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:100])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    torch.save(gpt2_tensors(), pickled / "pytorch_model.bin")
    quantized = write_checkpoint(
        tmp_path / "quantized",
        gpt2_tensors(),
        {**GPT2_CONFIG, "quantization_config": {"quant_method": "gptq"}},
    )
    shallow = write_gpt2(tmp_path / "shallow", layers=1)
    path = recipe_of(
        tmp_path / "mine.yaml", good=good, cut=tmp_path / "cut", pickled=pickled, quantized=quantized,
        shallow=shallow, hub="no/such",
    )  # fmt: skip
    done = run(path, "--set", "options.layers=0-1")
    assert done.exit_code == 1
    for line in (
        "5 of 6 models failed:",
        "  cut: CheckpointFormatError",
        "  pickled: CheckpointFormatError",
        "  quantized: QuantizedCheckpointError",
        "  shallow: SelectionError: Layer 1 was asked for.",
        "  hub: CheckpointNotFound",
    ):
        assert line in done.stderr, line
    assert pd.read_csv("mine/summary.csv")["model"].unique().tolist() == ["good"]
    allowed = run(path, "--set", "models.pickled.allow_pickle=true", "--set", "options.layers=0")
    assert "  pickled" not in allowed.stderr.partition("models failed:")[2]


@pytest.mark.usefixtures("undrawn")
def test_a_family_of_ones_own_is_a_models_key(tmp_path):
    folder = write_checkpoint(tmp_path / "new", gpt2_tensors(), {"model_type": "new"})
    path = recipe_of(tmp_path / "mine.yaml", new=folder)
    assert "guess" in run(path).stderr
    assert "guess" not in run(path, "--set", "models.new.family=gpt2").stderr
    done = run(path, "--set", "models.new.family=nonsense")
    assert (done.exit_code, "UnknownFamily" in done.stderr) == (1, True)


def failing(*arguments):
    """The error of a command that ends before any model is opened, as `main` prints it."""
    done = subprocess.run(
        [sys.executable, "-m", "weightscope", "run", *map(str, arguments)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert list(Path().glob("figure1")) == []
    return done.stderr


def test_known_errors_have_no_traceback(tmp_path):
    assert failing("nothing").startswith("RecipeError: The recipe 'nothing' was to be run. ")
    assert "did you mean 'rtol'?" in failing("paper_a/figure1", "--set", "options.rtl=1")
    assert failing("paper_a/figure1", "--set", "options.device=cuda:99").startswith("DeviceUnavailable: ")
    (tmp_path / "file").write_text("in the way")
    error = failing("paper_a/figure1", "--set", "models.phi-2.source=demo", "--out", "file/out")
    assert error.startswith("OutputError: ")


@pytest.mark.usefixtures("undrawn")
def test_results_are_replaced_whole_or_not_at_all(small):
    models = sources({"phi-2": small["phi-2"], "gpt-j": small["gpt-j"]})
    run("paper_a/figure1", *models)
    before = content(Path("figure1"))
    Path("figure1/summary.csv").unlink()
    Path("figure1/summary.csv").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        run("paper_a/figure1", *models, "--set", "title=Another")
    Path("figure1/summary.csv").rmdir()
    after = content(Path("figure1"))
    assert after == {name: bytes_ for name, bytes_ in before.items() if name != "summary.csv"}


# ------------------------------------------------------------------------------- what is incomplete


@pytest.mark.usefixtures("undrawn")
def test_strict_minds_numbers_that_are_missing(tmp_path):
    tensors = gpt2_tensors()
    tensors["h.1.mlp.c_fc.weight"][0, 0] = torch.nan
    holed = write_checkpoint(tmp_path / "holed", tensors, GPT2_CONFIG)
    path = recipe_of(tmp_path / "mine.yaml", holed=holed, good=write_gpt2(tmp_path / "good"))
    done = run(path)
    assert done.exit_code == 0
    assert "holed: 1 of 14 matrices have no numbers (NaN or infinity)." in done.stdout
    assert run(path, "--strict").exit_code == 3
    assert run(path, "--set", "models.holed=null", "--strict").exit_code == 0
    row = pd.read_csv("mine/norm_preservation.csv").iloc[0]
    assert row["layers"] == 2  # both, of the good model


def test_a_model_without_layers_is_named_and_the_others_are_drawn(tmp_path):
    only_embedding = write_checkpoint(tmp_path / "flat", {"wte.weight": torch.randn(11, 8)}, GPT2_CONFIG)
    path = recipe_of(tmp_path / "mine.yaml", flat=only_embedding, good=write_gpt2(tmp_path / "good"))
    done = run(path, "--set", "options.groups=all")
    assert done.exit_code == 0
    assert "flat is not in the figure: none of its analysed matrices belongs to a layer." in done.stdout
    assert ">flat</text>" not in Path("mine/mine.svg").read_text()
    assert set(read_table("mine/matrices.csv")["model"]) == {"flat", "good"}
    # With nothing to draw there is no figure, and that of the earlier run does not stay behind.
    assert run(path, "--set", "options.groups=all", "--set", "models.good=null").exit_code == 0
    assert not Path("mine/mine.svg").exists()


# ------------------------------------------------------------------------------- options


def test_options_reach_the_analysis(tmp_path):
    path = recipe_of(
        tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"), b=write_gpt2(tmp_path / "b", seed=1)
    )
    settings = {
        "options.epsilon": "[0.5]", "options.layers": "1", "options.groups": "QKV,M1", "options.seed": "3",
        "options.bound": "proved", "options.memory": "2G", "options.rtol": "1e-8",
        "figure.quantities": "[effective_rank, epsilon_rank_0.5, spectral_norm]", "figure.file": "three",
    }  # fmt: skip
    done = run(path, *(part for k, v in settings.items() for part in ("--set", f"{k}={v}")), "--out", "out")
    assert done.exit_code == 0, done.stderr
    table = read_table("out/matrices.csv")
    assert (set(table["group"]), set(table["layer"]), set(table["bound"])) == ({"QKV", "M1"}, {1}, {"proved"})
    provenance = json.loads(Path("out/a/provenance.json").read_text())
    assert provenance["options"]["memory"] == 2 * 10**9
    assert (provenance["seed"], provenance["tolerances"]["spectral_norm"]) == (3, 1e-8)
    assert Path("out/a/spectra.parquet").exists()
    assert Path("out/three.svg").read_text().count(">layer</text>") == 2 * 3
    resolved = yaml.safe_load(Path("out/recipe.yaml").read_text())
    assert resolved["options"]["layers"] == 1
    assert resolved["figure"]["file"] == "three"


def test_one_quantity_is_drawn_for_attention_and_feed_forward(tmp_path):
    path = recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"))
    assert run(path, "--set", "figure.quantities=[spectral_norm]").exit_code == 0
    svg = Path("mine/mine.svg").read_text()
    assert ">a: attention</text>" in svg
    assert ">feed-forward</text>" in svg


def test_what_is_written_is_a_recipe_that_gives_the_same(tmp_path):
    path = recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"), b=write_gpt2(tmp_path / "b"))
    assert run(path, "--set", "models.b=null", "--set", "options.layers=0").exit_code == 0
    assert "--set 'models.b=null'" in Path("mine/recipe.yaml").read_text()
    assert run("mine/recipe.yaml", "--out", "again").exit_code == 0
    for name in ("matrices.csv", "summary.csv", "norm_preservation.csv", "mine.svg"):
        assert Path("again", name).read_bytes() == Path("mine", name).read_bytes()
    first, second = (json.loads(Path(f, "provenance.json").read_text())["recipe"] for f in ("mine", "again"))
    assert first["resolved_sha256"] == second["resolved_sha256"]
    assert first["settings"] == ["models.b=null", "options.layers=0"]


def test_a_label_is_text_whatever_is_in_it(tmp_path):
    path = recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"))
    done = run(path, "--set", r"models.a.label='$\frac [red] <b> & ü'")
    assert done.exit_code == 0
    assert r"$\frac [red] <b> & ü" in done.stdout
    assert Path("mine/mine.png").stat().st_size > 5000


# ------------------------------------------------------------------------------- going on


@pytest.mark.usefixtures("undrawn")
def test_resume_keeps_what_is_done(tmp_path):
    path = recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"), b=tmp_path / "b")
    assert run(path).exit_code == 1  # b is not there yet
    report = content(Path("mine/a"))
    write_gpt2(tmp_path / "b", seed=1)
    done = run(path, "--resume")
    assert done.exit_code == 0, done.stderr
    assert "kept from an earlier run: a" in done.stdout
    assert content(Path("mine/a")) == report
    statuses = json.loads(Path("mine/provenance.json").read_text())["models"]
    assert [statuses[name]["status"] for name in "ab"] == ["kept", "done"]
    resumed = content(Path("mine"))
    assert run(path, "--out", "anew").exit_code == 0
    for name in ("matrices.csv", "summary.csv", "norm_preservation.csv", "mine.svg"):
        assert resumed[name] == Path("anew", name).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_without_resume_everything_is_done_anew(tmp_path):
    path = recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"))
    run(path)
    first = Path("mine/a/provenance.json").read_text()
    assert "kept" not in run(path).stdout
    assert Path("mine/a/provenance.json").read_text() != first


@pytest.mark.parametrize(
    "change", ["other option", "other weights", "damaged report", "other command's report", "journal"]
)
@pytest.mark.usefixtures("undrawn")
def test_resume_does_not_keep_what_is_of_another_run(tmp_path, change):
    folder = write_gpt2(tmp_path / "a")
    path = recipe_of(tmp_path / "mine.yaml", a=folder)
    run(path)
    settings = []
    if change == "other option":
        settings = ["--set", "options.bound=proved"]
    elif change == "other weights":
        write_gpt2(folder, seed=5)
    elif change == "damaged report":
        table = Path("mine/a/matrices.csv")
        table.write_text(table.read_text().replace(",ok,", ",zero,", 1))
    elif change == "other command's report":
        analyze("demo").save("mine/a")
    else:
        Path("mine/a", JOURNAL_FILE).write_bytes(b"")
    done = run(path, "--resume", *settings)
    assert done.exit_code == 0, done.stderr
    assert "kept" not in done.stdout
    assert ("is not of this run, or was changed: it is done anew" in done.stderr) == (change != "journal")
    analyze(folder, bound="proved" if settings else "probable").save("expected")
    assert Path("mine/a/matrices.csv").read_text() == Path("expected/matrices.csv").read_text()


def test_an_interrupted_model_goes_on_from_its_journal(tmp_path):
    """Killed for real, in the middle of the second model."""
    folders = {name: write_gpt2(tmp_path / name, layers=4, seed=seed) for seed, name in enumerate("ab")}
    path = recipe_of(tmp_path / "mine.yaml", **folders)
    code = (
        "import os, signal, sys\n"
        "from weightscope.sweep.journal import Journal\n"
        "from weightscope.cli import main\n"
        "append, written = Journal.append, []\n"
        "def count(self, numbers):\n"
        "    append(self, numbers)\n"
        "    written.append(numbers)\n"
        "    if len(written) == 28 + 9:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Journal.append = count\n"
        f"sys.argv = ['weightscope', 'run', {str(path)!r}]\n"
        "main()\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in Path("mine").iterdir() if p.is_file()] == []
    assert Path("mine/b", JOURNAL_FILE).exists()
    done = run(path, "--resume")
    assert done.exit_code == 0, done.stderr
    assert "kept from an earlier run: a" in done.stdout
    assert json.loads(Path("mine/b/provenance.json").read_text())["resumed"] > 0
    run(path, "--out", "anew")
    for name in ("a/matrices.csv", "b/matrices.csv", "matrices.csv", "mine.svg"):
        assert Path("mine", name).read_bytes() == Path("anew", name).read_bytes()


def test_interrupted_from_the_keyboard(tmp_path, monkeypatch):
    from weightscope.recipes import analysing

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(analysing, "analyze_checkpoint", interrupt)
    done = run(recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a")))
    assert done.exit_code == 130
    assert "with --resume goes on" in done.stderr


# ------------------------------------------------------------------------------- the dry run, the help


@pytest.mark.usefixtures("undrawn")
def test_dry_run_writes_nothing(tmp_path):
    path = recipe_of(tmp_path / "mine.yaml", a=write_gpt2(tmp_path / "a"), b=tmp_path / "b")
    done = run(path, "--dry-run")
    assert done.exit_code == 1
    assert "14 matrices from 8 tensors, 6.14 kB to read" in done.stdout
    assert "b (" in done.stdout
    assert "CheckpointNotFound" in done.stdout
    assert "Results would be written to mine/" in done.stdout
    assert not Path("mine").exists()
    run(path)
    done = run(path, "--dry-run", "--resume", "--set", "models.b=null")
    assert done.exit_code == 0
    assert "its report is there already and would be kept" in done.stdout
    done = run("paper_a/table1", "--dry-run")
    assert done.exit_code == 0
    assert "BERT: headers and config of google-bert/bert-base-uncased@main" in done.stdout


def test_sizes_and_the_list_load_nothing_heavy(tmp_path):
    folder = write_gpt2(tmp_path / "a")
    Path("mine.yaml").write_text(f"experiment: inspect\ntitle: x\nmodels: {{a: {{source: {folder}}}}}\n")
    for arguments in (["run", "--list"], ["run", "mine.yaml"], ["run", "--help"]):
        code = (
            "import sys\nfrom weightscope.cli import main\n"
            f"sys.argv = ['weightscope', *{arguments!r}]\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
            "heavy = ('torch', 'transformers', 'pandas', 'matplotlib', 'seaborn', 'pyarrow', 'numpy')\n"
            "assert not [name for name in heavy if name in sys.modules]"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_the_examples_of_the_help_parse(hub):
    lines = [line.split()[2:] for line in EXAMPLES.splitlines() if line.strip().startswith("weightscope")]
    assert len(lines) == 4
    for arguments in lines:
        if "my-recipe.yaml" in arguments:
            assert "no such file" in failing(*arguments).lower()
        else:
            assert run(*arguments).exit_code in (0, 1)
