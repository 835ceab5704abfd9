"""Spectra in threads: the same bits whoever is beside them, and torch's settings stay."""

import threading

import pytest
import torch

from weightscope.spectra.side_by_side import SideBySide, Waiting

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gram(seed, size=300):
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix.T @ matrix


def spectra_of(matrices, **options):
    found, together = {}, SideBySide(CPU, **options)
    for i, matrix in enumerate(matrices):
        together.add(
            Waiting(matrix=matrix, is_gram=i % 3 != 2, done=lambda spectrum, i=i: found.update({i: spectrum}))
        )
    together.run()
    return [found[i].values for i in range(len(matrices))]


def test_company_changes_no_bit(two_threads):
    matrices = [gram(seed) for seed in range(5)]
    together = spectra_of(matrices)
    for i in (0, 1, 3, 4):
        alone = spectra_of([matrices[i]])[0]
        assert torch.equal(alone, together[i])
        assert torch.allclose(alone.square().flip(0), torch.linalg.eigvalsh(matrices[i]), rtol=1e-9)


def test_settings_stay_and_workers_have_a_thread_each(two_threads):
    seen = []
    together = SideBySide(CPU)
    assert together.width == 2

    def done(spectrum):
        torch.ones(300, 300) @ torch.ones(300, 300)
        seen.append((threading.current_thread().name, torch.get_num_threads()))

    for _ in range(2):
        for seed in range(4):
            together.add(Waiting(matrix=gram(seed, 100), is_gram=True, done=done))
        assert torch.get_num_threads() == 2
        new = []
        thread = threading.Thread(target=lambda into=new: into.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert new == [2]
    assert len(seen) == 8
    assert {threads for _, threads in seen} == {1}
    assert all(name.startswith("weightscope-spectrum") for name, _ in seen)


def test_computed_as_soon_as_there_are_enough(two_threads):
    done = []
    together = SideBySide(CPU)
    for expected in (0, 2, 2, 4):
        together.add(Waiting(matrix=gram(0, 20), is_gram=True, done=done.append))
        assert len(done) == expected
    assert len(together) == 0


def test_an_error_is_not_lost():
    def broken(_):
        raise MemoryError("none left")

    def run():
        together = SideBySide(CPU)
        together.add(Waiting(matrix=gram(0, 20), is_gram=True, done=broken))
        together.run()

    with pytest.raises(MemoryError, match="none left"):
        run()
