"""Gradient descent of many nets against torch.optim.SGD and autograd, one net at a time."""

from __future__ import annotations

import pytest
import torch

from weightscope.errors import OptionError
from weightscope.training.descent import Descent
from weightscope.training.networks import Weights, fit, initial_weights, merged, outputs, side_by_side

WIDTHS = (12, 20, 8, 1)


def ensemble(
    nets: int, samples: int, widths: tuple[int, ...] = WIDTHS
) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    weights = side_by_side([initial_weights(generator, widths, dtype=torch.float64) for _ in range(nets)])
    inputs = torch.randn(nets, samples, widths[0], generator=generator, dtype=torch.float64)
    inputs /= inputs.norm(dim=-1, keepdim=True)
    labels = 2.0 * torch.randint(2, (nets, samples), generator=generator) - 1
    return weights, inputs, labels.to(torch.float64)


def by_torch(
    weights: Weights, inputs: torch.Tensor, labels: torch.Tensor, *, rate: float, decay: float, steps: int
) -> Weights:
    """One net, by modules, autograd and an optimiser that we did not write."""
    layers: list[torch.nn.Module] = []
    for number, weight in enumerate(weights):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
        linear.weight.data.copy_(weight)
        layers += [linear] if number == len(weights) - 1 else [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, weight_decay=decay)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.softplus(-labels * net(inputs).squeeze(-1)).mean().backward()
        optimiser.step()
    return [parameter.detach() for parameter in net.parameters()]


