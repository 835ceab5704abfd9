"""The real sets, where WEIGHTSCOPE_DATA names a folder that has them: whole, in order, as published."""

import hashlib
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from weightscope.training.data import image_tasks
from weightscope.training.images import load_images
from weightscope.training.seeds import generator_for

FOLDER = os.environ.get("WEIGHTSCOPE_DATA", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="WEIGHTSCOPE_DATA names no folder with the real data sets")

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
# Class counts, and the MD5 of the IDX file that its authors published, unpacked.
SETS = [
    ("mnist", "train", MNIST_TRAIN, "6bbc9ace898e44ae57da46a324031adb"),
    ("mnist", "test", MNIST_TEST, None),
    ("fashion_mnist", "train", [6000] * 10, "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    ("fashion_mnist", "test", [1000] * 10, "8181f5470baa50b63fa0f6fddb340f0a"),
]


def needs(name, split):
    places = {"mnist": "mnist", "fashion_mnist": "fashion_mnist", "cifar10": "cifar10/plain_text"}
    if not list((Path(FOLDER) / places[name]).glob(f"{split}-*.parquet")):
        pytest.skip(f"{FOLDER} has no {split} split of {name}")
    return load_images(name, split=split, data_dir=FOLDER)


@pytest.mark.parametrize(("name", "split", "counts", "md5"), SETS)
def test_classes_and_pixels_are_the_published_ones(name, split, counts, md5):
    found = needs(name, split)
    assert torch.bincount(found.labels).tolist() == counts
    if md5:
        header = bytes.fromhex("00000803") + np.array(found.images.shape, dtype=">u4").tobytes()
        pixels = header + found.images.numpy().tobytes()
        assert hashlib.md5(pixels, usedforsecurity=False).hexdigest() == md5


def test_files_are_those_that_the_folder_lists():
    """Where a README beside them names digests as sha256sum prints them."""
    readme = Path(FOLDER) / "README.md"
    text = readme.read_text() if readme.exists() else ""
    digests = {name: digest for digest, name in re.findall(r"([0-9a-f]{64})  (\S+\.parquet)", text)}
    if not digests:
        pytest.skip("no README with digests")
    for name, split in (
        ("mnist", "test"),
        ("fashion_mnist", "test"),
        ("cifar10", "train"),
        ("cifar10", "test"),
    ):
        for file in needs(name, split).source.files:
            assert file.sha256 == digests[file.name]


def test_cifar10_has_the_published_means():
    """Of all 50,000 the channels' means are 125.31, 122.95 and 113.87; a part of them is near."""
    found = needs("cifar10", "train")
    counts = torch.bincount(found.labels)
    assert counts.min() == counts.max()
    assert found.images.shape[1:] == (32, 32, 3)
    means = found.images.double().mean(dim=(0, 1, 2))
    assert means.tolist() == pytest.approx([125.31, 122.95, 113.87], abs=0.5)


def test_tasks_of_figure_5():
    images = needs("fashion_mnist", "train")
    for samples in (10, 1000):
        first, second = image_tasks(generator_for(0, "data"), images, samples=samples)
        assert first.inputs.shape == (samples, 2 * 784)
        assert torch.count_nonzero(first.inputs @ second.inputs.T) == 0
        assert abs(float(first.labels.mean())) <= 5 / samples**0.5


def test_speed():
    start = time.perf_counter()
    needs("fashion_mnist", "train")
    assert time.perf_counter() - start < 10
