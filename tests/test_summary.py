"""The summary, against sums done by hand."""

import pytest

from weightscope.summary import summarise
from weightscope.table import build_table, columns

SCHEMA = columns(with_spectrum=False, epsilon=())


def row(layer, group, frobenius, spectral, **more):
    return {
        "stack": "decoder", "layer": layer, "attention_kind": "" if group.startswith("M") else "self",
        "group": group, "out_features": 4, "in_features": 4, "status": "ok", "frobenius_norm": frobenius,
        "spectral_norm": spectral, "stable_rank": frobenius / spectral, "stable_rank_gaussian": 1.0, **more,
    }  # fmt: skip


LAYERS = [
    row(0, "Q", 2, 1), row(0, "K", 2, 1), row(0, "V", 2, 1), row(0, "O", 3, 1), row(0, "QKV", 4, 1),
    row(0, "M1", 8, 2), row(0, "M2", 2, 1),
    row(1, "QKV", 6, 1), row(1, "M1", 6, 1), row(1, "M2", 6, 1),
]  # fmt: skip


def test_over_all_counts_nothing_twice():
    """Q, K and V of layer 0 are in its QKV: 1/4 + 1/3 + 1/4 + 1/2 + 3/6 over seven matrices."""
    found = summarise(build_table(LAYERS, SCHEMA))["all"]
    mean = (1 / 4 + 1 / 3 + 2 / 8 + 1 / 2 + 3 / 6) / 7
    assert found["mean_inverse_stable_rank"] == pytest.approx(mean)
    assert found["harmonic_mean_stable_rank"] == pytest.approx(1 / mean)


def test_attentions_without_qkv_count_their_parts():
    rows = [row(0, "Q", 2, 1), row(0, "K", 4, 1), row(0, "V", 4, 1)]
    assert summarise(build_table(rows, SCHEMA))["all"]["mean_inverse_stable_rank"] == pytest.approx(1 / 3)


def test_norm_preservation():
    found = summarise(build_table(LAYERS, SCHEMA))["norm_preservation"]
    first, second = found["within_layers"]
    # 4, 8, 2: mean 14/3, variance (16 + 64 + 4)/3 - (14/3)^2 = 56/9
    assert first["max_over_min"] == 4
    assert first["coefficient_of_variation"] == pytest.approx((56 / 9) ** 0.5 / (14 / 3))
    assert (second["layer"], second["max_over_min"], second["coefficient_of_variation"]) == (1, 1, 0)
    over = {entry["group"]: entry["max_over_min"] for entry in found["over_layers"]}
    assert over == {"Q": 1, "K": 1, "V": 1, "O": 1, "QKV": 1.5, "M1": pytest.approx(8 / 6), "M2": 3}


def test_groups():
    entry = next(e for e in summarise(build_table(LAYERS, SCHEMA))["groups"] if e["group"] == "M1")
    assert (entry["matrices"], entry["layers"], entry["shapes"]) == (2, 2, [[4, 4]])
    assert entry["stable_rank"] == {"mean": 5, "min": 4, "max": 6}
    assert entry["harmonic_mean_stable_rank"] == pytest.approx(2 / (1 / 4 + 1 / 6))


def test_rows_without_numbers_are_counted_and_left_out():
    rows = [*LAYERS, row(2, "M1", 1, 1, status="non_finite"), row(3, "M1", 1, 1, status="zero")]
    found = summarise(build_table(rows, SCHEMA))
    entry = next(e for e in found["groups"] if e["group"] == "M1")
    assert entry["status"] == {"ok": 2, "non_finite": 1, "zero": 1}
    assert entry["stable_rank"]["mean"] == 5
    assert [e["layer"] for e in found["norm_preservation"]["within_layers"]] == [0, 1]


def test_an_empty_table_has_an_empty_summary():
    found = summarise(build_table([], SCHEMA))
    assert found["groups"] == []
    assert found["all"] == {
        "groups": [], "mean_inverse_stable_rank": None, "harmonic_mean_stable_rank": None,
    }  # fmt: skip
