"""A fused weight that holds something else under the same name and shape must not pass for what it is."""

import pytest

import weightscope
from tests.parity.cases import CASES
from tests.parity.models import build
from tests.parity.test_families import assert_same_weights
from weightscope.errors import FamilyMismatch
from weightscope.families.layouts import LAYOUTS, PARTS, QKV_LAYOUTS, HeadCounts, LayoutError
from weightscope.families.registry import FAMILIES


def exchanged(first, second):
    """The right layout with two parts taken for each other."""

    def wrong(right):
        def layout(rows, counts):
            parts = dict(right(rows, counts))
            parts[first], parts[second] = parts[second], parts[first]
            return parts

        return layout

    return wrong


def alternating(right):
    """Rows of G and M1 in turn."""
    return lambda rows, counts: {"G": (range(0, rows, 2),), "M1": (range(1, rows, 2),)}


WRONG = {
    **{name: lambda right, layout=layout: layout for name, layout in QKV_LAYOUTS.items()},
    **{f"{one}{other} exchanged": exchanged(one, other) for one, other in ("QK", "KV", "QV")},
}
WRONG_GATES = {"G and M1 exchanged": exchanged("G", "M1"), "alternating": alternating}


def fused_layouts(case):
    patterns = FAMILIES[case.family].patterns
    return [pattern.layout for pattern in patterns if pattern.layout is not None and not pattern.optional]


def parameters():
    for case in CASES:
        for right in fused_layouts(case) if case.name.endswith("bare") else ():
            for name, wrong in (WRONG_GATES if right in PARTS else WRONG).items():
                if name != right:
                    yield pytest.param(case, right, wrong, id=f"{case.name}-{name}")


def same_split(layout, right, case, rows, counts):
    """Two layouts may be one where there are as many key and value heads as query heads, or only one."""
    try:
        return layout(rows, counts) == LAYOUTS[right](rows, counts)
    except LayoutError:
        return False


@pytest.mark.parametrize(("case", "right", "wrong"), list(parameters()))
def test_another_layout_does_not_pass(monkeypatch, tmp_path, case, right, wrong):
    model = build(case)
    model.save_pretrained(tmp_path)
    layout = wrong(LAYOUTS[right])
    head_dim = len(case.weights(model, 0)["Q"]) // case.heads
    counts = HeadCounts(heads=case.heads, kv_heads=case.kv_heads, query_rows=case.heads * head_dim)
    rows = 2 * len(case.weights(model, 0)["M1"])
    if right in QKV_LAYOUTS:
        rows = (case.heads + 2 * case.kv_heads) * head_dim
    if same_split(layout, right, case, rows, counts):
        pytest.skip("with these heads it is the same layout")
    monkeypatch.setitem(LAYOUTS, right, layout)
    with (
        weightscope.open_checkpoint(tmp_path) as checkpoint,
        pytest.raises((AssertionError, FamilyMismatch)),
    ):
        assert_same_weights(checkpoint, model, case)
