"""Gram matrices of parts add up to that of the whole, whatever the shapes of the parts."""

import pytest
import torch

from weightscope.spectra.stack_gram import StackGram
from weightscope.spectra.workspace import Workspace


def stack(*rows, columns=60):
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(sum(rows), columns, generator=generator).to(torch.bfloat16).float()
    return whole, list(whole.split(rows))


@pytest.mark.parametrize("rows", [(60, 60, 60), (100, 70, 60), (80, 20, 20), (20, 20, 20), (10, 10, 10)])
@pytest.mark.parametrize("mixed", [False, True])
def test_whole_is_the_sum_of_its_parts(rows, mixed):
    whole, parts = stack(*rows)
    grams = StackGram(Workspace(torch.device("cpu")))
    grams.begin(len(parts))
    found = [grams.of(part, mixed=mixed) for part in parts]
    found.append(grams.of_whole(whole, parts, mixed=mixed))
    for gram, matrix in zip(found, [*parts, whole], strict=True):
        exact = matrix.double()
        exact = exact.T @ exact if exact.shape[0] >= exact.shape[1] else exact @ exact.T
        off = float(torch.linalg.matrix_norm(gram.double - exact, 2))
        assert off <= gram.error + 1e-12 * float(exact.norm())
        assert off <= (1e-5 if mixed else 1e-12) * float(exact.norm())
        assert torch.equal(gram.double, gram.double.T) or not mixed


def test_memory_is_reused_only_once_it_is_released():
    whole, parts = stack(60, 60)
    workspace = Workspace(torch.device("cpu"))
    grams = StackGram(workspace)
    grams.begin(2)
    first, second = (grams.of(part, mixed=False) for part in parts)
    kept = first.double.clone()
    joint = grams.of_whole(whole, parts, mixed=False)
    assert len({gram.double.data_ptr() for gram in (first, second, joint)}) == 3
    assert torch.equal(first.double, kept)
    grams.release(second)
    grams.begin(0)
    again = grams.of(parts[0], mixed=False)
    assert again.double.data_ptr() == second.double.data_ptr()
    assert torch.equal(first.double, kept)


def test_a_stack_that_ends_early_leaks_no_memory():
    _, parts = stack(60, 60)
    grams = StackGram(Workspace(torch.device("cpu")))
    for _ in range(5):  # a part that is not finite spoils the whole, which then never asks
        grams.begin(2)
        grams.release(grams.of(parts[0], mixed=False))
    grams.begin(0)
    names = {grams.of(parts[0], mixed=False).name for _ in range(2)}
    assert names <= {"stack.gram1", "stack.gram2"}
