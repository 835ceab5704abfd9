"""No interval around a spectral norm is broken, whatever the shape, scale, type and spectrum.

A seeded share of `python -m tests.benchmarks.measure_intervals`, which runs ten thousand cases.
"""

from hypothesis import given, settings

from tests.properties.intervals import Case, Interval, Truth, cases, intervals
from weightscope.spectra.extremal import Bound


@settings(max_examples=150)
@given(cases())
def test_intervals_hold(case):
    for found in intervals(case):
        assert not found.wrong, found


def test_the_check_can_fail():
    """Each thing that an interval must hold, broken by as little as it is checked to."""
    case = Case(
        spectrum="one spike", rows=200, columns=150, dtype="float32", exponent=0, stagger=(0, 0, 0),
        rtol=1e-6, seed=0, route="sweep", rotated=True, turned=False,
    )  # fmt: skip
    sigma = float(Truth.of(case.matrix()).low)

    def wrong(value, upper, asked=Bound.AUDITED, bound="audited", method="lanczos"):
        return Interval(case, asked, bound, method, value, upper, Truth.of(case.matrix())).wrong

    assert wrong(sigma, sigma * (1 + 1e-7)) == ""
    assert wrong(sigma * (1 - 1e-7), sigma * (1 - 4e-16)) == "upper bound below σ₁"
    assert wrong(sigma * (1 + 1e-13), sigma * (1 + 1e-7)) == "value above σ₁"
    assert wrong(sigma, sigma * (1 + 1.001e-6)) == "wider than rtol"
    assert wrong(sigma, sigma * (1 + 1.001e-6), Bound.PROVED, "proved", "gram_eigh") == "wider than rtol"
    assert wrong(sigma, sigma * (1 + 1e-7), bound="probable") == "a weaker bound than asked"
    assert wrong(sigma, float("nan")) == "not finite"
