"""Local files: every stored bit arrives, a file that changes is noticed, and no descriptor stays open."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints.test_header import WRITABLE
from tests.factories import gpt2_tensors, write_gpt2
from weightscope.checkpoints import local
from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError, WeightscopeError

DESCRIPTORS = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="open descriptors cannot be listed here")


def all_bytes(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor in which every byte occurs, NaNs of all kinds, infinities and subnormals among its values."""
    size = ELEMENT_TYPES[dtype].bits // 8
    count = torch.Size(shape).numel() * size
    generator = torch.Generator().manual_seed(count)
    content = torch.cat([torch.arange(256), torch.randint(256, (count,), generator=generator)])[:count]
    if dtype == "BOOL":
        content %= 2
    return content.to(torch.uint8).view(getattr(torch, ELEMENT_TYPES[dtype].torch_name or "")).view(shape)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8) if tensor.numel() else torch.zeros(0)


def assert_same_bits(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(bits(found), bits(expected))


@pytest.mark.parametrize("dtype", WRITABLE)
def test_every_bit_of_every_dtype_arrives(dtype: str, tmp_path: Path) -> None:
    shapes = [(), (1,), (31,), (64, 9), (3, 2, 5), (0, 4), (4, 0)]
    tensors = {f"{dtype}.{shape}": all_bytes(dtype, shape) for shape in shapes}
    # One byte in front puts the others where no type is aligned.
    tensors["odd"] = torch.ones(1, dtype=torch.int8)
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    expected = load_file(path)
    with open_source(path) as source:
        assert set(source.index) == set(expected)
        for name, info in source.index.items():
            found = source.read(info)
            assert_same_bits(found, expected[name])
            assert_same_bits(found, tensors[name])
            assert found.device.type == "cpu"
        assert source.received_bytes == source.index.nbytes


def test_unaligned_tensors_are_read(tmp_path: Path) -> None:
    values = torch.arange(5, dtype=torch.float64)
    data = b"\x01" + bytes(bits(values).tolist())
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"b":{"dtype":"F64","shape":[5],"data_offsets":[1,41]}}'
    )
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    with open_source(path) as source:
        assert torch.equal(source.read(source.index["b"]), values)


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    with open_source(tmp_path) as source:
        info = source.index["h.0.attn.c_proj.weight"]
        source.read(info).zero_()
        assert source.read(info).abs().sum() > 0
    before = load_file(tmp_path / "model.safetensors")
    assert before["h.0.attn.c_proj.weight"].abs().sum() > 0


