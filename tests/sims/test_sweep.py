"""Sweeps: which runs a file asks for, how a bad one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import UsageError
from sims import sweep as module
from sims.sweep import Sweep
from tests.sims.toys import Toy, only_toys, toy

GRID = """\
title = "A grid"
kind = "economy.toy"
repeats = 2
[parameters]
burn = false
[vary]
rate = [0.1, 0.5]
stake = {from = 0.1, to = 10.0, points = 5, scale = "log"}
watchers = {from = 1, to = 4, points = 10}
[[figure]]
name = "profit"
x = "stake"
y = "profit"
"""
RANDOM = """\
title = "A search"
kind = "economy.toy"
mode = "random"
samples = 200
seed = 5
[vary]
rate = [0.1, 0.5, 0.9]
stake = {from = 0.1, to = 10.0, scale = "log"}
watchers = {from = 1, to = 4}
path = ["fast", "slow"]
"""


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with only_toys():
        yield


def load(folder: Path, text: str) -> Sweep:
    path = folder / "asked.toml"
    path.write_text(text)
    return Sweep.load(path)


def test_a_grid_has_every_combination_with_every_repeat(tmp_path: Path) -> None:
    sweep = load(tmp_path, GRID)
    jobs = list(sweep.jobs())
    stakes = [0.1, 0.316227766017, 1.0, 3.16227766017, 10.0]
    expected = [Toy(rate, stake, watchers, False) for rate, stake, watchers in product([0.1, 0.5], stakes, [1, 2, 3, 4])]
    assert [job.parameters for job in jobs[::2]] == [job.parameters for job in jobs[1::2]] == expected
    assert [job.repeat for job in jobs] == [0, 1] * 40
    assert len({job.seed for job in jobs}) == len({job.key for job in jobs}) == sweep.size == 80
    assert sweep.figures == ({"name": "profit", "x": "stake", "y": "profit"},)
    assert (sweep.name, sweep.title, sweep.text) == ("asked", "A grid", GRID)


def test_seeds_do_not_depend_on_what_else_is_swept(tmp_path: Path) -> None:
    jobs = {job.key: job.parameters for job in load(tmp_path, GRID).jobs()}
    wider = GRID.replace("rate = [0.1, 0.5]", "rate = [0.7, 0.5, 0.1]").replace("repeats = 2", "repeats = 3")
    assert jobs.items() <= {job.key: job.parameters for job in load(tmp_path, wider).jobs()}.items()
    assert not jobs.keys() & {job.key for job in load(tmp_path, "seed = 1\n" + GRID).jobs()}


def test_keys_name_everything_that_determines_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {job.key for job in load(tmp_path, GRID).jobs()}
    assert not keys & {job.key for job in load(tmp_path, GRID.replace("burn = false", 'note = "other"')).jobs()}
    monkeypatch.setattr(module, "versions", lambda: {"refstep": "another"})
    assert not keys & {job.key for job in load(tmp_path, GRID).jobs()}


def test_random_points_are_drawn_from_lists_and_ranges(tmp_path: Path) -> None:
    sweep = load(tmp_path, RANDOM)
    found = [job.parameters for job in sweep.jobs()]
    assert found == [job.parameters for job in sweep.jobs()] and len(found) == sweep.size == 200
    assert {one.rate for one in found} == {0.1, 0.5, 0.9}
    assert {one.watchers for one in found} == {1, 2, 3, 4}
    assert {one.path for one in found} == {"fast", "slow"}
    assert all(0.1 <= one.stake <= 10 for one in found)
    assert 70 < sum(one.stake < 1 for one in found) < 130, "half of a logarithmic range lies below its middle"
    assert len({one.stake for one in found}) == 200
    assert {job.seed for job in sweep.jobs()}.isdisjoint(job.seed for job in load(tmp_path, RANDOM.replace("5", "6", 1)).jobs())


def test_more_samples_keep_the_first_and_other_axes_do_not_change_them(tmp_path: Path) -> None:
    first = [job.parameters for job in load(tmp_path, RANDOM).jobs()]
    more = [job.parameters for job in load(tmp_path, RANDOM.replace("200", "300")).jobs()]
    assert more[:200] == first
    fewer = [job.parameters for job in load(tmp_path, RANDOM.replace('path = ["fast", "slow"]\n', "")).jobs()]
    assert [(one.rate, one.stake) for one in fewer] == [(one.rate, one.stake) for one in first]


def test_nothing_varied_is_one_point(tmp_path: Path) -> None:
    sweep = load(tmp_path, 'title = "Again"\nkind = "economy.toy"\nrepeats = 4')
    assert [job.parameters for job in sweep.jobs()] == [Toy()] * 4
    assert len({job.seed for job in sweep.jobs()}) == 4


@given(st.floats(0.001, 1e9), st.floats(0.001, 1e9), st.integers(2, 40), st.booleans())
def test_ranges_rise_from_end_to_end(
    tmp_path_factory: pytest.TempPathFactory, one: float, other: float, points: int, log: bool
) -> None:
    low, high = sorted((one, other))
    if not high > low * 1.001:
        high = low * 2
    scale = "log" if log else "linear"
    text = f'title = ""\nkind = "economy.toy"\n[vary]\nstake = {{from = {low}, to = {high}, points = {points}, scale = "{scale}"}}'
    with only_toys():
        (axis,) = load(tmp_path_factory.mktemp("sweep"), text).axes
    assert axis.values[0] == low and axis.values[-1] == high and len(axis.values) == points
    assert list(axis.values) == sorted(axis.values)


def test_a_scenario_may_be_a_file_beside_it_and_is_changed(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'kind = "economy.toy"\ntitle = "Base"\nattack = 3\n[parameters]\nrate = 0.25\nstake = 4.0\n'
    )
    sweep = load(tmp_path, 'title = "Sweep"\nscenario = "base.toml"\n[parameters]\nstake = 5\n')
    assert sweep.scenario.parameters == Toy(rate=0.25, stake=5.0)
    assert (sweep.scenario.name, sweep.scenario.title, sweep.scenario.attack) == ("base", "Base", 3)
    named = load(tmp_path, 'title = "Sweep"\nscenario = "economy.toy"\n')
    assert named.scenario.parameters == Toy() and not named.files


REFUSED = (
    ("rate = [0.1, 0.5]", "raet = [0.1]", 7, "unknown parameter 'raet'; did you mean rate?"),
    ("rate = [0.1, 0.5]", "rate = [0.1, 5]", 7, "rate = 5; expected a number from 0 to 1"),
    ("rate = [0.1, 0.5]", "rate = [1, 1.0]", 7, "rate has the value 1.0 twice; expected different ones"),
    ("rate = [0.1, 0.5]", "rate = []", 7, "rate = []; expected a list of values or {from, to, points, scale}"),
    ("rate = [0.1, 0.5]", "rate = 0.1", 7, "rate = 0.1; expected a list of values or {from, to, points, scale}"),
    ("rate = [0.1, 0.5]", "shares = [[0.9, 0.9]]", 6, "shares = [0.9, 0.9]"),
    ("rate = [0.1, 0.5]", "path = {from = 1, to = 2}", 7, "a range for path"),
    ("rate = [0.1, 0.5]", "span = {from = 1, to = 2}", 7, "a range for span"),
    ("from = 0.1", "form = 0.1", 8, "unknown key 'form'; did you mean from?"),
    ("from = 0.1, ", "", 8, "stake has no 'from'; expected from, to and points"),
    ("from = 0.1", "from = 10", 8, "stake runs from 10.0 to 10.0; expected 0 < from < to on a logarithmic scale"),
    ("from = 0.1", "from = 0", 8, "stake = 0; expected a number, 0.001 or more"),
    ("points = 5, ", "", 8, "points is missing; expected a whole number"),
    ("points = 5", "points = 1", 8, "points = 1; expected a whole number from 2 to"),
    ('"log"', '"lgo"', 8, 'scale = "lgo"; expected one of "linear", "log"'),
    ("from = 1, to = 4", "from = 1.5, to = 4", 9, "watchers = 1.5; expected a whole number"),
    ("repeats = 2", "repeats = 0", 3, "repeats = 0; expected a whole number, 1 or more"),
    ("repeats = 2", "repeats = 1000000", 6, "40,000,000 runs; expected at most 1,000,000"),
    ("repeats = 2", "samples = 2", 3, 'samples without mode = "random"; expected none'),
    ("repeats = 2", 'mode = "gird"', 3, 'mode = "gird"; expected one of "grid", "random"'),
    ("repeats = 2", 'mode = "random"', 1, "samples is missing; expected a whole number"),
    ("repeats = 2", "reapeats = 2", 3, "unknown key 'reapeats'; did you mean repeats?"),
    ("burn = false", "burn = 0", 5, "burn = 0; expected true or false"),
    ('kind = "economy.toy"', "", 1, "neither scenario nor kind is there; expected one of them"),
    ('kind = "economy.toy"', 'kind = "economy.toy"\nscenario = "x"', 2, "kind beside scenario; expected one of them"),
    ('kind = "economy.toy"', 'scenario = "economy.yot"', 2, "did you mean economy.toy?"),
    ('kind = "economy.toy"', 'scenario = "nowhere.toml"', 2, "cannot read"),
    ('title = "A grid"', "", 1, "title is missing; expected a text"),
    ('name = "profit"', "", 10, "name is missing; expected a text"),
    ('y = "profit"', 'y = "profit"\n[[figure]]\nname = "profit"', 15, 'name = "profit" for a second figure; expected another'),
    ("[[figure]]", "[figure]", 10, "expected a list"),
    ("repeats = 2", "attack = 2", 3, "a scenario; expected a sweep, or refstep sims run to run it"),
    ('y = "profit"', "", 10, "figure profit: y is missing"),
    ('y = "profit"', 'y = "profit"\nbye = "rate"', 10, "figure profit: unknown key 'bye'; did you mean 'by'?"),
)


def test_a_bad_file_is_refused_with_its_line_and_what_was_expected(tmp_path: Path) -> None:
    for found, instead, line, message in REFUSED:
        assert found in GRID
        with pytest.raises(UsageError) as refused:
            load(tmp_path, GRID.replace(found, instead))
        said = str(refused.value)
        assert said.startswith(f"{tmp_path}/asked.toml:{line}: ") and message in said, (instead, said)


def test_points_whose_parameters_do_not_fit_each_other_are_refused_before_anything_runs(tmp_path: Path) -> None:
    text = 'title = ""\nkind = "economy.toy"\n[vary]\nrate = [0.1]\nshares = [[0.1], [0.5, 0.6]]\n'
    with pytest.raises(UsageError, match=r"asked.toml:3: at {rate = 0.1, shares = \[0.5, 0.6\]}: the shares sum to 1.1"):
        load(tmp_path, text)


def test_names_lead_to_the_shipped_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    (tmp_path / "stakes.toml").write_text(GRID)
    assert module.sweep_names() == ("stakes",)
    assert Sweep.found("stakes").name == "stakes" and Sweep.found(str(tmp_path / "stakes.toml")).size == 80
    for name, message in (("stake", "did you mean stakes"), ("..", "refstep sims list names them")):
        with pytest.raises(UsageError, match=message):
            Sweep.found(name)


def test_a_figure_of_what_there_is_not_is_told_once_a_run_is_there(tmp_path: Path) -> None:
    for found, instead, message in (
        ('y = "profit"', 'y = "proft"', "no parameter or metric 'proft'; did you mean profit?"),
        ('x = "stake"', 'x = "steak"', "no parameter or metric 'steak'; did you mean stake?"),
        ('x = "stake"', 'x = "stake"\nbound = "bond"', "no parameter or metric 'bond'"),
        ('x = "stake"', 'x = "month"', "no parameter or metric 'month'"),
        ('x = "stake"', 'x = "month"\ntable = "moths"', "no table 'moths'; did you mean months?"),
        ('x = "stake"', 'x = "moth"\ntable = "months"', "no parameter or metric 'moth'; did you mean month?"),
    ):
        with pytest.raises(UsageError) as refused:
            load(tmp_path, GRID.replace(found, instead)).check_figures(toy(Toy(), 0))
        assert str(refused.value).startswith(f"{tmp_path}/asked.toml:10: figure profit: {message}"), instead


def test_figures_may_be_of_parameters_metrics_columns_and_seeds(tmp_path: Path) -> None:
    for x, y, table in (("stake", "profit", ""), ("seed", "rate", ""), ("month", "income", 'table = "months"')):
        text = GRID.replace('x = "stake"\ny = "profit"', f'x = "{x}"\ny = "{y}"\n{table}')
        load(tmp_path, text).check_figures(toy(Toy(), 0))
