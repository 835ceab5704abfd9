"""The table: one row a matrix, its columns defined once. Rows, DataFrame, CSV and Parquet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from weightscope.errors import TableError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Kind = Literal["text", "integer", "number"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    name: str
    """Its name, in the CSV too."""
    kind: Kind
    """What its cells hold; an undefined one is empty."""
    definition: str
    """What it means."""


KEY_COLUMNS = (
    Column("checkpoint", "text", "the reference as given"),
    Column("revision", "text", "commit it was pinned to; empty for local files"),
    Column("stack", "text", "encoder, decoder …; empty outside the layers"),
    Column("layer", "integer", "transformer block, 0-based; empty outside the layers"),
    Column("attention_kind", "text", "self, cross or empty"),
    Column("group", "text", "the role: Q K V O QKV M1 G M2, embedding …"),
    Column("expert", "text", "number of the expert, 'shared' or empty"),
    Column("head", "integer", "number of the head; empty for the whole matrix"),
    Column("parameter", "text", "full name in the checkpoint, joined by + where stacked"),
    Column("out_features", "integer", "rows m"),
    Column("in_features", "integer", "columns n"),
    Column("dtype", "text", "stored element type, as safetensors spells it"),
    Column("status", "text", "ok, zero or non_finite"),
    Column("method", "text", "how the numbers were found"),
)
NORM_COLUMNS = (
    Column("frobenius_norm", "number", "‖W‖_F, accumulated in float64, relative error ≤ 1e-12"),
    Column("spectral_norm", "number", "σ₁, evaluated as ‖Wv‖/‖v‖: a lower bound within rtol"),
    Column("spectral_norm_upper", "number", "an upper bound of σ₁"),
    Column("bound", "text", "what stands behind it: residual, probable, audited or proved"),
    Column("stable_rank", "number", "‖W‖_F/‖W‖_2 (not squared)"),
    Column("stable_rank_squared", "number", "its square"),
    Column("stable_rank_gaussian", "number", "√(mn)/(√m+√n): that of a Gaussian matrix of the shape"),
    Column("stable_rank_max", "number", "√min(m,n): the largest possible"),
    Column("max_abs", "number", "largest absolute element"),
    Column("mean", "number", "mean of the elements"),
    Column("std", "number", "standard deviation of the elements, over their number"),
    Column("row_norm_ratio", "number", "largest over median norm of the rows"),
    Column("column_norm_ratio", "number", "largest over median norm of the columns"),
)
SPECTRUM_COLUMNS = (
    Column("nuclear_norm", "number", "Σσ"),
    Column("effective_rank", "number", "exp(−Σ p ln p), p = σ/Σσ"),
    Column("participation_ratio", "number", "(Σσ²)²/Σσ⁴"),
    Column("energy_rank_0.9", "integer", "smallest rank that keeps 0.9 of ‖W‖_F²"),
    Column("energy_rank_0.99", "integer", "smallest rank that keeps 0.99 of ‖W‖_F²"),
)
SPECTRUM_ERROR_COLUMNS = (
    Column("smallest_singular_value", "number", "σ_min; empty where the error exceeds a tenth of it"),
    Column("condition_number", "number", "σ₁/σ_min; empty where σ_min is"),
    Column("spectrum_error", "number", "bound on the error of any σ, over σ₁"),
    Column("alpha", "number", "exponent of a power law fitted to the largest eigenvalues of WᵀW"),
    Column("alpha_xmin", "number", "smallest eigenvalue of that tail, by Kolmogorov–Smirnov"),
    Column("alpha_ks_distance", "number", "Kolmogorov–Smirnov distance of the fit"),
    Column("mp_edge", "number", "σ̂(√m+√n): where noise of the spectrum's median would end"),
    Column("mp_spikes", "integer", "number of σ above it"),
)
_EPSILON_PREFIX = "epsilon_rank_"

# The columns that say which matrix it is, within a checkpoint.
MATRIX_KEY = KEY_COLUMNS[2:9]


def columns(*, with_spectrum: bool, epsilon: Sequence[float]) -> tuple[Column, ...]:
    """The columns of a table, in order."""
    if not with_spectrum:
        return KEY_COLUMNS + NORM_COLUMNS
    ranks = tuple(Column(f"{_EPSILON_PREFIX}{e:g}", "integer", f"number of σ/σ₁ > {e:g}") for e in epsilon)
    return KEY_COLUMNS + NORM_COLUMNS + SPECTRUM_COLUMNS + ranks + SPECTRUM_ERROR_COLUMNS


def build_table(rows: Sequence[Mapping[str, Any]], schema: Sequence[Column]) -> pd.DataFrame:
    """A DataFrame of the schema from rows that may leave undefined cells out."""
    import pandas as pd

    series: dict[str, pd.Series[Any]] = {}
    for column in schema:
        cells = [row.get(column.name) for row in rows]
        if column.kind == "text":
            series[column.name] = pd.Series(
                ["" if cell is None else str(cell) for cell in cells], dtype=object
            )
        elif column.kind == "integer":
            series[column.name] = pd.Series([_integer(cell) for cell in cells], dtype="Int64")
        else:
            series[column.name] = pd.Series(
                [math.nan if cell is None else float(cell) for cell in cells], dtype="float64"
            )
    return pd.DataFrame(series)


def spectra_table(spectra: Sequence[tuple[Mapping[str, Any], np.ndarray]]) -> pd.DataFrame:
    """Every singular value, long: the matrix' key, `index` from 0 for the largest, `singular_value`."""
    import numpy as np
    import pandas as pd

    lengths = [len(values) for _, values in spectra]
    keys = build_table([key for key, _ in spectra], MATRIX_KEY)
    frame = keys.loc[keys.index.repeat(lengths)].reset_index(drop=True)
    frame["index"] = np.concatenate([np.arange(n) for n in lengths]) if lengths else np.arange(0)
    frame["singular_value"] = np.concatenate([v for _, v in spectra]) if lengths else np.zeros(0)
    return pd.DataFrame(frame)


