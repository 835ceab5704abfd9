"""Minibatch SGD of many nets against torch.optim.SGD and autograd, one net at a time, on the same batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from weightscope.errors import OptionError
from weightscope.training.descent import Descent
from weightscope.training.networks import Weights, initial_weights, outputs, side_by_side
from weightscope.training.seeds import generator_for
from weightscope.training.stochastic import StochasticDescent, epoch_order

WIDTHS = (12, 20, 8, 1)
DRAWS, MEMBERS, SAMPLES = 2, 3, 25
SEEDS = (3, 4)
NETS = DRAWS * MEMBERS
# Of each net: none, one that fits, one that collapses …
RATES = torch.tensor([1.0, 0.5, 0.1, 0.5, 1.0, 0.2], dtype=torch.float64)
DECAYS = torch.tensor([1e-2, 0.0, 0.9, 1e-3, 0.0, 1e-4], dtype=torch.float64)


def ensemble(
    widths: tuple[int, ...] = WIDTHS, dtype: torch.dtype = torch.float64
) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    weights = side_by_side([initial_weights(generator, widths, dtype=dtype) for _ in range(NETS)])
    inputs = torch.randn(DRAWS, SAMPLES, widths[0], generator=generator, dtype=torch.float64)
    inputs /= inputs.norm(dim=-1, keepdim=True)
    labels = 2.0 * torch.randint(2, (DRAWS, MEMBERS, SAMPLES), generator=generator) - 1
    return weights, inputs.to(dtype), labels.to(dtype)


def started(**changed: Any) -> StochasticDescent:
    weights, inputs, labels = ensemble(changed.pop("widths", WIDTHS), changed.pop("dtype", torch.float64))
    given: dict[str, Any] = {"weights": weights, "inputs": inputs, "labels": labels, "seeds": SEEDS}
    given |= {"step_size": RATES, "weight_decay": DECAYS, "batch_size": 10}
    return StochasticDescent(**(given | changed))


def by_torch(
    net: int,
    *,
    widths: tuple[int, ...] = WIDTHS,
    decays: torch.Tensor = DECAYS,
    batch: int,
    epochs: int,
) -> Weights:
    """One net, by modules, autograd and an optimiser that we did not write."""
    weights, inputs, labels = ensemble(widths)
    layers: list[torch.nn.Module] = []
    for weight in weights:
        linear = torch.nn.Linear(weight.shape[2], weight.shape[1], bias=False, dtype=torch.float64)
        linear.weight.data.copy_(weight[net])
        layers += [linear, torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.SGD(module.parameters(), lr=float(RATES[net]), weight_decay=float(decays[net]))
    draw, member = divmod(net, MEMBERS)
    for epoch in range(epochs):
        for rows in epoch_order(SEEDS, epoch, SAMPLES)[draw].split(batch):
            optimiser.zero_grad()
            scores = module(inputs[draw, rows]).squeeze(-1)
            torch.nn.functional.softplus(-labels[draw, member, rows] * scores).mean().backward()
            optimiser.step()
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.parametrize("widths", [WIDTHS, (12, 1), (12, 6, 6, 6, 1)], ids=str)
@pytest.mark.parametrize(("batch", "epochs"), [(10, 340), (1, 40)])
def test_the_weights_are_those_of_torch(widths: tuple[int, ...], batch: int, epochs: int) -> None:
    """After 1000 steps; batches of 10 leave 5 over."""
    run = started(widths=widths, batch_size=batch)
    run.epoch(epochs)
    assert run.epochs == epochs
    for net in range(NETS):
        expected = by_torch(net, widths=widths, batch=batch, epochs=epochs)
        for found, wanted in zip(run.weights(), expected, strict=True):
            torch.testing.assert_close(found[net], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", [1, 4, 10])
@pytest.mark.parametrize("decay", [0.2, 0.7, 0.9999])
def test_strong_decay_within_one_epoch(batch: int, decay: float) -> None:
    """c falls below its floor in the middle of an epoch, at last at every step."""
    decays = decay / RATES
    run = started(weight_decay=decays, batch_size=batch)
    run.epoch()
    for net in range(NETS):
        expected = by_torch(net, decays=decays, batch=batch, epochs=1)
        for found, wanted in zip(run.weights(), expected, strict=True):
            torch.testing.assert_close(found[net], wanted, rtol=1e-9, atol=1e-12)


def test_one_batch_of_all_samples_is_gradient_descent() -> None:
    weights, inputs, labels = ensemble()
    run = started(batch_size=SAMPLES)
    descent = Descent(
        weights,
        inputs.repeat_interleave(MEMBERS, dim=0),
        labels.flatten(0, 1),
        step_size=RATES,
        weight_decay=DECAYS,
    )
    run.epoch(300)
    descent.step(300)
    for found, wanted in zip(run.weights(), descent.weights(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(run.scores(), descent.scores(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_that_goes_on_is_the_run_without_a_break(dtype: torch.dtype) -> None:
    whole, first, second = (started(dtype=dtype) for _ in range(3))
    whole.epoch(30)
    first.epoch(13)
    state = first.state()
    first.epoch(1)  # The state is of its own memory.
    second.epoch(2)  # What was there before is gone.
    second.load(state)
    second.epoch(17)
    assert second.epochs == whole.epochs == 30
    for one, other in zip(whole.weights(), second.weights(), strict=True):
        assert torch.equal(one, other)


def test_members_of_a_draw_do_not_touch_one_another() -> None:
    """Other labels and decays of the others leave a net's course as it is."""
    _, _, labels = ensemble()
    other_labels, other_decays = -labels, torch.full((NETS,), 1e-2, dtype=torch.float64)
    other_labels[1, 1], other_decays[4] = labels[1, 1], DECAYS[4]
    one, other = started(), started(labels=other_labels, weight_decay=other_decays)
    one.epoch(20)
    other.epoch(20)
    for mine, theirs in zip(one.weights(), other.weights(), strict=True):
        torch.testing.assert_close(mine[4], theirs[4], rtol=1e-9, atol=1e-12)
        assert not torch.allclose(mine[3], theirs[3])


