"""A share of what `python -m tests.benchmarks.fuzz_headers` tries, always the same."""

from collections import Counter

from tests.checkpoints.fuzzing import drawn, outcome

INPUTS = 12_000


def test_every_input_is_read_as_safetensors_does_or_refused() -> None:
    found: Counter[str] = Counter()
    for number in range(INPUTS):
        kind, content = drawn(0, number)
        what, wrong = outcome(content)
        assert not wrong, (number, kind, what, content)
        found[what.partition(",")[0]] += 1
    assert found["read"] > INPUTS / 10
    assert found["refused"] > INPUTS / 2
