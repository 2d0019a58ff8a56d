"""A sweep's folder becomes one page that needs nothing beside it, with figures that can be read."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Annotation, Text

from bisection.errors import UsageError
from sims import kinds
from sims.drawing import draw, png, svg
from sims.drawing.lines import COLOURS, ORDERED, spread
from sims.drawing.maps import SIGNED
from sims.figures import Grid, Panel
from sims.kinds import Kind
from sims.report import PAGE, write_report
from sims.result import Column, Outcome, Table
from sims.study import Figure, figures_of, read_study
from sims.sweep import Sweep
from sims.sweeping import Untold, run_sweep
from sims.workers import in_this_process

SWEEP = """
title = "Stake <against> audit rate"
kind = "economy.game"
repeats = 2
[vary]
stake = {from = 0.1, to = 10.0, points = 6, scale = "log"}
audit_rate = [0.01, 0.1, 0.5]
strategy = ["lazy", "forging_an_element", "withholding"]
[[figure]]
name = "profit"
title = "Profit & <loss>"
note = "A note."
x = "stake"
y = "profit"
by = "audit_rate"
expected = "expected_profit"
where = {strategy = "lazy"}
[[figure]]
name = "delay"
x = "stake"
y = "delay_seconds"
by = "audit_rate"
bound = "bound_seconds"
where = {strategy = "lazy"}
[[figure]]
name = "costs"
x = "stake"
y = ["trainer_cost_wei", "watcher_cost_wei"]
[[figure]]
name = "caught"
kind = "points"
x = "stake"
y = "caught"
panels = "strategy"
[[figure]]
name = "region"
kind = "region"
x = "stake"
y = "audit_rate"
z = "profit"
below = "fraud does not pay"
[[figure]]
name = "heat"
kind = "heat"
x = "stake"
y = "audit_rate"
z = "delay_seconds"
[[figure]]
name = "bars"
kind = "bars"
x = "strategy"
y = "trainer_cost_wei"
by = "audit_rate"
[[figure]]
name = "months"
table = "months"
x = "month"
y = "income"
by = "strategy"
"""
pytestmark = pytest.mark.xdist_group("report of a sweep")  # it is written once
NAMES = ("profit", "delay", "costs", "caught", "region", "heat", "bars", "months")
DAY = 86_400


@dataclass(frozen=True)
class Game:
    stake: float = field(default=1.0, metadata={"help": "what is staked", "unit": "bounties", "least": 0})
    audit_rate: float = field(default=0.1, metadata={"help": "how often a watcher looks", "unit": "probability"})
    bond_wei: int = field(default=10**17, metadata={"help": "what a challenger risks", "unit": "wei"})
    strategy: Literal["lazy", "forging_an_element", "withholding"] = "lazy"


def game(p: Game, seed: int) -> Outcome:
    draws = np.random.Generator(np.random.PCG64(seed)).random(4)
    if p.strategy == "withholding" and p.stake == 10 and p.audit_rate == 0.01 and seed % 2:
        raise RuntimeError("lost <the thread>")
    profit = 1 - p.audit_rate * (1 + p.stake)
    late = p.stake == 10 and p.audit_rate == 0.5 and p.strategy == "lazy"
    metrics = {
        "profit": float(profit + draws[0] / 10),
        "expected_profit": profit + 0.05,
        "caught": bool(draws[1] < p.audit_rate),
        "delay_seconds": 4 * DAY + 1 if late else int(3 * DAY * draws[2]),
        "bound_seconds": 4 * DAY,
        "no_bound": None,
        "trainer_cost_wei": int(10**16 * (1 + draws[3])),
        "watcher_cost_wei": 2 * 10**15,
    }
    rows = tuple((month, float(month * draws[0])) for month in range(24))
    return Outcome(metrics, {"months": Table((Column("month", "months"), Column("income", "bounties")), rows)})


GAME = Kind("economy.game", "economy", Game, game, "a game")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("sweep")
    swept(place, SWEEP)
    yield place


def swept(place: Path, text: str) -> None:
    """Run a sweep of this text into ``place``."""
    file = place / "asked.toml"
    file.write_text(text)
    with patch.object(kinds, "_of_level", lambda level: {GAME.name: GAME} if level == "economy" else {}):
        run_sweep(Sweep.load(file), place, in_this_process, Untold())


@pytest.fixture(scope="module")
def report(folder: Path) -> str:
    assert write_report(folder) == folder / PAGE
    return (folder / PAGE).read_text()


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Figure]:
    return {figure.plot.name: figure for figure in figures_of(read_study(folder))}


@pytest.fixture(scope="module")
def drawings(figures: dict[str, Figure]) -> dict[str, Drawing]:
    return {name: draw(figure.plot, figure.panels, figure.caption) for name, figure in figures.items()}


class Elements(HTMLParser):
    """Checks that elements are nested, and keeps what the tests ask for."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._keep(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._keep(tag, attrs)

    def _keep(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    assert not elements.open
    return elements


# The page


def test_the_page_needs_nothing_beside_it(report: str) -> None:
    elements = parsed(report)
    beside = [link for link in elements.links if not link.startswith(("#", "data:"))]
    assert sorted(beside) == sorted(["runs.csv", *(f"{name}.{ending}" for name in NAMES for ending in ("csv", "png"))])
    assert not {"script", "link", "img", "iframe", "object"} & set(elements.tags)
    assert "url(http" not in report
    assert "@import" not in report


def test_ids_are_unique_and_references_lead_somewhere(report: str) -> None:
    elements = parsed(report)
    assert len(elements.ids) == len(set(elements.ids))
    within = {link[1:] for link in elements.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", report))
    assert within <= set(elements.ids)


def test_each_figure_stands_in_it_with_its_words_and_numbers(report: str, figures: dict[str, Figure]) -> None:
    elements = parsed(report)
    assert elements.tags.count("svg") == elements.tags.count("figcaption") == len(NAMES)
    for figure in figures.values():
        assert figure.caption in elements.text
    assert "Profit & <loss>" in elements.text
    assert "Stake <against> audit rate" in elements.text
    assert "how often a watcher looks" in elements.text
    assert "bond_wei0.1ETHwhat a challenger risks" in elements.text
    assert "0.1, 0.2512, 0.631, 1.585, 3.981, 10" in elements.text


def test_captions_say_what_is_drawn(figures: dict[str, Figure]) -> None:
    assert figures["profit"].caption == (
        "A note. Points: mean of 2 runs at each place; band: 95 % confidence interval. "
        "Line: expected profit, which the points should be on. Only strategy = lazy."
    )
    assert figures["delay"].caption == (
        "Line: mean of 2 runs at each place; band: 95 % confidence interval. "
        "Dashed: bound; 2 of 36 runs cross it. Only strategy = lazy."
    )
    assert figures["costs"].caption.endswith("band: central 90 % of the runs. Over all values of audit rate, strategy.")
    assert "hatched: below zero" in figures["region"].caption


def test_runs_beyond_a_bound_and_failed_runs_are_told(report: str, folder: Path) -> None:
    text = parsed(report).text
    failed = len(json.loads((folder / "results.json").read_bytes())["failed"])
    assert failed > 0
    assert f"{failed} run" in text
    assert "lost <the thread>" in text
    assert "runs beyond a bound2" in text
    assert str(json.loads((folder / "results.json").read_bytes())["failed"][0]["seed"]) in text, "as --seed takes it"
    assert re.search(r"Delay\s*delay_seconds\s*bound_seconds\s*100\s*2", text)


def test_the_numbers_lie_beside_it(folder: Path, report: str, figures: dict[str, Figure]) -> None:
    rows = list(csv.reader(io.StringIO((folder / "profit.csv").read_text())))
    assert rows[0] == ["audit_rate [probability]", "stake [bounties]", "profit [bounties]", *rows[0][3:]]
    assert [tuple(float(cell) for cell in row) for row in rows[1:]] == [
        tuple(float(cell) for cell in row if cell is not None) for row in figures["profit"].table().rows
    ]
    runs = list(csv.DictReader(io.StringIO((folder / "runs.csv").read_text())))
    points = json.loads((folder / "results.json").read_bytes())["points"]
    assert [int(run["trainer_cost_wei"]) for run in runs] == [point["metrics"]["trainer_cost_wei"] for point in points]
    assert {run["strategy"] for run in runs} == {"lazy", "forging_an_element", "withholding"}


def test_the_same_folder_gives_the_same_bytes(folder: Path, report: str) -> None:
    files = {path: path.read_bytes() for path in folder.iterdir() if path.suffix in (".html", ".png", ".csv")}
    assert len(files) == 2 * len(NAMES) + 2
    write_report(folder)
    assert all(path.read_bytes() == data for path, data in files.items())


# The figures


def test_figures_are_readable(drawings: dict[str, Drawing]) -> None:
    """All words are inside the picture, and none covers another."""
    for name, drawing in drawings.items():
        boxes = words(drawing)
        assert boxes
        width, height = drawing.canvas.get_width_height()
        for text, box in boxes:
            assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, (name, text)
        for (text, box), (other, place) in combinations(boxes, 2):
            across = min(box.x1, place.x1) - max(box.x0, place.x0)
            up = min(box.y1, place.y1) - max(box.y0, place.y0)
            assert across < 2 or up < 4, (name, text, other)


def words(drawing: Drawing) -> list[tuple[str, Any]]:
    """Every visible text of a drawing with its place in pixels."""
    canvas = drawing.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    renderer = canvas.get_renderer()
    hidden = {id(label) for axes in drawing.axes for label in unseen(axes)}
    found = []
    for text in drawing.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden:
            box = Text.get_window_extent(text, renderer) if isinstance(text, Annotation) else text.get_window_extent(renderer)
            found.append((text.get_text(), box))
    return found


def unseen(axes: Axes) -> Iterator[Text]:
    """The labels of ticks beyond the ends of an axis, and all of hidden axes."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * max(abs(low), abs(high))
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not axes.get_visible() or not low - slack <= tick.get_loc() <= high + slack:
                yield tick.label1
                yield tick.label2


def test_axes_say_what_they_are(drawings: dict[str, Drawing]) -> None:
    expected = {
        "profit": {"stake (bounties)", "profit (bounties)"},
        "delay": {"stake (bounties)", "delay (days)"},
        "costs": {"stake (bounties)", "cost (ETH)"},
        "caught": {"stake (bounties)", "caught"},
        "region": {"stake (bounties)", "audit rate (probability)", "profit (bounties)"},
        "heat": {"stake (bounties)", "audit rate (probability)", "delay (h)"},
        "bars": {"trainer cost (ETH)"},
        "months": {"month", "income (bounties)"},
    }
    assert expected.keys() == drawings.keys()
    for name, drawing in drawings.items():
        labels = {axes.get_xlabel() for axes in drawing.axes} | {axes.get_ylabel() for axes in drawing.axes}
        assert expected[name] <= labels


# How red, green and blue are seen without one of the three kinds of cones (Machado, Oliveira and Fernandes 2009).
SIGHTS = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no middle": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]]  # relative to white


def difference(one: Any, other: Any, sight: str) -> float:
    """How different two colours look, as a distance in CIELAB: people see 2 side by side."""

    def lab(colour: Any) -> np.ndarray:
        c = np.array(to_rgb(colour))
        light = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        x, y, z = np.cbrt(np.array(TO_XYZ) @ np.clip(np.array(SIGHTS[sight]) @ light, 0, 1))
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    return float(np.linalg.norm(lab(one) - lab(other)))


def test_everybody_can_tell_the_colours_apart() -> None:
    ramp = [ORDERED(index / 7) for index in range(8)]
    for sight in SIGHTS:
        assert min(difference(one, other, sight) for one, other in combinations(COLOURS, 2)) > 15
        assert min(difference(one, other, sight) for one, other in combinations(ramp, 2)) > 9
        assert min(difference(colour, "white", sight) for colour in (*COLOURS, *ramp)) > 30
        assert difference(SIGNED(0.49), SIGNED(0.51), sight) > 15


def test_pictures_are_svg_and_png(figures: dict[str, Figure]) -> None:
    figure = figures["profit"]
    drawing = draw(figure.plot, figure.panels)
    assert png(drawing).startswith(b"\x89PNG")
    text = svg(drawing, "one", 'a "picture" <of> it')
    assert text.startswith('<svg role="img" aria-label="a &quot;picture&quot; &lt;of&gt; it"')
    assert all(one.startswith("one-") for one in parsed(text).ids)


def test_a_users_own_settings_change_nothing(figures: dict[str, Figure]) -> None:
    import matplotlib as mpl

    figure = figures["bars"]
    before = png(draw(figure.plot, figure.panels))
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "lines.linewidth": 9, "image.cmap": "jet"}):
        assert png(draw(figure.plot, figure.panels)) == before


def test_names_are_moved_apart_as_little_as_needed() -> None:
    for wanted in ([0.5], [0, 0, 0], [0, 0.01, 0.5, 0.52, 0.53, 1], [0.1, 0.11, 0.12, 0.13, 0.6]):
        places = spread(wanted, 0.05)
        assert all(high - low > 0.05 - 1e-9 for low, high in pairwise(places))
        assert sum(places) == pytest.approx(sum(wanted))
        assert all(abs(place - want) < 0.05 * len(wanted) for place, want in zip(places, wanted, strict=True))


# Other folders


def test_a_sweep_without_figures_gets_one_unless_it_is_of_one_point(tmp_path: Path) -> None:
    for varied, drawn in (("stake = [1.0, 2.0]\naudit_rate = [0.1, 0.2]", True), ("stake = [1.0]", False)):
        folder = tmp_path / str(drawn)
        folder.mkdir()
        swept(folder, f'title = "t"\nkind = "economy.game"\n[vary]\n{varied}')
        write_report(folder)
        assert (folder / "result.png").exists() == drawn
        assert "what is staked" in (folder / PAGE).read_text()


def test_a_figure_of_one_place_is_drawn_with_its_one_value_on_the_axis(tmp_path: Path) -> None:
    plots = [
        'x = "stake"\ny = "caught"\nbound = "no_bound"',
        'kind = "region"\nx = "stake"\ny = "bond_wei"\nz = "trainer_cost_wei"',
    ]
    text = "".join(f'[[figure]]\nname = "f{index}"\n{plot}\n' for index, plot in enumerate(plots))
    swept(tmp_path, f'title = "t"\nkind = "economy.game"\n[vary]\nstake = [1.0]\n{text}')
    write_report(tmp_path)
    line, region = figures_of(read_study(tmp_path))
    assert line.caption == "Line: the one run at each place. No run has a number for no bound."
    assert region.caption == "Colour: the one run at each place."
    for figure in (line, region):
        axes = draw(figure.plot, figure.panels).axes[0]
        assert list(axes.get_xticks()) == [1.0]
    assert draw(line.plot, line.panels).axes[0].get_ylim() == (-0.03, 1.03), "a share is drawn between none and all"


def test_a_region_is_hatched_wherever_it_is_below_zero(figures: dict[str, Figure]) -> None:
    figure = figures["region"]
    content = figure.panels[0].content
    assert isinstance(content, Grid)
    for shift, hatched, divided in ((0, True, True), (-100, True, False), (100, False, False)):
        moved = replace(content, mean=content.mean + shift, low=content.low + shift, high=content.high + shift)
        drawn = draw(figure.plot, (Panel("", moved),)).axes[0].collections
        contours = [one.filled for one in drawn if isinstance(one, QuadContourSet)]
        assert (True in contours, False in contours) == (hatched, divided), shift


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    damaged, other = "results.json is damaged; refstep sims sweep .* makes it anew", "is not the result of a sweep of this version"
    row = b'{"points": [{"key": "", "seed": 0, "parameters": {}, "metrics": {}, "tables": {"t": {"columns": [], "rows": [[1]]}}}]}'
    for data, message in (
        (None, "has no results.json; run refstep sims sweep"),
        (b"{", damaged),
        (b"[]", other),
        (b'{"points": []}', other),
        (row, other),
    ):
        if data is not None:
            (tmp_path / "results.json").write_bytes(data)
        with pytest.raises(UsageError, match=message):
            write_report(tmp_path)


def test_a_figure_that_cannot_be_drawn_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    swept(tmp_path, 'title = "t"\nkind = "economy.game"\n[vary]\nstake = [1.0, 2.0]')
    results = json.loads((tmp_path / "results.json").read_bytes())
    results["figures"] = [{"name": "a", "x": "stake", "y": "profits"}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UsageError, match="did you mean 'profit'"):
        write_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
