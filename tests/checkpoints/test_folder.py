"""Folders: which files are the checkpoint, what is passed over, and what an index may not do."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import weightscope
from tests.factories import gpt2_tensors, write_checkpoint, write_gpt2
from weightscope.checkpoints.folder import find_checkpoint
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError, CheckpointNotFound, WeightscopeError

INDEX = "model.safetensors.index.json"
PAIR = {"a.weight": torch.ones(2, 3), "b.weight": torch.zeros(4)}
SHARD_1, SHARD_2 = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def write_index(folder: Path, weight_map: object, name: str = INDEX) -> Path:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_single(folder: Path, name: str = "model.safetensors") -> Path:
    write_checkpoint(folder / "written", PAIR)
    (folder / "written" / "model.safetensors").rename(folder / name)
    (folder / "written").rmdir()
    return folder


def assert_refused(folder: Path, kind: type[WeightscopeError], *words: str) -> WeightscopeError:
    """Refused in three sentences that hold these words."""
    with pytest.raises(kind) as caught:
        open_source(folder)
    for sentence in (caught.value.asked, caught.value.found, caught.value.advice):
        assert sentence.endswith(".")
        assert "\n" not in sentence
    for word in words:
        assert word in str(caught.value)
    return caught.value


def assert_tensors(reference: Path, expected: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """All of them and nothing else, with their values; returns the notes."""
    with open_source(reference) as source:
        assert set(source.index) == set(expected)
        for name, info in source.index.items():
            assert torch.equal(source.read(info), expected[name])
        return source.notes


@pytest.mark.parametrize("name", ["model.safetensors", "adapter_model.safetensors", "x.safetensors"])
@pytest.mark.parametrize("by_file", [False, True], ids=["folder", "file"])
def test_a_single_file(name: str, by_file: bool, tmp_path: Path) -> None:
    write_single(tmp_path, name)
    (tmp_path / "config.json").write_text("{}")
    assert assert_tensors(tmp_path / name if by_file else tmp_path, PAIR) == ()


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("by_file", [False, True], ids=["folder", "file"])
def test_any_number_of_shards_is_one_checkpoint(shards: int, by_file: bool, tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=shards)
    name = "model.safetensors" if shards == 1 else INDEX
    assert assert_tensors(tmp_path / name if by_file else tmp_path, gpt2_tensors()) == ()
    _, files = find_checkpoint(tmp_path)
    assert len(files.shards) == shards
    assert not files.pickled


def test_shards_may_lie_in_subfolders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_single(tmp_path / "sub", "x.safetensors")
    write_index(tmp_path, dict.fromkeys(PAIR, "sub/x.safetensors"))
    assert_tensors(tmp_path, PAIR)


def test_shards_are_those_the_index_names_never_a_glob(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    (tmp_path / "model-00003-of-00002.safetensors").write_bytes(b"not even a header")
    assert len(assert_tensors(tmp_path, gpt2_tensors())) == 1
    with open_source(tmp_path) as source:
        assert [file.name for file in source.files] == [SHARD_1, SHARD_2]
        assert source.notes == ("Also in the folder and not read: model-00003-of-00002.safetensors.",)


def test_another_file_beside_model_safetensors_is_noted(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    for name in ("consolidated.safetensors", "b\n.safetensors", "pytorch_model.bin", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    notes = assert_tensors(tmp_path, gpt2_tensors())
    assert notes == (r"Also in the folder and not read: 'b\n.safetensors', consolidated.safetensors.",)


def test_many_other_files_are_counted(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    for number in range(30):
        (tmp_path / f"x{number:02}.safetensors").write_bytes(b"")
    (note,) = assert_tensors(tmp_path, gpt2_tensors())
    assert note.endswith("x06.safetensors, x07.safetensors and 22 more.")


def two_files(folder: Path) -> None:
    write_single(folder, "a.safetensors")
    write_single(folder, "b.safetensors")


def index_beside_another_single_file(folder: Path) -> None:
    write_gpt2(folder, shards=2)
    write_single(folder)


def two_indexes(folder: Path) -> None:
    write_single(folder, "x.safetensors")
    for name in ("model.fp16", "model.fp32"):
        write_index(folder, dict.fromkeys(PAIR, "x.safetensors"), f"{name}.safetensors.index.json")


def two_pickles(folder: Path) -> None:
    for name in ("a.pt", "b.bin"):
        torch.save(PAIR, folder / name)


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (two_files, ["a.safetensors", "b.safetensors"]),
        (index_beside_another_single_file, ["model.safetensors", INDEX]),
        (two_indexes, ["model.fp16.safetensors.index.json", "model.fp32.safetensors.index.json"]),
        (two_pickles, ["a.pt", "b.bin"]),
    ],
)
def test_two_checkpoints_are_refused(write: Callable[[Path], None], named: list[str], tmp_path: Path) -> None:
    write(tmp_path)
    error = assert_refused(tmp_path, CheckpointFormatError, "more than one checkpoint", *named)
    assert str(tmp_path / named[0]) in error.advice


def test_one_of_two_checkpoints_can_be_named(tmp_path: Path) -> None:
    two_files(tmp_path)
    assert_tensors(tmp_path / "a.safetensors", PAIR)


def test_an_index_that_names_model_safetensors_is_the_same_checkpoint(tmp_path: Path) -> None:
    write_single(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    write_index(tmp_path, dict.fromkeys(PAIR, "model.safetensors"))
    assert assert_tensors(tmp_path, PAIR) == ()


def test_the_index_called_model_goes_before_others(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    write_index(tmp_path, {"x": "absent"}, "consolidated.safetensors.index.json")
    notes = assert_tensors(tmp_path, gpt2_tensors())
    assert notes == ("Also in the folder and not read: consolidated.safetensors.index.json.",)


def test_shards_without_their_index_are_refused(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    (tmp_path / INDEX).unlink()
    assert_refused(tmp_path, CheckpointFormatError, "shards without the index", SHARD_1, SHARD_2)


def test_links_as_in_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "0123abc"
    write_gpt2(snapshot, shards=2)
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(tmp_path / "blobs" / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    assert assert_tensors(snapshot, gpt2_tensors()) == ()


@pytest.mark.parametrize("name", ["model.safetensors", SHARD_2, INDEX, "pytorch_model.bin"])
def test_a_link_into_nothing_is_named(name: str, tmp_path: Path) -> None:
    if name == SHARD_2:
        write_gpt2(tmp_path, shards=2)
        (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("../../blobs/absent")
    kind = CheckpointFormatError if name == SHARD_2 else CheckpointNotFound
    assert_refused(tmp_path, kind, name, "not there")


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "sub/../../x.safetensors",
        "..",
        "/etc/passwd",
        "//server/share/x.safetensors",
        "..\\x.safetensors",
        "sub\\x.safetensors",
        "C:x.safetensors",
        "C:\\x.safetensors",
        "file:///etc/passwd",
        ".",
        "./",
        pytest.param("", id="empty"),
        pytest.param("x.safetensors\0", id="nul"),
    ],
)
def test_an_index_may_not_leave_its_folder(shard: str, tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    write_single(tmp_path, "x.safetensors")
    write_single(folder, "y.safetensors")
    write_index(folder, {"a.weight": "y.safetensors", "b.weight": shard})
    assert_refused(folder, CheckpointFormatError, repr(shard), "which is not a file of its folder")


@pytest.mark.parametrize(
    "shard",
    ["absent.safetensors", "sub", "sub/absent.safetensors", "~", pytest.param("x" * 5000, id="a long name")],
)
def test_an_index_may_not_name_what_is_not_there(shard: str, tmp_path: Path) -> None:
    write_single(tmp_path, "x.safetensors")
    (tmp_path / "sub").mkdir()
    write_index(tmp_path, {"a.weight": "x.safetensors", "b.weight": shard})
    error = assert_refused(tmp_path, CheckpointFormatError, shard[:100], "which is not there")
    assert len(str(error)) < 1000


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    write_single(tmp_path, "m-1-of-4.safetensors")
    write_index(tmp_path, {f"{n}.weight": f"m-{n}-of-4.safetensors" for n in (1, 2, 3, 4)})
    words = (
        "Of the 4 shards that it names 3 are not there",
        "first being 'm-2-of-4",
        "--partial is for layers",
    )
    assert_refused(tmp_path, CheckpointFormatError, *words)


@pytest.mark.parametrize("tensor", ["b.weight", "a.weight"], ids=["not in any shard", "in the other shard"])
def test_an_index_that_contradicts_its_shards(tensor: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "1", {"a.weight": PAIR["a.weight"]})
    write_checkpoint(tmp_path / "2", {"c.weight": PAIR["a.weight"]})
    write_index(
        tmp_path,
        {"c.weight": "2/model.safetensors", tensor: "2/model.safetensors"} | {"x": "1/model.safetensors"},
    )
    assert_refused(
        tmp_path, CheckpointFormatError, f"{tensor!r} lies in '2/model.safetensors'", "no such tensor"
    )


def test_tensors_that_the_index_does_not_name_are_skipped_with_a_reason(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    index = json.loads((tmp_path / INDEX).read_text())
    for name in ("h.1.mlp.c_fc.weight", "h.1.ln_1.weight"):
        del index["weight_map"][name]
    (tmp_path / INDEX).write_text(json.dumps(index))
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert "h.1.mlp.c_fc.weight" not in checkpoint.tensors
        assert "h.1.mlp.c_fc.weight" not in {matrix.parameter for matrix in checkpoint.matrices}
        (skipped,) = [entry for entry in checkpoint.skipped if "not named by the index" in entry.reason]
        assert skipped.tensor.name == "h.1.mlp.c_fc.weight"
        assert skipped.tensor.shape == (8, 32)
        assert skipped.reason.startswith(f"in {skipped.tensor.shard} ")
        assert skipped.kind == "skipped"


def test_a_tensor_in_two_shards_is_read_where_the_index_says(tmp_path: Path) -> None:
    one, two = torch.ones(2, 2), torch.full((2, 2), 2.0)
    write_checkpoint(tmp_path / "1", {"a.weight": one, "b.weight": one.clone()})
    write_checkpoint(tmp_path / "2", {"a.weight": two, "b.weight": two.clone()})
    write_index(tmp_path, {"a.weight": "2/model.safetensors", "b.weight": "1/model.safetensors"})
    assert_tensors(tmp_path, {"a.weight": two, "b.weight": one})
    with open_source(tmp_path) as source:
        assert {(info.name, info.shard[0]) for info in source.index.unindexed} == {
            ("a.weight", "1"),
            ("b.weight", "2"),
        }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"weight_map": {"a.weight": "x.safetensors"}} trailing', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"weight_map": {"a.weight": "x\\ud800"}}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "a JSON list, not an object"),
        (b"null", "a JSON NoneType, not an object"),
        (b"{}", "no object 'weight_map'"),
        (b'{"weight_map": ["x.safetensors"]}', "no object 'weight_map'"),
        (b'{"weight_map": {"a.weight": 1}}', "no object 'weight_map'"),
        (b'{"weight_map": {"a.weight": null}}', "no object 'weight_map'"),
        (b'{"weight_map": {"a.weight": ["x.safetensors"]}}', "no object 'weight_map'"),
        (b'{"weight_map": {}}', "'weight_map' is empty"),
    ],
    ids=[
        "empty",
        "cut short",
        "trailing",
        "no UTF-8",
        "lone surrogate",
        "thousands of digits",
        "deep",
        "a list",
        "null",
        "no weight_map",
        "a list of shards",
        "a number for a shard",
        "null for a shard",
        "a list for a shard",
        "an empty weight_map",
    ],
)
def test_an_index_that_is_none(content: bytes, words: str, tmp_path: Path) -> None:
    write_single(tmp_path, "x.safetensors")
    (tmp_path / INDEX).write_bytes(content)
    assert_refused(tmp_path, CheckpointFormatError, INDEX, words)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "It is empty."),
        (["README.md", "config.json"], "holds no .safetensors file, only: README.md, config.json."),
        (["optimizer.pt", "training_args.bin"], "only: optimizer.pt, training_args.bin."),
        ([f"{number}.txt" for number in range(10, 30)], "16.txt, 17.txt and 12 more."),
        (["a\nb"], r"only: 'a\nb'."),
        (["model.safetensors/"], "only: model.safetensors."),
        (["model.safetensors.index.json/"], "only: model.safetensors.index.json."),
        (["pytorch_model.bin/", "x.gguf/"], "only: pytorch_model.bin, x.gguf."),
    ],
    ids=["empty", "text", "training state", "many", "odd name", "folder", "index folder", "folders"],
)
def test_a_folder_without_weights_says_what_is_there(names: list[str], words: str, tmp_path: Path) -> None:
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text("")
    assert_refused(tmp_path, CheckpointNotFound, str(tmp_path), words)


@pytest.fixture
def _five_seconds() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise AssertionError("still waiting after five seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.usefixtures("_five_seconds")
@pytest.mark.parametrize("name", ["model.safetensors", INDEX, "pytorch_model.bin", "x.gguf"])
@pytest.mark.parametrize("by_file", [False, True], ids=["folder", "file"])
def test_a_pipe_is_not_waited_for(name: str, by_file: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    assert_refused(tmp_path / name if by_file else tmp_path, CheckpointNotFound, "no regular file")


@pytest.mark.parametrize("name", ["weights", "model.onnx", "model.safetensors.txt", "config.json"])
def test_a_file_of_another_kind(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    assert_refused(tmp_path / name, CheckpointNotFound, name, "not safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1]", "a JSON list, not an object"),
        ('"gpt2"', "a JSON str, not an object"),
        ('{"architectures": ["\\ud800"]}', "not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=["cut short", "empty", "a list", "a string", "lone surrogate", "deep"],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_a_broken_config_is_refused(content: str, words: str, shards: int, tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=shards)
    (tmp_path / "config.json").write_text(content)
    assert_refused(tmp_path, CheckpointFormatError, str(tmp_path / "config.json"), words)


def test_a_config_far_too_large_is_not_read(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(10**9)  # sparse: takes no room on the disk
    assert_refused(tmp_path, CheckpointFormatError, "1,000,000,000 bytes")


@pytest.mark.parametrize("instead", [None, Path.mkdir], ids=["nothing", "a folder"])
def test_a_missing_config_is_said(instead: Callable[[Path], Any] | None, tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "config.json").unlink()
    if instead:
        instead(tmp_path / "config.json")
    with open_source(tmp_path) as source:
        assert not source.has_config
        assert source.config == {}
        assert source.notes == (
            "There is no config.json: the family was taken from the tensors' names alone.",
        )


def test_a_config_is_the_one_beside_the_weights(tmp_path: Path) -> None:
    write_gpt2(tmp_path, layers=3)
    with open_source(tmp_path / "model.safetensors") as source:
        assert source.has_config
        assert source.config["n_layer"] == 3