def _integer(cell: Any) -> int | None:
    return None if cell is None or cell != cell else int(cell)  # NaN differs from itself


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV whose floats read back bit for bit (shortest round-trip form)."""
    table.to_csv(path, index=False, lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """A table that `analyze` wrote: `matrices.csv`, `matrices.parquet`, or their folder.

    Raises:
        TableError: The file is missing or has other columns.
    """
    import pandas as pd

    path = Path(path)
    if path.is_dir():
        path = path / "matrices.csv"
    from pyarrow import ArrowException

    known = {c.name: c for c in columns(with_spectrum=True, epsilon=())}
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=object, keep_default_na=False)
    except FileNotFoundError:
        raise _not_a_table(path, "There is no such file.") from None
    except OSError as error:
        raise _not_a_table(path, f"It cannot be read: {error}.") from None
    except (ValueError, KeyError, ArrowException) as error:  # pandas' and pyarrow's parsing errors
        raise _not_a_table(path, f"It is not a table ({' '.join(str(error).split())[:80]}).") from None
    missing = [c.name for c in KEY_COLUMNS + NORM_COLUMNS if c.name not in frame.columns]
    if missing:
        raise _not_a_table(path, f"It lacks the columns {', '.join(missing[:4])}{' …' * (len(missing) > 4)}.")
    schema = [
        known.get(name) or Column(name, "integer" if name.startswith(_EPSILON_PREFIX) else "text", "")
        for name in frame.columns
    ]
    try:
        return build_table(_records(frame), schema)
    except (ValueError, OverflowError) as error:
        raise _not_a_table(path, f"A cell is not what its column holds ({error}).") from None


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [
        {str(k): None if v is None or v != v else v for k, v in row.items()}
        for row in frame.astype(object).where(frame.notna(), None).to_dict("records")
    ]
    text = {column.name for column in KEY_COLUMNS if column.kind == "text"}
    return [{k: None if v == "" and k not in text else v for k, v in row.items()} for row in records]


def _not_a_table(path: Path, found: str) -> TableError:
    return TableError(
        f"The table '{path}' was asked for.",
        found,
        "Pass the matrices.csv that 'weightscope analyze … --out DIR' wrote.",
    )
