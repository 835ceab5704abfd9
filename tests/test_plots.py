"""Figures: what is drawn is what the table says."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import weightscope
from tests.factories import write_gpt2
from weightscope.baselines import spread_out
from weightscope.errors import SelectionError
from weightscope.plots import ATTENTION, FEED_FORWARD, GROUP_STYLE, plot_overview, plot_quantity, save_figure


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return weightscope.analyze(write_gpt2(tmp_path_factory.mktemp("m"), layers=4)).table


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


@pytest.mark.parametrize("quantity", ["stable_rank", "frobenius_norm", "spectral_norm"])
def test_lines_are_the_tables_values(table, quantity):
    figure = plot_quantity({"model": table}, quantity)
    attention, feed_forward = figure.axes
    assert set(lines(attention)) == {"Q", "K", "V", "O", "QKV"}
    assert set(lines(feed_forward)) == {"M1", "M2"}
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        for group, line in lines(axes).items():
            rows = table[table["group"] == group]
            assert np.array_equal(line.get_xdata(), rows["layer"].to_numpy(dtype=float))
            assert np.array_equal(line.get_ydata(), rows[quantity].to_numpy())
            assert (line.get_color(), line.get_marker()) == GROUP_STYLE[group]


def test_the_baseline_is_dotted_and_only_for_the_stable_rank(table):
    drawn = {}
    for quantity in ("stable_rank", "frobenius_norm"):
        axes = plot_quantity({"model": table}, quantity).axes
        drawn[quantity] = {
            round(line.get_ydata()[0], 6)
            for one in axes
            for line in one.get_lines()
            if line.get_linestyle() == ":"
        }
    assert drawn["frobenius_norm"] == set()
    assert drawn["stable_rank"] == set(table["stable_rank_gaussian"].round(6))


def test_one_row_a_model_two_panels_each(table):
    figure = plot_overview({"one": table, "two": table, "three": table})
    assert len(figure.axes) == 6
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["one", "two", "three"]


def test_groups_part_in_colour_marker_and_grey():
    assert set(GROUP_STYLE) == {*ATTENTION, *FEED_FORWARD}
    assert len({colour for colour, _ in GROUP_STYLE.values()}) == len(GROUP_STYLE)
    assert len({marker for _, marker in GROUP_STYLE.values()}) == len(GROUP_STYLE)
    for panel in (ATTENTION, FEED_FORWARD):
        greys = sorted(
            np.dot(mpl.colors.to_rgb(GROUP_STYLE[group][0]), [0.299, 0.587, 0.114]) for group in panel
        )
        assert np.diff(greys).min() > 0.05, greys


def test_a_gap_where_a_matrix_has_no_number(table):
    holed = table.copy()
    holed.loc[(holed["group"] == "M1") & (holed["layer"] == 2), "stable_rank"] = np.nan
    line = lines(plot_quantity({"model": holed}, "stable_rank").axes[1])["M1"]
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True, False]


def test_stacks_have_rows_of_their_own(table):
    both = table.copy()
    both.loc[both["layer"] >= 2, "stack"] = "encoder"
    figure = plot_quantity({"model": both}, "stable_rank")
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == [
        "model, decoder: attention",
        "model, encoder: attention",
    ]


def test_negative_values_are_not_cut_off(table):
    shifted = table.assign(mean=-1.0)
    assert plot_quantity({"model": shifted}, "mean").axes[0].get_ylim()[0] < -1


@pytest.mark.parametrize("quantity", ["nonsense", "dtype", "nuclear_norm"])
def test_no_such_quantity(table, quantity):
    with pytest.raises(SelectionError, match="no such column of numbers"):
        plot_quantity({"model": table}, quantity)


def test_a_quantity_is_answered_with_the_nearest(table):
    with pytest.raises(SelectionError, match=r"did you mean 'stable_rank'\?"):
        plot_quantity({"model": table}, "stablerank")


def test_nothing_to_draw(table):
    with pytest.raises(SelectionError, match="No row belongs"):
        plot_quantity({"model": table[table["group"] == "embedding"]}, "stable_rank")


def test_svg_keeps_its_text_and_settings_are_restored(table, tmp_path):
    before = dict(mpl.rcParams)
    save_figure(plot_overview({"a model": table}), tmp_path / "f.svg")
    assert dict(mpl.rcParams) == before
    text = (tmp_path / "f.svg").read_text()
    assert ">a model</text>" in text
    assert [path.name for path in tmp_path.iterdir()] == ["f.svg"]


def test_a_table_with_nothing_to_draw_is_named(table):
    nothing = table[table["layer"].isna()]
    with pytest.raises(SelectionError, match="In the table of 'two'"):
        plot_overview({"one": table, "two": nothing})


def test_no_line_leads_over_a_layer_that_is_missing(table):
    torn = table[~((table["group"] == "M1") & (table["layer"] == 1))]
    axes = plot_quantity({"model": torn}, "stable_rank").axes[1]
    xs, ys = lines(axes)["M1"].get_data()
    assert np.isnan(ys).tolist() == [False, True, False, False]
    assert xs[~np.isnan(ys)].tolist() == [0, 2, 3]
    assert not np.isnan(lines(axes)["M2"].get_ydata()).any()


def test_a_role_in_every_other_layer_has_a_line(table):
    other = table[(table["group"] != "M1") | (table["layer"] % 2 == 0)]
    xs, ys = lines(plot_quantity({"model": other}, "stable_rank").axes[1])["M1"].get_data()
    assert xs.tolist() == [0, 2]
    assert not np.isnan(ys).any()


def test_experts_of_missing_layers_have_a_gap_too(table):
    experts = table[(table["group"] == "M1") & (table["layer"] != 1)].assign(expert="0")
    axes = plot_quantity({"model": experts}, "stable_rank").axes[1]
    assert np.isnan(lines(axes)["M1"].get_ydata()).sum() == 1


def test_experts_have_thin_lines_at_quantiles_and_no_fill(table):
    """Three bands on one another are one grey, and of many experts one alone makes the ends."""
    rows = table[table["group"].isin(["M1", "M2"])]
    draws = np.random.default_rng(0).normal(5.0, 1.0, (40, len(rows)))
    draws[0] = 1000.0
    parts = [rows.assign(expert=str(n), frobenius_norm=values) for n, values in enumerate(draws)]
    figure = plot_quantity({"model": pd.concat(parts)}, "frobenius_norm")
    axes = figure.axes[1]
    assert not axes.collections
    thin = [line for line in axes.get_lines() if line.get_label().startswith("_end")]
    for group in ("M1", "M2"):
        ends = [line.get_ydata() for line in thin if line.get_color() == GROUP_STYLE[group][0]]
        expected = np.quantile(draws[:, (rows["group"] == group).to_numpy()], [0.05, 0.95], axis=0)
        np.testing.assert_allclose(np.sort(ends, axis=0), expected)
    assert axes.get_ylim()[1] < 100
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["M1 (experts)", "M2 (experts)", "5–95 % of experts"]


@pytest.mark.parametrize(("first", "last"), [(0, 23), (0, 31), (0, 3), (22, 23), (5, 5), (0, 94), (1, 24)])
def test_no_tick_beyond_the_layers(table, first, last):
    one = table[(table["layer"] == 0) & (table["group"] == "M1")]
    many = pd.concat([one.assign(layer=layer) for layer in range(first, last + 1)])
    for axes in plot_quantity({"model": many}, "stable_rank").axes[1:]:
        ticks = axes.get_xticks()
        assert len(ticks)
        assert first <= min(ticks) <= max(ticks) <= last
        assert all(tick == round(tick) for tick in ticks)


def test_baselines_are_named_by_the_rows_that_have_them(table):
    """A dense layer and experts of another width: two lines, each with its own name."""
    m1 = table[table["group"] == "M1"]
    parts = [
        m1[m1["layer"] == 0],
        m1[m1["layer"] > 0].assign(expert="0", stable_rank_gaussian=1.5),
        m1[m1["layer"] > 0].assign(expert="shared", stable_rank_gaussian=1.5),
    ]
    axes = plot_quantity({"model": pd.concat(parts)}, "stable_rank").axes[1]
    assert {text.get_text() for text in axes.texts} == {"M1", "M1 (experts, shared)"}


def test_names_of_close_lines_do_not_touch():
    assert spread_out([], 9.0) == []
    assert spread_out([5.0, 100.0], 9.0) == [5.0, 100.0]
    for heights in ([0.0, 1.0, 2.0, 3.0], [10.0, 10.5, 40.0, 41.0, 43.0, 90.0]):
        found = spread_out(heights, 9.0)
        assert np.diff(found).min() >= 9 - 1e-9
        assert np.mean(found) == pytest.approx(np.mean(heights))  # no farther than they must
