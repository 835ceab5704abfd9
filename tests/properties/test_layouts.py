"""Every layout gives each row to one part, or says which sizes do not fit, whatever the sizes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightscope.families.heads import HeadCounts, LayoutError
from weightscope.families.layouts import LAYOUTS

SIZE = st.none() | st.integers(1, 12)
COUNTS = st.builds(
    HeadCounts,
    heads=SIZE,
    kv_heads=SIZE,
    head_dim=SIZE,
    query_rows=st.none() | st.integers(1, 96),
)


@pytest.mark.parametrize("name", LAYOUTS)
@given(rows=st.integers(1, 240), counts=COUNTS)
def test_rows_are_given_once_or_refused(name, rows, counts):
    try:
        parts = LAYOUTS[name](rows, counts)
    except LayoutError as error:
        refused = str(error)
        assert refused.endswith(".")
        return
    given_away = sorted(row for part in parts.values() for some in part for row in some)
    assert given_away == list(range(rows))