def test_large_reads_may_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gpt2(tmp_path)
    expected = load_file(tmp_path / "model.safetensors")
    whole = os.preadv

    def seven_bytes(descriptor: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        return whole(descriptor, [buffers[0][:7]], offset)

    monkeypatch.setattr(os, "preadv", seven_bytes)
    with open_source(tmp_path) as source:
        for name, info in source.index.items():
            assert_same_bits(source.read(info), expected[name])


@pytest.mark.parametrize("left", [0, 1, 100], ids="{} bytes left".format)
def test_a_file_that_shrinks_is_noticed(left: int, tmp_path: Path) -> None:
    path = write_gpt2(tmp_path) / "model.safetensors"
    with open_source(path) as source:
        *_, last = source.index.values()
        os.truncate(path, last.stop - last.nbytes + min(left, last.nbytes - 1))
        with pytest.raises(CheckpointFormatError, match=f"{last.name}.*it shrank while it was read"):
            source.read(last)
        first = next(iter(source.index.values()))
        assert source.read(first).shape == first.shape


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gpt2(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with open_source(tmp_path) as source:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(CheckpointFormatError, match=r"wte\.weight.*Input/output error"):
            source.read(source.index["wte.weight"])
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(CheckpointFormatError, match=r"header.*Input/output error"):
        open_source(tmp_path)


def test_files_are_recorded_with_size_and_version(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=2)
    with open_source(tmp_path) as source:
        first = source.files
        assert [file.bytes for file in first] == [(tmp_path / file.name).stat().st_size for file in first]
    os.utime(tmp_path / first[0].name, (1, 1))
    with open_source(tmp_path) as source:
        assert source.files[0].etag != first[0].etag
        assert source.files[1] == first[1]


def broken_shard(folder: Path) -> None:
    (folder / "model-00002-of-00003.safetensors").write_bytes(b"x" * 20)


def missing_shard(folder: Path) -> None:
    (folder / "model-00003-of-00003.safetensors").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def quantised_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')


def exchanged_shards(folder: Path) -> None:
    first, second = (folder / f"model-0000{number}-of-00003.safetensors" for number in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@pytest.fixture
def _no_descriptor_is_left() -> Iterator[None]:
    before = len(list(DESCRIPTORS.iterdir()))
    yield
    assert len(list(DESCRIPTORS.iterdir())) == before


@needs_proc
@pytest.mark.usefixtures("_no_descriptor_is_left")
@pytest.mark.parametrize(
    "harm", [broken_shard, missing_shard, broken_config, quantised_config, exchanged_shards]
)
def test_files_are_closed_after_an_error(harm: Callable[[Path], None], tmp_path: Path) -> None:
    harm(write_gpt2(tmp_path, shards=3))
    with pytest.raises(WeightscopeError):
        open_source(tmp_path)


@needs_proc
@pytest.mark.usefixtures("_no_descriptor_is_left")
def test_files_are_closed_at_the_end(tmp_path: Path) -> None:
    write_gpt2(tmp_path, shards=3)
    before = len(list(DESCRIPTORS.iterdir()))
    with open_source(tmp_path) as source:
        assert len(list(DESCRIPTORS.iterdir())) == before + 3
        source.read(source.index["wte.weight"])
    source.close()


@needs_proc
@pytest.mark.usefixtures("_no_descriptor_is_left")
def test_files_are_closed_after_an_error_while_reading(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    source = open_source(tmp_path)
    os.truncate(tmp_path / "model.safetensors", 100)
    with pytest.raises(CheckpointFormatError), source:
        source.read(source.index["wte.weight"])


def test_a_checkpoint_larger_than_the_cache_is_read_past_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes, by the flag where the kernel knows it, and without it where it does not."""
    flags = []

    def preadv(descriptor: int, buffers: list[memoryview], offset: int, flag: int = 0) -> int:
        flags.append(flag)
        if flag and refuses:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(descriptor, buffers, offset, flag)

    real = os.preadv
    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(local, "_CACHED_SHARE", 0.0)
    folder = write_gpt2(tmp_path)
    for refuses in (False, True):
        flags.clear()
        with open_source(folder) as source:
            for name, tensor in zip(source.index, source.read_all(list(source.index.values())), strict=True):
                assert torch.equal(tensor, gpt2_tensors()[name])
        assert 0x80 in flags
        assert not refuses or flags.count(0x80) == 1


@pytest.mark.skipif(
    not shutil.which("fincore"), reason="there is no fincore to look into the page cache with"
)
def test_what_is_read_past_the_cache_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_gpt2(tmp_path, layers=4, width=256)
    shard = folder / "model.safetensors"

    def pages() -> int:
        shown = subprocess.run(["fincore", "-n", "-b", shard], check=True, capture_output=True, text=True)
        return int(shown.stdout.split()[1])

    def read() -> int:
        """Pages in the cache after all of a file was read that was not in it."""
        with shard.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with open_source(folder) as source:
            source.read_all(list(source.index.values()))
        return pages()

    cached = read()
    monkeypatch.setattr(local, "_CACHED_SHARE", 0.0)
    with shard.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, 0x80)
        except OSError:
            pytest.skip("this kernel or file system always leaves them")
    assert read() < 0.2 * cached