def test_orders_are_of_the_seed_and_the_epoch() -> None:
    first = epoch_order([0, 1], 0, 1000)
    assert torch.equal(first.sort().values, torch.arange(1000).expand(2, -1))
    assert torch.equal(first, epoch_order([0, 1], 0, 1000))
    orders = [tuple(row.tolist()) for epoch in range(50) for row in epoch_order(range(10), epoch, 1000)]
    assert len(set(orders)) == 500


def test_no_two_orders_of_the_paper_begin_alike() -> None:
    """Of 10 draws and 5000 epochs: purposes are hashed to 32 bits, where two might meet."""
    begun = {
        generator_for(seed, f"order of epoch {e}").initial_seed() for seed in range(10) for e in range(5000)
    }
    assert len(begun) == 50_000


def test_seeds_change_the_course() -> None:
    one, other = started(), started(seeds=(3, 5))
    one.epoch()
    other.epoch()
    mine, theirs = one.weights()[0], other.weights()[0]
    assert torch.equal(mine[:MEMBERS], theirs[:MEMBERS])
    assert not torch.allclose(mine[MEMBERS:], theirs[MEMBERS:])


def test_a_dead_net_ends_at_zero() -> None:
    """Not among the numbers near the end of float32, which a CPU multiplies a hundred times more slowly."""
    run = started(dtype=torch.float32, step_size=1.0, weight_decay=0.5)
    run.epoch(60)
    assert all(not weight.any() for weight in run.weights())
    assert not run.scores().any()


def test_the_arguments_are_not_touched() -> None:
    weights, inputs, labels = ensemble()
    before = [one.clone() for one in (*weights, inputs, labels)]
    run = StochasticDescent(
        weights, inputs, labels, step_size=0.5, weight_decay=1e-2, batch_size=4, seeds=SEEDS
    )
    run.epoch()
    run.weights()[0].zero_()
    run.scores()
    assert all(torch.equal(*pair) for pair in zip((*weights, inputs, labels), before, strict=True))
    torch.testing.assert_close(
        run.scores(), outputs(run.weights(), inputs.repeat_interleave(MEMBERS, dim=0)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda: {"batch_size": 0}, "Choose a size from 1 to 25"),
        (lambda: {"batch_size": 26}, "There are 25 samples"),
        (lambda: {"seeds": (1,)}, "every draw has a seed"),
        (lambda: {"labels": ensemble()[2][:, :2]}, r"labels \(2, 2, 25\)"),
        (lambda: {"labels": ensemble()[2][:, :, :24]}, r"labels \(2, 3, 24\)"),
        (lambda: {"inputs": ensemble()[1][:, :, :11]}, r"Inputs are \(2, 25, 11\)"),
        (lambda: {"weights": ensemble()[0][:2]}, "end in one output"),
        (lambda: {"weights": [weight[:5] for weight in ensemble()[0]]}, "5, 20, 12"),
        (lambda: {"step_size": torch.ones(5)}, "There are 6 nets"),
        (lambda: {"weight_decay": torch.ones(6, 1)}, r"Weight decays of shape \(6, 1\)"),
        (lambda: {"weight_decay": 1.0}, "1 − ηλ"),
        (lambda: {"weight_decay": -0.1}, "1 − ηλ"),
    ],
)
def test_what_does_not_fit_is_refused(changed: Callable[[], dict[str, Any]], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        started(**changed())


def test_a_state_of_other_nets_is_refused() -> None:
    with pytest.raises(OptionError, match="It must hold epochs"):
        started().load(started(widths=(12, 6, 1)).state())
    with pytest.raises(OptionError, match="It holds nothing"):
        started().load({})
