"""Fused layouts as functions of sizes."""

import pytest

from weightscope.families.layouts import LAYOUTS, HeadCounts, LayoutError, contiguous_qkv


def rows_of(ranges):
    return [row for part in ranges for row in part]


@pytest.mark.parametrize(
    ("name", "rows", "counts"),
    [
        ("contiguous_thirds", 72, HeadCounts()),
        ("contiguous_thirds", 72, HeadCounts(heads=5, kv_heads=1)),
        ("contiguous_qkv", 72, HeadCounts(heads=3)),
        ("contiguous_qkv", 72, HeadCounts(heads=3, kv_heads=3)),
        ("contiguous_qkv", 40, HeadCounts(heads=3, kv_heads=1)),
        ("contiguous_qkv", 64, HeadCounts(heads=4, kv_heads=2)),
    ],
)
def test_parts_cover_every_row_once(name, rows, counts):
    parts = LAYOUTS[name](rows, counts)
    assert sorted(row for part in parts.values() for row in rows_of(part)) == list(range(rows))


def test_grouped_queries():
    parts = contiguous_qkv(40, HeadCounts(heads=3, kv_heads=1))
    assert {name: (rows_of(part)[0], len(rows_of(part))) for name, part in parts.items()} == {
        "Q": (0, 24),
        "K": (24, 8),
        "V": (32, 8),
    }


@pytest.mark.parametrize(
    ("name", "rows", "counts", "found"),
    [
        ("contiguous_qkv", 70, HeadCounts(heads=3), "70 rows do not divide into 3 query and 2 x 3"),
        ("contiguous_qkv", 96, HeadCounts(), "How many heads there are is not known"),
        ("contiguous_thirds", 70, HeadCounts(heads=3), "70 rows do not divide into three"),
    ],
)
def test_sizes_that_do_not_fit_are_no_guess(name, rows, counts, found):
    with pytest.raises(LayoutError, match=found):
        LAYOUTS[name](rows, counts)
