"""`load_images`: pictures with labels, from scikit-learn, a folder or the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from weightscope.checkpoints.digests import hub_etag
from weightscope.errors import DataNotFound, OptionError
from weightscope.training.find_images import Found, find_split, shard_patterns
from weightscope.training.idx import read_idx
from weightscope.training.image_set import (
    DataFile,
    DataSource,
    ImageSet,
    classes_of,
    not_found,
    read_whole,
    unreadable,
)
from weightscope.training.parquet_images import read_parquet

DIGITS = "digits"
# Ours: the set has none. Neighbouring rows are alike (one hand wrote them), so nothing is shuffled: a nearest
# neighbour is right for 95.6 % of this test split, and for 98.8 % of shuffled ones.
_DIGITS_SPLITS = {"train": slice(0, 1437), "test": slice(1437, 1797)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A data set by name."""

    repo_id: str
    folders: tuple[str, ...]
    """Below a folder that the user names, in this order: as the Hub, and as torchvision lays it out."""
    size: tuple[int, ...]
    """Shape of a picture."""
    class_names: tuple[str, ...]
    """As the Hub spells them."""


KNOWN: Mapping[str, _Known] = {
    "mnist": _Known(
        repo_id="ylecun/mnist",
        folders=("mnist", "MNIST/raw", "."),
        size=(28, 28),
        class_names=classes_of(9),
    ),
    "fashion_mnist": _Known(
        repo_id="zalando-datasets/fashion_mnist",
        folders=("fashion_mnist", "FashionMNIST/raw", "."),
        size=(28, 28),
        class_names=(
            "T - shirt / top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
    ),
    "cifar10": _Known(
        repo_id="uoft-cs/cifar10",
        folders=("cifar10/plain_text", "plain_text", "cifar10", "."),
        size=(32, 32, 3),
        class_names=(
            "airplane", "automobile", "bird", "cat", "deer",
            "dog", "frog", "horse", "ship", "truck",
        ),
    ),
}  # fmt: skip


def load_images(
    name: str | Path = DIGITS,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    revision: str | None = None,
) -> ImageSet:
    """Read a data set into memory.

    Args:
        name: `digits` (scikit-learn's, which needs no file and no network), `mnist`, `fashion_mnist`,
            `cifar10`, or the path of a folder with Parquet shards or IDX files.
        split: `train`, `test`, or whatever the files' names begin with.
        data_dir: A folder to read it from; None for the Hub or its cache. `digits` takes none.
        revision: Branch, tag or commit on the Hub; None for its default branch.

    Raises:
        DataNotFound: There is no such set, or not that split of it.
        DataFormatError: A file is not what it should be.
        AccessDenied: The Hub does not give it to you.
        TransferError: The Hub cannot be reached, and the cache does not have it.
        OptionError: Options that contradict each other.
    """
    name = str(name)
    asked = f"The {split} split of the data set {name!r} was asked for."
    if name == DIGITS or (name not in KNOWN and data_dir is not None):
        if data_dir is not None:
            raise OptionError(
                f"{asked[:-1]}, from '{data_dir}'.",
                f"Known by name in a folder are {', '.join(KNOWN)}; digits comes with scikit-learn.",
                "Leave out the folder, or give its path in place of the name.",
            )
        return _digits(split, asked)
    known = KNOWN.get(name)
    if known is None:
        if not _is_folder(name):
            raise DataNotFound(
                asked,
                f"There is no such folder, and sets known by name are {', '.join([DIGITS, *KNOWN])}.",
                "Use one of these, or the path of a folder.",
            )
        return _read(Path(name).resolve().name, find_split(Path(name), (".", "*"), split, asked), split, name)
    if data_dir is not None:
        return _read(
            name, find_split(Path(data_dir), known.folders, split, asked), split, str(data_dir), known=known
        )
    from weightscope.checkpoints.hub import dataset_files  # it loads huggingface_hub

    root = dataset_files(known.repo_id, shard_patterns(split), revision=revision)
    found = find_split(root, (".", "*"), split, asked)
    return _read(name, found, split, known.repo_id, revision=root.name, known=known)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # a name that no file can have
        return False


def _read(
    name: str, found: Found, split: str, reference: str, *, revision: str = "", known: _Known | None = None
) -> ImageSet:
    contents: list[tuple[str, bytes]] = []
    files: list[DataFile] = []
    for path in found.files:
        content, file = read_whole(path, found.name(path))
        mark = hub_etag(path)
        if len(mark) == 64 and mark != file.sha256:
            raise unreadable(
                str(path), "Its SHA-256 is not the one that the Hub named when it was downloaded."
            )
        contents.append((file.name, content))
        files.append(file)
    names: tuple[str, ...] | None = None
    if found.parquet:
        images, labels, names = read_parquet(contents)
    else:
        images, labels = _read_idx_pair(contents)
    if known:
        _check_known(name, contents[0][0], images, labels, names, known)
    class_names = names or (known.class_names if known else classes_of(int(labels.max())))
    return ImageSet(
        name=name,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        class_names=class_names,
        source=DataSource(reference=reference, revision=revision, split=split, files=tuple(files)),
    )


def _read_idx_pair(contents: list[tuple[str, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    (images_name, images_bytes), (labels_name, labels_bytes) = contents
    images = read_idx(images_bytes, images_name, (3,))
    labels = read_idx(labels_bytes, labels_name, (1,)).astype(np.int64)
    if len(images) != len(labels):
        raise unreadable(labels_name, f"It has {len(labels):,} labels for {len(images):,} images.")
    return images, labels


def _check_known(
    name: str,
    file: str,
    images: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...] | None,
    known: _Known,
) -> None:
    """A folder may hold another set than the one that was asked for."""
    if images.shape[1:] != known.size:
        found, expected = (" × ".join(map(str, size)) for size in (images.shape[1:], known.size))
        raise unreadable(file, f"Its pictures are {found}, and those of {name} are {expected}.")
    if names is not None and _letters(names) != _letters(known.class_names):
        raise unreadable(file, f"Its classes are {', '.join(names)[:100]}, which are not those of {name}.")
    if labels.max() >= len(known.class_names):
        raise unreadable(
            file, f"It has label {labels.max()}, and {name} has {len(known.class_names)} classes."
        )


def _letters(names: tuple[str, ...]) -> list[str]:
    """Without what spellings differ in: 'T - shirt / top' is 'T-shirt/top'."""
    return [re.sub("[^a-z0-9]", "", name.lower()) for name in names]


def _digits(split: str, asked: str) -> ImageSet:
    """The 1,797 digits that come with scikit-learn, 8 × 8, with pixels from 0 to 16."""
    try:
        import sklearn
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataNotFound(
            asked, "It comes with scikit-learn, which is not installed.", "Run: pip install scikit-learn"
        ) from None
    if split not in _DIGITS_SPLITS:
        raise not_found(asked, [repr(split)], _DIGITS_SPLITS)
    rows = _DIGITS_SPLITS[split]
    found = load_digits()
    images = np.ascontiguousarray(found.images[rows])
    packaged = Path(sklearn.__file__).parent / "datasets" / "data" / "digits.csv.gz"
    _, file = read_whole(packaged, packaged.name)
    return ImageSet(
        name=DIGITS,
        images=torch.from_numpy(images.astype(np.uint8)),
        labels=torch.from_numpy(found.target[rows].astype(np.int64)),
        class_names=classes_of(9),
        white=16,
        source=DataSource(reference=f"scikit-learn {sklearn.__version__}", split=split, files=(file,)),
    )
