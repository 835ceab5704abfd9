"""Pickles: refused unless allowed, tensors only, and nothing in them runs."""

import json
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_gpt2
from weightscope.checkpoints.pickled import _load
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError, QuantizedCheckpointError

PAIR = {"a.weight": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(4, dtype=torch.bfloat16)}
NAMES = ["pytorch_model.bin", "model.pt", "model.pth", "weights.th", "last.ckpt"]


def write_pickle(
    folder: Path, content: object, name: str = "pytorch_model.bin", *, zipped: bool = True
) -> Path:
    torch.save(content, folder / name, _use_new_zipfile_serialization=zipped)
    return folder


def write_sharded(folder: Path, shards: dict[str, dict[str, Any]], weight_map: dict[str, str]) -> Path:
    for name, content in shards.items():
        torch.save(content, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def assert_tensors(reference: Path, expected: dict[str, torch.Tensor]) -> None:
    """All of them and nothing else, bit for bit."""
    with open_source(reference, Reading(allow_pickle=True)) as source:
        assert set(source.index) == set(expected)
        for name, info in source.index.items():
            found = source.read(info)
            assert found.dtype == expected[name].dtype
            assert torch.equal(found, expected[name])


def assert_refused(reference: Path, *words: str, allow_pickle: bool = True) -> CheckpointFormatError:
    """Refused in three sentences on one line that hold these words."""
    with pytest.raises(CheckpointFormatError) as caught:
        open_source(reference, Reading(allow_pickle=allow_pickle))
    for sentence in (caught.value.asked, caught.value.found, caught.value.advice):
        assert sentence.endswith(".")
        assert sentence.isprintable()
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by_file", [False, True], ids=["folder", "file"])
def test_refused_unless_allowed(name: str, by_file: bool, tmp_path: Path) -> None:
    write_pickle(tmp_path, PAIR, name)
    reference = tmp_path / name if by_file else tmp_path
    error = assert_refused(reference, name, "Python pickle", "--allow-pickle", allow_pickle=False)
    assert error.asked == f"The checkpoint {str(reference)!r} was asked for."
    assert_tensors(reference, PAIR)


def test_nothing_is_opened_before_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the pickle was opened")

    write_pickle(tmp_path, PAIR)
    monkeypatch.setattr(torch, "load", fail)
    assert_refused(tmp_path, allow_pickle=False)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_both_formats_of_torch_are_read(zipped: bool, tmp_path: Path) -> None:
    write_pickle(tmp_path, PAIR, zipped=zipped)
    assert zipfile.is_zipfile(tmp_path / "pytorch_model.bin") == zipped
    assert_tensors(tmp_path, PAIR)
    with open_source(tmp_path, Reading(allow_pickle=True)) as source:
        (record,) = source.files
        assert record.name == "pytorch_model.bin"
        assert record.bytes == (tmp_path / "pytorch_model.bin").stat().st_size


def test_safetensors_go_before_pickles(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    write_pickle(tmp_path, PAIR)
    assert_tensors(tmp_path, gpt2_tensors())


def test_pickles_go_before_gguf(tmp_path: Path) -> None:
    write_pickle(tmp_path, PAIR)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert_tensors(tmp_path, PAIR)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(QuantizedCheckpointError):
        open_source(tmp_path, Reading(allow_pickle=True))


def test_training_state_is_no_model(tmp_path: Path) -> None:
    write_pickle(tmp_path, PAIR, "model.pt")
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth", "scaler.pt"):
        (tmp_path / name).write_bytes(b"not even a pickle")
    assert_tensors(tmp_path, PAIR)


def test_the_same_numbers_as_from_safetensors(tmp_path: Path) -> None:
    (tmp_path / "pickle").mkdir()
    write_pickle(tmp_path / "pickle", gpt2_tensors())
    (tmp_path / "pickle" / "config.json").write_text(json.dumps(GPT2_CONFIG))
    found = weightscope.analyze(tmp_path / "pickle", allow_pickle=True).table
    expected = weightscope.analyze(write_gpt2(tmp_path / "safetensors")).table
    columns = [name for name in found if name != "checkpoint"]
    assert found[columns].equals(expected[columns])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module", "net"])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_a_nested_state_dict_is_found(key: str, kind: type, tmp_path: Path) -> None:
    content = {"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}, key: kind(PAIR), "lr": torch.ones(1)}
    write_pickle(tmp_path, content)
    assert_tensors(tmp_path, PAIR)


def test_what_is_no_tensor_is_passed_over(tmp_path: Path) -> None:
    write_pickle(tmp_path, {**PAIR, "epoch": 3, "name": "x", 7: torch.ones(2, 2), "list": [torch.ones(2)]})
    assert_tensors(tmp_path, PAIR)


def test_tied_tensors_are_recorded_once(tmp_path: Path) -> None:
    write_pickle(tmp_path, {**PAIR, "lm_head.weight": PAIR["a.weight"]})
    assert_tensors(tmp_path, PAIR)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({}, "dict"),
        ({"epoch": 3, "loss": 0.1}, "dict"),
        ({"state_dict": {}}, "dict"),
        ({"state_dict": {"nested": {"deeper": torch.ones(2)}}}, "dict"),
        ([torch.ones(2, 2)], "list"),
        (torch.ones(2, 2), "Tensor"),
        (3, "int"),
        (None, "NoneType"),
        ({0: torch.ones(2, 2)}, "dict"),
    ],
    ids=["empty", "numbers", "empty state_dict", "too deep", "list", "tensor", "number", "None", "no names"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_without_named_tensors(content: object, kind: str, zipped: bool, tmp_path: Path) -> None:
    write_pickle(tmp_path, content, zipped=zipped)
    assert_refused(tmp_path, f"a {kind} without named tensors", "state_dict()")


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


class Evaluate:
    """Unpickling it would run Python."""

    def __init__(self, path: Path) -> None:
        self.code = f"open({str(path)!r}, 'w').close()"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (self.code,)


def plain_pickle(content: object, path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file)


def legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("hostile", [Touch, Evaluate])
@pytest.mark.parametrize("save", [torch.save, legacy, plain_pickle], ids=["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("nested", [False, True], ids=["bare", "beside tensors"])
def test_code_in_a_pickle_does_not_run(
    hostile: Callable[[Path], object], save: Callable[[object, Path], None], nested: bool, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    content = {**PAIR, "x": hostile(made)} if nested else hostile(made)
    path = tmp_path / "pytorch_model.bin"
    save(content, path)
    error = assert_refused(tmp_path, str(path), "weights_only=True", "torch refused it")
    assert "unless you trust its author" in error.advice
    assert "False" not in str(error)
    assert "Please use" not in str(error)
    assert not made.exists()
    torch.load(path, weights_only=False) if save is not plain_pickle else pickle.loads(path.read_bytes())
    assert made.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    write_pickle(tmp_path, nn.Linear(2, 2))
    assert_refused(tmp_path, "torch refused it", "torch.nn.modules.linear.Linear")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_truncated_pickle(zipped: bool, share: float, tmp_path: Path) -> None:
    path = write_pickle(tmp_path, PAIR, zipped=zipped) / "pytorch_model.bin"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(tmp_path, str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"PK\x03\x04" + bytes(40),
        b"\x80\x02.",
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
    ids=["empty", "zeros", "zip without entries", "no object", "a pointer of Git LFS"],
)
def test_a_file_that_is_no_pickle(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    assert_refused(tmp_path, "pytorch_model.bin")


def test_a_message_of_several_lines_becomes_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
        archive.writestr("archive/version", b"X\n")
    assert_refused(tmp_path, "RuntimeError: ", "version X")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_random_mutations_load_or_are_refused(zipped: bool, tmp_path: Path) -> None:
    path = write_pickle(tmp_path, PAIR, zipped=zipped) / "pytorch_model.bin"
    original = path.read_bytes()
    rng = random.Random(1)
    messages = []
    for _ in range(400):
        content = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 5])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            _load(path)
        except CheckpointFormatError as error:
            messages.append(str(error))
    assert 100 < len(messages) < 400
    assert all(message.isprintable() for message in messages)


def test_a_sharded_pickle(tmp_path: Path) -> None:
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    tensors = gpt2_tensors()
    parts = [dict(list(tensors.items())[number::2]) for number in (0, 1)]
    weight_map = {name: names[name in parts[1]] for name in tensors}
    write_sharded(tmp_path, dict(zip(names, parts, strict=True)), weight_map)
    assert_tensors(tmp_path, tensors)
    assert_tensors(tmp_path / "pytorch_model.bin.index.json", tensors)
    assert_refused(tmp_path, names[0], allow_pickle=False)
    with open_source(tmp_path, Reading(allow_pickle=True)) as source:
        assert [file.name for file in source.files] == names


@pytest.mark.parametrize(
    ("shard", "words"),
    [("absent.bin", "which is not there"), ("../outside.bin", "not a file of its folder")],
)
def test_the_index_of_a_sharded_pickle_is_checked(shard: str, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    write_pickle(tmp_path, PAIR, "outside.bin")
    write_sharded(folder, {"1.bin": PAIR}, {"a.weight": "1.bin", "b.weight": shard})
    assert_refused(folder, repr(shard), words)


def test_a_sharded_pickle_without_a_tensor_of_its_index(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"1.bin": PAIR}, {"a.weight": "1.bin", "c.weight": "1.bin"})
    assert_refused(tmp_path, "'c.weight'", "no shard has it")


def test_safetensors_called_a_pickle_are_no_pickle(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert_refused(tmp_path, "pytorch_model.bin")
