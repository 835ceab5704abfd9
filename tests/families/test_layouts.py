"""Fused layouts as functions of sizes."""

import pytest

from weightscope.families.heads import HeadCounts, LayoutError
from weightscope.families.layouts import LAYOUTS
from weightscope.families.qkv_layouts import contiguous_qkv


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
        ("contiguous_qkv", 64, HeadCounts(heads=4, query_rows=32)),
        ("contiguous_qkv", 64, HeadCounts(query_rows=32)),
        ("interleaved_by_head", 72, HeadCounts(heads=3)),
        ("interleaved_by_head", 72, HeadCounts(heads=3, kv_heads=3, query_rows=24)),
        ("interleaved_by_kv_group", 40, HeadCounts(heads=3, kv_heads=1)),
        ("interleaved_by_kv_group", 64, HeadCounts(heads=4, query_rows=32)),
        ("four_blocks_qvk", 72, HeadCounts()),
        ("four_blocks_qvk", 72, HeadCounts(heads=8, query_rows=24)),
        ("gate_then_up", 74, HeadCounts()),
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
        ("contiguous_thirds", 72, HeadCounts(query_rows=20), "is 24, and the attention output reads 20"),
        ("contiguous_qkv", 70, HeadCounts(query_rows=71), "70 rows less 71 of queries"),
        ("contiguous_qkv", 64, HeadCounts(heads=5, query_rows=32), "32 features, which do not divide into"),
        ("contiguous_qkv", 64, HeadCounts(heads=4, query_rows=40), "4 query heads of 10"),
        ("contiguous_qkv", 80, HeadCounts(heads=4, query_rows=32), "4 query heads of 8"),  # 3 of 4 heads
        ("contiguous_qkv", 64, HeadCounts(heads=4, kv_heads=4, query_rows=32), "make 2 key and value heads"),
        ("contiguous_qkv", 64, HeadCounts(heads=4, head_dim=4, query_rows=32), "8 rows a head, .* says 4"),
        ("interleaved_by_head", 72, HeadCounts(query_rows=24), "How many heads there are is not known"),
        ("interleaved_by_head", 72, HeadCounts(heads=5), "72 rows do not divide into 5 times"),
        ("interleaved_by_head", 72, HeadCounts(heads=3, kv_heads=1), "says 3 query heads and 1 key"),
        ("interleaved_by_kv_group", 64, HeadCounts(query_rows=32), "How many heads there are is not known"),
        ("interleaved_by_kv_group", 64, HeadCounts(heads=4), "told neither by the config nor by O"),
        (
            "interleaved_by_kv_group",
            100,
            HeadCounts(heads=4, kv_heads=3),
            "4 query heads do not divide into 3",
        ),
        ("four_blocks_qvk", 72, HeadCounts(heads=6), "72 rows of 6 heads do not divide into four"),
        ("four_blocks_qvk", 66, HeadCounts(heads=4), "66 rows of 4 heads"),
        ("gate_then_up", 73, HeadCounts(), "73 rows do not divide into two halves"),
    ],
)
def test_sizes_that_do_not_fit_are_no_guess(name, rows, counts, found):
    with pytest.raises(LayoutError, match=found):
        LAYOUTS[name](rows, counts)


def test_one_and_many_key_and_value_heads_are_the_two_ends_of_groups():
    """Falcon's and GPT-BigCode's three layouts are one: checked against what each is known to be."""
    one = HeadCounts(heads=3, kv_heads=1)
    assert rows_of(LAYOUTS["interleaved_by_kv_group"](40, one)["Q"]) == rows_of(contiguous_qkv(40, one)["Q"])
    many = HeadCounts(heads=3, kv_heads=3)
    assert LAYOUTS["interleaved_by_kv_group"](72, many) == LAYOUTS["interleaved_by_head"](72, many)


def test_four_blocks_put_value_before_key():
    parts = LAYOUTS["four_blocks_qvk"](24, HeadCounts(heads=4))
    assert [rows_of(parts[part])[:2] for part in "QVK"] == [[0, 1], [2, 3], [4, 5]]
    assert rows_of(parts["Q"]) == [0, 1, 6, 7, 12, 13, 18, 19]
