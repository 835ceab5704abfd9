"""The table: schema, exact round trips, refusals."""

import math

import pandas as pd
import pytest

from weightscope.errors import TableError
from weightscope.table import KEY_COLUMNS, NORM_COLUMNS, build_table, columns, read_table, write_csv

SCHEMA = columns(with_spectrum=True, epsilon=(1e-3, 0.5))
ROW = {
    "checkpoint": 'a "quoted", name', "stack": "decoder", "layer": 3, "attention_kind": "", "group": "M1",
    "parameter": "h.3.ü", "out_features": 4, "in_features": 5, "dtype": "BF16", "status": "ok", "method": "x",
    "frobenius_norm": 0.1 + 0.2, "spectral_norm": 1e-30, "mean": -0.0, "std": 5e-324,
    "max_abs": 1.7976931348623157e308,
    "stable_rank": 1 / 3, "row_norm_ratio": math.nan, "energy_rank_0.9": 2, "epsilon_rank_0.5": 1,
}  # fmt: skip


def test_columns_are_in_order_and_unique():
    names = [column.name for column in SCHEMA]
    assert names[: len(KEY_COLUMNS)] == [
        "checkpoint", "revision", "stack", "layer", "attention_kind", "group", "expert", "head", "parameter",
        "out_features", "in_features", "dtype", "status", "method",
    ]  # fmt: skip
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("epsilon_rank")] == [
        "epsilon_rank_0.001",
        "epsilon_rank_0.5",
    ]
    assert columns(with_spectrum=False, epsilon=(1e-3,)) == KEY_COLUMNS + NORM_COLUMNS


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_round_trip_is_exact(tmp_path, ending):
    table = build_table([ROW, {"checkpoint": "b", "group": "embedding", "status": "non_finite"}], SCHEMA)
    path = tmp_path / f"matrices.{ending}"
    if ending == "csv":
        write_csv(table, path)
    else:
        table.to_parquet(path, index=False)
    back = read_table(path)
    pd.testing.assert_frame_equal(back, table, check_exact=True)
    assert math.copysign(1, back["mean"][0]) == -1
    if ending == "csv":
        assert pd.testing.assert_frame_equal(read_table(tmp_path), table) is None


def test_undefined_is_empty_and_never_a_number(tmp_path):
    write_csv(build_table([{"checkpoint": "b", "status": "zero"}], SCHEMA), tmp_path / "matrices.csv")
    header, line = (tmp_path / "matrices.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    assert {name for name, cell in cells.items() if cell} == {"checkpoint", "status"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a,b\n1,2\n", "lacks the columns checkpoint"),
        ("", "not a table"),
        (None, "no such file"),
        (
            ",".join(c.name for c in KEY_COLUMNS + NORM_COLUMNS) + "\n" + ",".join(["x"] * 25) + "\n",
            "A cell is not",
        ),
    ],
    ids=["other columns", "empty", "missing", "text for numbers"],
)
def test_what_is_no_table_is_refused(tmp_path, content, found):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TableError, match=found):
        read_table(path)


def test_a_broken_parquet_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TableError):
        read_table(tmp_path / "t.parquet")
