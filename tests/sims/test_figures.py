"""What figures show: which runs behind which point, what their intervals are, and in which words and units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bisection.errors import UsageError
from sims.figures import Grid, Lines, Run, arrange, crossings, interval, varied
from sims.plots import Plot
from sims.quantities import Meaning, Unit, natural_scale, quantity, rounded, written
from sims.result import Column, Table

ETHER = 10**18


def run(metrics: dict[str, Any], seed: int = 0, tables: dict[str, Table] | None = None, **parameters: Any) -> Run:
    return Run(f"{sorted(parameters.items())}{seed}", seed, parameters, metrics, tables or {})


def lines(plot: dict[str, Any], runs: list[Run]) -> Lines:
    (panel,) = arrange(Plot.of({"name": "figure", **plot}), runs)
    assert isinstance(panel.content, Lines)
    return panel.content


def grid(plot: dict[str, Any], runs: list[Run]) -> Grid:
    (panel,) = arrange(Plot.of({"name": "figure", "kind": "heat", **plot}), runs)
    assert isinstance(panel.content, Grid)
    return panel.content


# Words and units


def test_names_become_labels_and_units() -> None:
    for name, unit, label, stored in (
        ("delay_seconds", "", "delay", "s"),
        ("attacker_profit_wei", "", "attacker profit", "wei"),
        ("gas", "", "gas", "gas"),
        ("dispute_gas", "", "dispute gas", "gas"),
        ("gas_honest", "", "gas honest", "gas"),
        ("gas_price", "gwei", "gas price", "gwei"),
        ("gas_spread", "", "gas spread", ""),
        ("stake", "bounties", "stake", "bounties"),
        ("trainer_clock", "seconds", "trainer clock", "s"),
        ("bond_eth", "ETH", "bond", "ETH"),
        ("_seconds", "", " seconds", ""),
    ):
        found = quantity(name, unit)
        assert (found.label, found.unit) == (label, stored), name


def test_values_are_drawn_in_units_that_are_easily_read() -> None:
    delay, money = quantity("delay_seconds"), quantity("profit_wei")
    assert delay.drawn_in([5, 90]) == Unit(1, "s")
    assert delay.drawn_in([5, 7 * 3600]) == Unit(3600, "h")
    assert delay.drawn_in([-9 * 86400, math.nan]) == Unit(86400, "days")
    assert money.drawn_in([-ETHER]) == Unit(1e18, "ETH")
    assert money.drawn_in([3 * 10**9]) == Unit(1e9, "gwei")
    assert quantity("stake", "bounties").drawn_in([1e9]) == Unit(1, "bounties")
    assert delay.titled(Unit(3600, "h")) == "delay (h)"
    assert quantity("month", "months").titled(Unit(1, "months")) == "month"
    assert quantity("segment_steps", "steps").titled(Unit(1, "steps")) == "segment steps"


def test_axes_are_logarithmic_where_values_grow_by_factors() -> None:
    for values, scale in (
        ([1, 2, 4, 8, 16], "log"),
        ([0.01, 0.1, 0.5], "log"),
        ([0, 1, 2, 4, 8, 16, 32], "symlog"),
        (range(24), "linear"),
        (range(1, 500), "linear"),
        ([1, 2, 3], "linear"),
        ([-1, 10, 1000], "linear"),
        ([7], "linear"),
    ):
        assert natural_scale(values) == scale, values


def test_numbers_are_written_for_people() -> None:
    assert [rounded(value) for value in (0, 0.1, 1234.5, -2.5, 1e-9, 123456, math.inf, math.nan)] == [
        "0",
        "0.1",
        "1,230",
        "−2.5",
        "1.00e-9",
        "123,000",
        "∞",
        "–",
    ]
    assert [written(value) for value in (True, 10**20, 12_332.0, None, 0.123456, (1, 2.5), "slow")] == [
        "yes",
        "100,000,000,000,000,000,000",
        "12,332",
        "–",
        "0.1235",
        "1, 2.5",
        "slow",
    ]


# Plots


def test_a_wrong_figure_is_refused_with_what_was_expected() -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"name": "a b", "x": "x", "y": "y"}, "expected letters, digits"),
        ({"name": "../a", "x": "x", "y": "y"}, "expected letters, digits"),
        ({"name": "runs", "x": "x", "y": "y"}, "runs.csv"),
        ({"name": "a", "x": "x"}, "y is missing"),
        ({"name": "a", "kind": "heat", "x": "x", "y": "y"}, "z is missing"),
        ({"name": "a", "kind": "pie", "x": "x", "y": "y"}, "expected one of line, points, bars, heat, region"),
        ({"name": "a", "x": "x", "y": "y", "x_scale": "cubic"}, "expected one of linear, log, symlog"),
        ({"name": "a", "x": "x", "y": "y", "bond": "z"}, "did you mean 'bound'?"),
        ({"name": "a", "x": 3, "y": "y"}, "x = 3; expected a string"),
        ({"name": "a", "x": "x", "y": []}, "y = []; expected a string"),
        ({"name": "a", "x": "x", "y": "y", "where": "z"}, "expected a table"),
        ({"name": "a", "x": "x", "y": ["y", "z"], "by": "w"}, "several y with by or z"),
    )
    for found, message in refused:
        with pytest.raises(UsageError) as caught:
            Plot.of(found)
        assert message in str(caught.value), found


# Intervals


def test_intervals_are_students_and_wilsons() -> None:
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))
    assert interval([5.0]) == (5.0, 5.0) and interval([1.0], proportion=True) == (1.0, 1.0), "one run says nothing of others"
    assert interval([1.0] * 10, proportion=True) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert interval([0.0] * 10, proportion=True) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_intervals_hold_the_mean_nineteen_times_in_twenty() -> None:
    for count in (3, 8, 40):
        draws = np.random.default_rng(0).normal(7, 3, (4000, count))
        held = sum(low <= 7 <= high for low, high in (interval(list(row)) for row in draws))
        assert held / 4000 == pytest.approx(0.95, abs=0.015), count


# Lines


def test_a_line_has_the_mean_of_the_seeds_at_each_place() -> None:
    runs = [run({"y": x + seed}, seed, x=x) for x in (1, 2) for seed in (0, 1, 2)]
    (line,) = lines({"x": "x", "y": "y"}, runs).lines
    assert [(spot.x, spot.mean, spot.values) for spot in line.spots] == [(1, 2, (1, 2, 3)), (2, 3, (2, 3, 4))]
    assert line.spots[0].low == pytest.approx(2 - 4.303 / math.sqrt(3))


def test_there_is_a_line_for_each_value_of_another_parameter() -> None:
    runs = [run({"y": x * rate}, x=x, rate=rate) for x in (1, 2) for rate in (0.5, 0.1)]
    drawn = lines({"x": "x", "y": "y", "by": "rate"}, runs)
    assert [(line.label, line.value, [spot.mean for spot in line.spots]) for line in drawn.lines] == [
        ("0.1", 0.1, [0.1, 0.2]),
        ("0.5", 0.5, [0.5, 1.0]),
    ]
    assert [column.name for column in drawn.table().columns] == ["rate", "x", "y", "low", "high", "runs"]
    assert drawn.table().rows[0] == (0.1, 1, 0.1, 0.1, 0.1, 1)


def test_series_are_told_in_one_unit() -> None:
    runs = [run({"y": 1}, x=1, window_seconds=seconds) for seconds in (0, 3600, 86400)]
    assert [line.label for line in lines({"x": "x", "y": "y", "by": "window_seconds"}, runs).lines] == ["0 h", "1 h", "24 h"]


def test_a_parameter_of_many_values_is_grouped() -> None:
    runs = [run({"y": value}, x=1, rate=value / 100) for value in range(1, 101)]
    content = lines({"x": "x", "y": "y", "by": "rate"}, runs)
    drawn = content.lines
    assert content.grouped and content.band == "central 90 % of the runs", "they differ in more than their seed"
    assert [line.label for line in drawn] == ["0.01 – 0.25", "0.26 – 0.5", "0.51 – 0.75", "0.76 – 1"]
    assert [line.spots[0].mean for line in drawn] == [13, 38, 63, 88]
    with pytest.raises(UsageError, match="figure figure: rate has 9 values; expected at most 8 series"):
        lines({"x": "x", "y": "y", "by": "rate"}, [run({"y": 1}, x=1, rate=f"r{index}") for index in range(9)])


def test_several_metrics_share_a_figure() -> None:
    drawn = lines(
        {"x": "x", "y": ["watcher_cost_wei", "trainer_cost_wei"]}, [run({"watcher_cost_wei": 1, "trainer_cost_wei": 2}, x=1)]
    )
    assert [(line.label, line.spots[0].mean) for line in drawn.lines] == [("watcher cost", 1), ("trainer cost", 2)]
    assert (drawn.y.label, drawn.y.unit) == ("cost", "wei")


def test_runs_that_say_their_own_interval_are_put_together() -> None:
    own = [run({"y": mean, "y_low": mean - 3, "y_high": mean + 4}, seed, x=1) for seed, mean in enumerate((10.0, 12.0))]
    (spot,) = lines({"x": "x", "y": "y"}, own).lines[0].spots
    assert (spot.mean, spot.low, spot.high) == pytest.approx((11, 11 - math.sqrt(18) / 2, 11 + math.sqrt(32) / 2))


def test_what_varies_unseen_widens_the_band_to_the_runs() -> None:
    runs = [run({"y": hidden}, x=1, hidden=hidden) for hidden in range(101)]
    drawn = lines({"x": "x", "y": "y"}, runs)
    (spot,) = drawn.lines[0].spots
    assert drawn.band == "central 90 % of the runs"
    assert (spot.mean, spot.low, spot.high) == (50, 5, 95)
    kept = lines({"x": "x", "y": "y", "where": {"hidden": 7}}, runs)
    assert kept.band == "95 % confidence interval"
    assert kept.lines[0].spots[0].values == (7,)


def test_yes_and_no_are_proportions() -> None:
    for hidden in (0, 1):  # whether something else varies
        runs = [run({"caught": seed != 0}, seed, x=1, hidden=hidden * seed) for seed in range(4)]
        drawn = lines({"x": "x", "y": "caught"}, runs)
        (spot,) = drawn.lines[0].spots
        assert (spot.mean, spot.low, spot.high) == pytest.approx((0.75, 0.301, 0.954), abs=1e-3)
        assert drawn.band == "95 % confidence interval"


def test_no_interval_of_a_share_leaves_zero_to_one() -> None:
    runs = [run({"rate": rate, "profit": rate}, seed, x=1) for seed, rate in enumerate((0.1, 0.95))]
    (spot,) = lines({"x": "x", "y": "rate", "y_unit": "probability"}, runs).lines[0].spots
    assert (spot.low, spot.high) == (0, 1)
    (spot,) = lines({"x": "x", "y": "profit", "y_unit": "bounties"}, runs).lines[0].spots
    assert (spot.low < 0, spot.high > 1) == (True, True)


def test_heights_of_many_sizes_are_drawn_on_a_logarithmic_axis() -> None:
    runs = [run({"gas": 10**power, "profit": 10**power - 1}, x=power) for power in range(5)]
    assert lines({"x": "x", "y": "gas"}, runs).y_scale == "log"
    assert lines({"x": "x", "y": "profit"}, runs).y_scale == "linear"
    assert lines({"x": "x", "y": "profit", "y_scale": "symlog"}, runs).y_scale == "symlog"


def test_runs_without_a_number_are_left_out() -> None:
    runs = [run({"y": None if x == 2 or rate else 1.0}, x=x, rate=rate) for x in (1, 2) for rate in (0, 1)]
    (line,) = lines({"x": "x", "y": "y", "by": "rate"}, runs).lines
    assert [(line.label, spot.x) for spot in line.spots] == [("0", 1)]
    with pytest.raises(UsageError, match="nowhere a number"):
        lines({"x": "x", "y": "y", "where": {"rate": 1}}, runs)


def test_a_result_can_be_an_axis_where_runs_have_it() -> None:
    runs = [run({"y": 1, "drawn": 3}, 0), run({"y": 2}, 1), run({"y": 4, "drawn": 2}, 2)]
    assert [(spot.x, spot.mean) for spot in lines({"x": "drawn", "y": "y"}, runs).lines[0].spots] == [(2, 4), (3, 1)]
    assert [(spot.x, spot.mean) for spot in lines({"x": "seed", "y": "y"}, runs).lines[0].spots] == [(0, 1), (1, 2), (2, 4)]


def test_things_with_names_keep_their_order() -> None:
    runs = [run({"y": 1}, strategy=strategy) for strategy in ("lazy", "forging", "copycat")]
    assert [spot.x for spot in lines({"x": "strategy", "y": "y"}, runs).lines[0].spots] == ["lazy", "forging", "copycat"]
    assert [
        spot.x for spot in lines({"kind": "bars", "x": "n", "y": "y"}, [run({"y": 1}, n=n) for n in (20, 3)]).lines[0].spots
    ] == ["3", "20"]


def test_rows_of_a_table_can_be_drawn() -> None:
    table = Table((Column("month", "months"), Column("income", "bounties")), ((0, 1.0), (1, 3.0)))
    runs = [run({"y": 1}, seed, {"months": table}, x=1) for seed in range(2)]
    drawn = lines({"x": "month", "y": "income", "table": "months"}, runs)
    assert [(spot.x, spot.mean, len(spot.values)) for spot in drawn.lines[0].spots] == [(0, 1.0, 2), (1, 3.0, 2)]
    assert (drawn.x.unit, drawn.y.unit) == ("months", "bounties")
    with pytest.raises(UsageError, match="no table 'weeks'; the runs have months"):
        lines({"x": "month", "y": "income", "table": "weeks"}, runs)


def test_many_places_are_put_into_bins() -> None:
    runs = [run({"y": float(value)}, x=value / 10) for value in range(1, 1001)]
    drawn = lines({"kind": "points", "x": "x", "y": "y"}, runs)
    (line,) = drawn.lines
    assert len(line.spots) == 16
    assert sum(len(spot.values) for spot in line.spots) == 1000
    assert all(spot.low < spot.mean < spot.high for spot in line.spots)
    assert line.spots[0].places[0] == 0.1


# Bounds


def bounded(y: int, bound: int | None) -> list[Run]:
    return [run({"y_wei": y, "bound_wei": bound}, x=1)]


def test_a_bound_is_compared_to_the_wei() -> None:
    plot = Plot.of({"name": "a", "x": "x", "y": "y_wei", "bound": "bound_wei"})
    for y, bound, crossed in ((ETHER, ETHER, 0), (ETHER + 1, ETHER, 1), (ETHER, None, 0)):
        assert len(crossings(plot, bounded(y, bound))) == crossed
        (spot,) = lines({"x": "x", "y": "y_wei", "bound": "bound_wei"}, bounded(y, bound)).lines[0].spots
        assert spot.crossed == (crossed == 1,)


def test_each_run_has_its_own_bound() -> None:
    runs = [run({"y": 5, "bound": 10}, 0, x=1), run({"y": 4, "bound": 3}, 1, x=1)]
    (spot,) = lines({"x": "x", "y": "y", "bound": "bound"}, runs).lines[0].spots
    assert (spot.bound, spot.closest, spot.crossed) == (3, pytest.approx(4 / 3), (False, True))
    assert crossings(Plot.of({"name": "a", "x": "x", "y": "y", "bound": "bound"}), runs) == (runs[1].key,)


# Maps


def test_a_map_has_a_mean_for_each_cell() -> None:
    runs = [run({"z": x * 10 + y + seed}, seed, x=x, y=y) for x in (1, 2, 3) for y in (1, 2) for seed in (0, 2) if (x, y) != (3, 2)]
    found = grid({"x": "x", "y": "y", "z": "z"}, runs)
    assert (found.xs, found.ys) == ((1, 2, 3), (1, 2))
    assert found.mean[:, :2].tolist() == [[12, 22], [13, 23]]
    assert found.runs.tolist() == [[2, 2, 2], [2, 2, 0]]
    assert math.isnan(found.mean[1, 2])
    assert len(found.table().rows) == 5


def test_a_map_of_random_points_is_binned() -> None:
    draws = np.random.default_rng(1).random((2000, 2))
    found = grid({"x": "x", "y": "y", "z": "z"}, [run({"z": float(x + y)}, x=float(x), y=float(y)) for x, y in draws])
    assert int(found.runs.sum()) == 2000
    assert found.mean.shape == (13, 13)
    middles = np.add.outer(found.ys, found.xs)
    assert float(np.abs(found.mean - middles).max()) < 0.1


def test_a_map_of_words_is_refused() -> None:
    with pytest.raises(UsageError, match="a heat needs three"):
        grid({"x": "x", "y": "y", "z": "z"}, [run({"z": 1}, x="a", y=1)])


# All of them


def test_panels_share_a_figure() -> None:
    runs = [run({"y": x}, x=x, path=path) for x in (1, 2) for path in ("fast", "slow")]
    runs += [run({"y": 1}, x=1, path="cut_short")]
    panels = arrange(Plot.of({"name": "a", "x": "x", "y": "y", "panels": "path"}), runs)
    assert [panel.title for panel in panels] == ["path fast", "path slow", "path cut short"]
    with pytest.raises(UsageError, match="expected at most 6 panels"):
        arrange(Plot.of({"name": "a", "x": "x", "y": "y", "panels": "n"}), [run({"y": 1}, x=1, n=n) for n in range(7)])


def test_what_the_runs_do_not_have_is_refused() -> None:
    for plot, message in (
        ({"x": "x", "y": "profits"}, "no parameter or metric 'profits'; did you mean 'profit'?"),
        ({"x": "x", "y": "profit", "by": "zzz"}, "the runs have n, profit, seed, x"),
        ({"x": "x", "y": "profit", "where": {"n": 3}}, r"no run has finished with \{'n': 3\}"),
    ):
        with pytest.raises(UsageError, match=message):
            lines(plot, [run({"profit": 1.0}, x=1, n=1)])


def test_what_is_known_of_a_name_is_used() -> None:
    meanings = {"stake": Meaning("bounties", "what is staked", "log"), "y": Meaning("of the work")}
    (panel,) = arrange(
        Plot.of({"name": "a", "x": "stake", "y": "y"}), [run({"y": 1}, stake=stake) for stake in (1, 2, 3)], meanings
    )
    assert isinstance(panel.content, Lines)
    assert (panel.content.x.unit, panel.content.y.unit, panel.content.x_scale) == ("bounties", "of the work", "log")
    assert varied([run({}, a=1, b=1), run({}, a=1, b=2)]) == ("b",)