@pytest.mark.parametrize("samples", [3, 40])
@pytest.mark.parametrize("span", [False, True, None])
@pytest.mark.parametrize("widths", [WIDTHS, (12, 30, 1), (12, 1), (12, 6, 6, 6, 1)], ids=str)
def test_the_weights_are_those_of_torch(samples: int, span: bool | None, widths: tuple[int, ...]) -> None:
    """After many steps, each net with a step size and a decay of its own."""
    rates, decays = [1.0, 0.5, 0.1], [1e-2, 0.0, 0.3]
    weights, inputs, labels = ensemble(3, samples, widths)
    descent = Descent(
        weights,
        inputs,
        labels,
        step_size=torch.tensor(rates, dtype=torch.float64),
        weight_decay=torch.tensor(decays, dtype=torch.float64),
        span=span,
    )
    descent.step(300)
    assert descent.steps == 300
    for net, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
        expected = by_torch(
            [w[net] for w in weights], inputs[net], labels[net], rate=rate, decay=decay, steps=300
        )
        for found, wanted in zip(descent.weights(), expected, strict=True):
            torch.testing.assert_close(found[net], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("samples", [3, 40])
@pytest.mark.parametrize("span", [False, True])
def test_padding_is_left_out_and_decays(samples: int, span: bool) -> None:
    """Inputs of which each net uses other columns, and one more or fewer of them."""
    weights, inputs, labels = ensemble(3, samples)
    for net, used in enumerate(([0, 1, 2, 3], [5, 7, 9, 11], [2, 8])):
        zeros = [column for column in range(WIDTHS[0]) if column not in used]
        inputs[net, :, zeros] = 0.0
    descent = Descent(weights, inputs, labels, step_size=0.5, weight_decay=1e-2, span=span)
    torch.testing.assert_close(descent.scores(), outputs(weights, inputs), rtol=1e-12, atol=1e-12)
    descent.step(300)
    for net in range(3):
        expected = by_torch(
            [w[net] for w in weights], inputs[net], labels[net], rate=0.5, decay=1e-2, steps=300
        )
        for found, wanted in zip(descent.weights(), expected, strict=True):
            torch.testing.assert_close(found[net], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("samples", [3, 40])
def test_a_state_is_gone_on_with_bit_for_bit(samples: int) -> None:
    weights, inputs, labels = ensemble(2, samples)
    whole, before, after = (
        Descent(weights, inputs, labels, step_size=1.0, weight_decay=3e-2) for _ in range(3)
    )
    whole.step(700)
    before.step(333)
    after.load(before.state(), 333)
    after.step(367)
    for one, other in zip(whole.weights(), after.weights(), strict=True):
        assert torch.equal(one, other)


def test_no_samples_at_all_in_a_column_of_zeros() -> None:
    """Every input is zero: nothing is learnt, all decays."""
    weights, inputs, labels = ensemble(1, 5)
    descent = Descent(weights, 0 * inputs, labels, step_size=1.0, weight_decay=1e-2)
    descent.step(100)
    for one, other in zip(descent.weights(), weights, strict=True):
        torch.testing.assert_close(one, other * 0.99**100, rtol=1e-12, atol=0)


def test_steps_in_pieces_and_refreshed_are_the_same() -> None:
    weights, inputs, labels = ensemble(2, 5)
    whole = Descent(weights, inputs, labels, step_size=1.0, weight_decay=1e-2)
    pieces = Descent(weights, inputs, labels, step_size=1.0, weight_decay=1e-2)
    whole.step(600)
    for _ in range(6):
        pieces.step(100)
        pieces.refresh()
    for one, other in zip(whole.weights(), pieces.weights(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_start_is_not_touched() -> None:
    weights, inputs, labels = ensemble(2, 5)
    before = [weight.clone() for weight in weights]
    Descent(weights, inputs, labels, step_size=1.0, weight_decay=1e-2).step(3)
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))


def test_decay_alone_shrinks_to_nothing_and_stays_finite() -> None:
    """c falls below what float32 holds long before the end."""
    weights, inputs, labels = ensemble(1, 5)
    narrow = [weight.to(torch.float32) for weight in weights]
    descent = Descent(narrow, inputs.float(), labels.float(), step_size=1.0, weight_decay=0.5)
    descent.step(2000)
    assert all(bool(weight.isfinite().all()) for weight in descent.weights())
    assert max(float(weight.abs().max()) for weight in descent.weights()) < 1e-3


@pytest.mark.parametrize("span", [False, True])
@pytest.mark.parametrize(("widths", "rate", "decay", "factor"), [
    (WIDTHS, 40.0, 0.0125, 4.0),
    ((12, 30, 1), 9.0, 0.1, 4.0),
    (WIDTHS, 1.0, 0.999999, 4.0),
    ((12, *(10,) * 30, 1), 9.0, 0.1, 2.4),
], ids=["halves", "tenths", "nothing", "deep"])  # fmt: skip
def test_strong_decay_is_followed_in_float32(
    widths: tuple[int, ...], rate: float, decay: float, factor: float, span: bool
) -> None:
    """In the steps between two looks c may not leave float32, whose nets live or die as those of torch."""
    weights, inputs, labels = ensemble(1, 3, widths)
    weights = [factor * weight for weight in weights]
    narrow = [weight.float() for weight in weights]
    descent = Descent(narrow, inputs.float(), labels.float(), step_size=rate, weight_decay=decay, span=span)
    descent.step(90)
    expected = by_torch([w[0] for w in weights], inputs[0], labels[0], rate=rate, decay=decay, steps=90)
    for found, wanted in zip(descent.weights(), expected, strict=True):
        torch.testing.assert_close(found[0].double(), wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_a_module_leave_no_graph_behind() -> None:
    """Steps are written out: what autograd would keep of each would be memory without end."""
    weights, inputs, labels = ensemble(1, 5)
    given = [torch.nn.Parameter(weight) for weight in weights]
    descent = Descent(given, inputs.requires_grad_(), labels, step_size=1.0, weight_decay=1e-2)
    descent.step(3)
    assert not any(weight.requires_grad for weight in [*descent.weights(), *descent.state().values()])


@pytest.mark.parametrize(("rate", "decay"), [(1.0, 1.0), (2.0, 0.6), (1.0, -0.1)])
def test_a_decay_that_does_not_decay_is_refused(rate: float, decay: float) -> None:
    weights, inputs, labels = ensemble(1, 5)
    with pytest.raises(OptionError, match="1 − ηλ"):
        Descent(weights, inputs, labels, step_size=rate, weight_decay=decay)


def test_merging_adds() -> None:
    weights, inputs, _ = ensemble(2, 5)
    first, second = [w[:1] for w in weights], [w[1:] for w in weights]
    summed = merged(first, second)
    averaged = merged(first, second, how="average")
    for one, other, total, mean in zip(first, second, summed, averaged, strict=True):
        assert torch.equal(total, one + other)
        assert torch.equal(mean, (one + other) / 2)
    # Three layers, each half as large: an eighth of the output.
    torch.testing.assert_close(outputs(averaged, inputs[:1]), outputs(summed, inputs[:1]) / 8)


def test_fit_counts() -> None:
    scores = torch.tensor([[2.0, 0.5, -1.0, 0.0]])
    found = fit(scores, torch.ones(1, 4))
    assert found.error.item() == 0.5
    assert found.margin_error.item() == 0.75
    expected = torch.nn.functional.soft_margin_loss(scores.double(), torch.ones(1, 4).double())
    torch.testing.assert_close(found.loss.squeeze(), expected)


@pytest.mark.usefixtures("gpu_in_any_order")
@pytest.mark.parametrize("samples", [3, 40])
def test_a_gpu_takes_the_same_steps(samples: int) -> None:
    """There the steps are replayed from a graph, and decay far enough that c is multiplied into V."""
    same_steps(samples, torch.device("cuda"))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("current", [0, 1])
def test_so_does_a_gpu_that_is_not_the_current_one(current: int) -> None:
    with torch.cuda.device(current):
        same_steps(3, torch.device("cuda:1"))


def same_steps(samples: int, device: torch.device) -> None:
    weights, inputs, labels = ensemble(3, samples)
    there = Descent(
        [layer.to(device) for layer in weights],
        inputs.to(device),
        labels.to(device),
        step_size=0.5,
        weight_decay=5e-2,
    )
    here = Descent(weights, inputs, labels, step_size=0.5, weight_decay=5e-2)
    for count in (1, 200, 300):
        there.step(count)
        here.step(count)
    for one, other in zip(there.weights(), here.weights(), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-9, atol=1e-9)
