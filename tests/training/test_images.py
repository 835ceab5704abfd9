"""`load_images`: folders as people have them, scikit-learn's digits, and what is refused."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from tests.training.sets import DIGIT_NAMES, FASHION, pictures, png, write_idx, write_parquet
from weightscope.errors import DataFormatError, DataNotFound, OptionError
from weightscope.training.images import load_images

SHARD = "train-00000-of-00001.parquet"


def assert_same(found, images, labels):
    assert np.array_equal(found.images.numpy(), images)
    assert np.array_equal(found.labels.numpy(), labels)
    assert found.images.dtype == torch.uint8
    assert found.labels.dtype == torch.int64
    assert len(found) == len(images)
    assert found.pixels == images[0].size
    assert np.array_equal(found.flat().numpy(), images.reshape(len(images), -1))


@pytest.mark.parametrize(
    ("name", "place", "size", "column", "names"),
    [
        ("mnist", "mnist", (28, 28), "image", DIGIT_NAMES),
        ("mnist", ".", (28, 28), "image", DIGIT_NAMES),
        ("fashion_mnist", "fashion_mnist", (28, 28), "image", FASHION),
        ("fashion_mnist", ".", (28, 28), "image", [name.replace(" ", "") for name in FASHION]),
        ("cifar10", "cifar10/plain_text", (32, 32, 3), "img", None),
        ("cifar10", "plain_text", (32, 32, 3), "img", None),
        ("cifar10", "cifar10", (32, 32, 3), "img", None),
        ("cifar10", ".", (32, 32, 3), "img", None),
    ],
)  # fmt: skip
def test_parquet_in_the_folders_where_it_lies(name, place, size, column, names, tmp_path):
    images, labels = pictures(12, size)
    path = write_parquet(tmp_path / place / SHARD, images, labels, column=column, names=names)
    found = load_images(name, data_dir=tmp_path)
    assert_same(found, images, labels)
    assert found.name == name
    assert (
        found.class_names[9].replace(" ", "")
        == {"mnist": "9", "fashion_mnist": "Ankleboot", "cifar10": "truck"}[name]
    )
    assert found.white == 255
    (file,) = found.source.files
    assert file.name == path.relative_to(tmp_path).as_posix()
    assert file.bytes == path.stat().st_size
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(json.dumps(asdict(found.source)))["reference"] == str(tmp_path)


@pytest.mark.parametrize("joint", ["-", "."])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("name", "place"), [("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw"), ("fashion_mnist", ".")]
)
def test_idx_in_the_folders_where_it_lies(name, place, joint, compressed, tmp_path):
    images, labels = pictures(12)
    write_idx(tmp_path / place, images, labels, joint=joint, compressed=compressed)
    write_idx(tmp_path / place, images[:7], labels[:7], prefix="t10k", joint=joint, compressed=compressed)
    assert_same(load_images(name, data_dir=tmp_path), images, labels)
    test = load_images(name, data_dir=tmp_path, split="test")
    assert_same(test, images[:7], labels[:7])
    assert len(test.source.files) == 2
    assert test.source.split == "test"
    assert test.class_names[8] == {"mnist": "8", "fashion_mnist": "Bag"}[name]


def test_a_folder_by_its_path(tmp_path):
    images, labels = pictures(9, (4, 7))
    write_parquet(tmp_path / "flowers" / "data" / "validation-a.parquet", images[:5], labels[:5], names=None)
    write_parquet(tmp_path / "flowers" / "data" / "validation-b.parquet", images[5:], labels[5:], names=None)
    found = load_images(tmp_path / "flowers", split="validation")
    assert_same(found, images, labels)
    assert found.name == "flowers"
    assert found.class_names == tuple("012345678")
    write_idx(tmp_path / "old", images, labels)
    assert_same(load_images(str(tmp_path / "old")), images, labels)


def test_of_two_folders_that_have_it_none_is_chosen(tmp_path):
    images, labels = pictures(3)
    for name in ("one", "two"):
        write_parquet(tmp_path / name / SHARD, images, labels)
    with pytest.raises(DataFormatError, match=r"More than one folder .*: one, two"):
        load_images(tmp_path)


def test_shards_are_read_in_order_and_all_must_be_there(tmp_path):
    images, labels = pictures(24)
    for shard in range(12):
        path = tmp_path / f"train-{shard:05d}-of-00012.parquet"
        write_parquet(path, images[2 * shard : 2 * shard + 2], labels[2 * shard : 2 * shard + 2])
    assert_same(load_images("mnist", data_dir=tmp_path), images, labels)
    moved = (tmp_path / "train-00007-of-00012.parquet").rename(tmp_path / "elsewhere")
    with pytest.raises(DataFormatError, match="not one whole set"):
        load_images("mnist", data_dir=tmp_path)
    moved.rename(tmp_path / "train-00012-of-00012.parquet")
    with pytest.raises(DataFormatError, match="not one whole set"):
        load_images("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("extra", ["train-00000-of-00001.parquet", "train-0.parquet"])
def test_shards_of_two_downloads_are_not_mixed(extra, tmp_path):
    images, labels = pictures(4)
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", extra):
        write_parquet(tmp_path / name, images, labels)
    with pytest.raises(DataFormatError, match="not one whole set"):
        load_images("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "size", "names", "label", "words"),
    [
        ("fashion_mnist", (28, 28), DIGIT_NAMES, 1, "classes are 0, 1, 2.*not those of fashion_mnist"),
        ("mnist", (28, 28), FASHION, 1, "not those of mnist"),
        ("cifar10", (28, 28), None, 1, "pictures are 28 × 28, and those of cifar10 are 32 × 32 × 3"),
        ("mnist", (28, 28), None, 10, "label 10, and mnist has 10 classes"),
    ],
)
def test_another_set_than_the_one_asked_for(name, size, names, label, words, tmp_path):
    images, labels = pictures(12, size)
    labels[3] = label
    write_parquet(tmp_path / SHARD, images, labels, names=names)
    with pytest.raises(DataFormatError, match=words):
        load_images(name, data_dir=tmp_path)


def test_a_split_that_is_not_there(tmp_path):
    images, labels = pictures(3)
    write_parquet(tmp_path / "mnist" / SHARD, images, labels)
    with pytest.raises(DataNotFound, match=rf"'test-\*\.parquet'.*there is mnist/{SHARD}") as caught:
        load_images("mnist", split="test", data_dir=tmp_path)
    assert isinstance(caught.value, FileNotFoundError)
    (tmp_path / "mnist" / SHARD).unlink()
    with pytest.raises(DataNotFound, match="there is mnist"):
        load_images("mnist", data_dir=tmp_path)
    (tmp_path / "mnist").rmdir()
    with pytest.raises(DataNotFound, match="there is nothing"):
        load_images("mnist", data_dir=tmp_path)


def test_no_such_folder_or_name(tmp_path):
    with pytest.raises(DataNotFound, match="no such folder"):
        load_images("mnist", data_dir=tmp_path / "nowhere")
    with pytest.raises(DataNotFound, match="digits, mnist, fashion_mnist, cifar10"):
        load_images("imagenet")
    for impossible in ("x" * 5000, "a\0b", ""):
        with pytest.raises(DataNotFound):
            load_images(impossible, data_dir=None)
        with pytest.raises(DataNotFound):
            load_images("mnist", data_dir=tmp_path / f"{impossible}_")


@pytest.mark.parametrize("split", ["", "../train", "tr*", "a/b", "x" * 100])
def test_a_split_that_cannot_be(split, tmp_path):
    with pytest.raises(OptionError, match="letters, digits and underscores"):
        load_images("mnist", split=split, data_dir=tmp_path)


def test_options_that_contradict(tmp_path):
    for name in ("digits", str(tmp_path)):
        with pytest.raises(OptionError, match="Leave out the folder"):
            load_images(name, data_dir=tmp_path)


def test_idx_with_a_part_missing(tmp_path):
    images, labels = pictures(5)
    write_idx(tmp_path, images, labels[:4])
    with pytest.raises(DataFormatError, match="4 labels for 5 images"):
        load_images("mnist", data_dir=tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(
        DataFormatError, match="train-images-idx3-ubyte' is there, and the file with the labels"
    ):
        load_images("mnist", data_dir=tmp_path)


def test_an_error_names_the_file(tmp_path):
    images, labels = pictures(2)
    write_parquet(tmp_path / "mnist" / SHARD, [images[0], png(images[1])[:80]], labels)
    with pytest.raises(DataFormatError, match=f"'mnist/{SHARD}'.*Row 1"):
        load_images("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(("split", "count"), [("train", 1437), ("test", 360)])
def test_digits_are_scikit_learns(split, count):
    from sklearn.datasets import load_digits

    theirs = load_digits()
    rows = slice(0, 1437) if split == "train" else slice(1437, None)
    found = load_images("digits", split=split)
    assert len(found) == count
    assert_same(found, theirs.images[rows], theirs.target[rows])
    assert found.white == 16 == found.images.max()
    assert found.class_names == DIGIT_NAMES
    assert found.source.reference.startswith("scikit-learn ")
    assert len(found.source.files[0].sha256) == 64
    assert torch.bincount(found.labels).min() > count / 10 * 0.9


def test_digits_have_two_splits():
    with pytest.raises(DataNotFound, match="'validation'; there is test, train"):
        load_images(split="validation")


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(DataNotFound, match="pip install scikit-learn"):
        load_images()
