"""References: the grammar, who wins where two readings are possible, and what is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightscope.checkpoints.reference import CheckpointRef
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointNotFound


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hub(repo_id: str, *, revision: str = "", subfolder: str = "", forced: bool = False) -> CheckpointRef:
    return CheckpointRef(kind="hub", location=repo_id, revision=revision, subfolder=subfolder, forced=forced)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo", CheckpointRef(kind="demo", location="demo")),
        ("microsoft/phi-2", hub("microsoft/phi-2")),
        ("org/name@v1.0", hub("org/name", revision="v1.0")),
        ("org/name@refs/pr/1", hub("org/name", revision="refs/pr/1")),
        ("org/name:unet", hub("org/name", subfolder="unet")),
        ("org/name:a/b", hub("org/name", subfolder="a/b")),
        ("org/name@refs/pr/1:a/b", hub("org/name", revision="refs/pr/1", subfolder="a/b")),
        ("hf://org/name", hub("org/name", forced=True)),
        ("hf://org/name@main:sub", hub("org/name", revision="main", subfolder="sub", forced=True)),
        ("hf://org/name.bin", hub("org/name.bin", forced=True)),
        ("0rg/Na.me_1-x", hub("0rg/Na.me_1-x")),
    ],
)
def test_grammar(text: str, expected: CheckpointRef) -> None:
    assert CheckpointRef.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["demo", "org/name", "org/name@main", "./org", "name with spaces"])
def test_an_existing_path_wins(text: str) -> None:
    Path(text).mkdir(parents=True)
    assert CheckpointRef.parse(text) == CheckpointRef(kind="path", location=text)


def test_hf_forces_the_hub_over_an_existing_path() -> None:
    Path("org/name").mkdir(parents=True)
    assert CheckpointRef.parse("hf://org/name") == hub("org/name", forced=True)


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert CheckpointRef.parse("~/model") == CheckpointRef(kind="path", location="~/model")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        "name",
        "org/name/more",
        "org/",
        "/name",
        "org/name@",
        "org/name:",
        "org/name@:sub",
        "org/na me",
        "org/name ",
        "org/name\n",
        "-org/name",
        "hf://",
        "hf://demo",
        "hf://org",
        "hf://org/a/b",
        "HF://org/name",
        "./org/name",
        "../org/name",
        "~/org/name",
        "~no-such-user/name",
        "/org/name",
        "org/name.safetensors",
        "org/model.safetensors.index.json",
        "org/name.bin",
        "org/name.pt",
        "org\\name",
        "C:\\models\\name",
        "https://huggingface.co/org/name",
        "örg/name",
        pytest.param("org/name\0", id="nul"),
        pytest.param("\udcff", id="bytes that are no UTF-8"),
        pytest.param("x" * 5000, id="longer than any file name"),
        pytest.param("x/" * 5000, id="longer than any path"),
    ],
)
def test_rejects(text: str) -> None:
    with pytest.raises(CheckpointNotFound) as caught:
        CheckpointRef.parse(text)
    assert repr(text) in caught.value.asked
    assert isinstance(caught.value, FileNotFoundError)


def test_the_empty_reference_is_named_as_such() -> None:
    with pytest.raises(CheckpointNotFound, match="The reference is empty"):
        CheckpointRef.parse("")


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
free = st.text(st.characters(exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), min_size=1, max_size=20)
revisions = free.filter(lambda text: ":" not in text and not any(map(str.isspace, text)))
subfolders = free.filter(lambda text: not any(map(str.isspace, text)))


@given(
    repo_id=st.builds("{}/{}".format, names, names),
    revision=st.just("") | revisions,
    subfolder=st.just("") | subfolders,
)
def test_every_forced_reference_survives_text(repo_id: str, revision: str, subfolder: str) -> None:
    reference = hub(repo_id, revision=revision, subfolder=subfolder, forced=True)
    assert CheckpointRef.parse(str(reference)) == reference


@given(text=st.text(max_size=30) | st.from_regex(r"(hf://)?[a-z.]{0,3}/[a-z~]{0,3}(@[^:]{0,4})?(:.{0,4})?"))
def test_any_text_is_a_reference_that_gives_it_back_or_is_refused(text: str) -> None:
    try:
        reference = CheckpointRef.parse(text)
    except CheckpointNotFound:
        return
    assert str(reference) == text
    assert CheckpointRef.parse(str(reference)) == reference


@pytest.mark.parametrize("path", [Path("org/name"), Path("demo"), Path("x" * 5000), Path("~no-such-user/x")])
def test_a_path_object_is_never_a_name(path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="no such file or folder"):
        open_source(path)


def test_a_path_object_that_exists_is_opened() -> None:
    Path("demo").mkdir()
    with pytest.raises(CheckpointNotFound, match=r"The folder 'demo'.*It is empty"):
        open_source(Path("demo"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_looks_like_the_hubs_may_be_a_folder() -> None:
    Path("hf:/org/name").mkdir(parents=True)
    assert CheckpointRef.parse("hf://org/name").kind == "hub"
    assert CheckpointRef.parse("./hf:/org/name").kind == "path"
