"""Groups and layers as people write them."""

import pytest

from weightscope.errors import SelectionError
from weightscope.families.select import parse_groups, parse_layers
from weightscope.families.spec import Group


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Q", ["Q"]), ("M2, Q", ["Q", "M2"]), ("Q,Q", ["Q"]), ("all", list(Group)), (["V", "K"], ["K", "V"])],
)
def test_groups(text, expected):
    assert list(parse_groups(text)) == expected


@pytest.mark.parametrize("text", ["", "q", "Q,,K", "Q;K", "all,Q"])
def test_unknown_groups(text):
    with pytest.raises(SelectionError, match="The groups are"):
        parse_groups(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), ("7, 2 - 3", [2, 3, 7]), ([3, 1, 3], [1, 3]), ("5-5", [5])],
)
def test_layers(text, expected):
    assert list(parse_layers(text)) == expected


def test_no_layers_are_all():
    assert parse_layers(None) is None


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "0..3", "1,", "99999999999"])
def test_no_list_of_layers(text):
    with pytest.raises(SelectionError, match="Write them like"):
        parse_layers(text)
