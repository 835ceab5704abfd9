"""The library: built where there is a compiler, from the files that lie here, and done without elsewhere."""

import shutil
import subprocess
import sys

import pytest

from weightscope.kernels import compiling, library


def test_it_is_there_where_there_is_a_compiler():
    """After a change of the C files: pip install -e . (or run the test command of the README) again."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    assert library.load(compiling.LIBRARY) is not None
    assert library.identity() == compiling.digest()


def test_one_built_from_other_files_is_not_used(tmp_path, monkeypatch):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    monkeypatch.setattr(compiling, "digest", lambda: "0123456789abcdef")
    compiling.compile_kernels(tmp_path / "other.so", ["-O0", "-DWEIGHTSCOPE_ONE_VERSION"])
    assert library.load(tmp_path / "other.so") is None


def test_what_cannot_be_loaded_is_not_used(tmp_path):
    assert library.load(tmp_path / "missing.so") is None
    (tmp_path / "empty.so").touch()
    assert library.load(tmp_path / "empty.so") is None


def test_without_a_compiler_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    (tmp_path / "old.so").touch()
    with pytest.raises(FileNotFoundError):
        compiling.compile_kernels(tmp_path / "old.so")
    monkeypatch.setenv("CC", "a'b")
    with pytest.raises(OSError, match="No closing quotation"):
        compiling.compile_kernels(tmp_path / "old.so")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(subprocess.CalledProcessError):
        compiling.compile_kernels(tmp_path / "old.so")
    assert list(tmp_path.iterdir()) == []


def test_the_switch(monkeypatch):
    code = "from weightscope.kernels.library import identity; print(repr(identity()))"
    monkeypatch.setenv(library.SWITCH, "0")
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "''\n"


def test_asking_for_it_by_name_loads_no_torch():
    code = "import sys, weightscope.kernels.library; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
