"""Running sweeps: the same bytes however they are run, going on where they stopped, failures told and not lost."""

from __future__ import annotations

import fcntl
import json
import random
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from bisection.errors import UnavailableError, UsageError
from sims.kinds import Kind
from sims.result import versions
from sims.sweep import Job, Sweep
from sims.sweeping import POINTS, RESULTS, SWEEP, Untold, run_sweep
from sims.workers import Failure, Finished, Workers, in_processes, in_this_process, on_ray
from tests.sims.toys import Toy, only_toys, toy

TEXT = """\
title = "Many"
kind = "economy.{kind}"
repeats = 2
[parameters]
note = "{note}"
[vary]
rate = [0.1, 0.5, 0.9]
stake = [1.0, 2.0, 3.0, 4.0]
[[figure]]
name = "profit"
x = "stake"
y = "profit"
"""


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with only_toys():
        yield


def asked(folder: Path, kind: str = "toy", note: str = "") -> Sweep:
    path = folder / "many.toml"
    path.write_text(TEXT.format(kind=kind, note=note))
    return Sweep.load(path)


def ran(sweep: Sweep, folder: Path, workers: Workers = in_this_process) -> bytes:
    assert run_sweep(sweep, folder, workers, Untold()) == ()
    return (folder / RESULTS).read_bytes()


def shuffled(kind: Kind, jobs: Iterable[Job]) -> Iterator[Finished]:
    listed = list(jobs)
    random.Random(0).shuffle(listed)
    return in_this_process(kind, listed)


class Counted:
    """Runs in this process, and counts; ends after so many."""

    def __init__(self, most: int = 10**6) -> None:
        self.most, self.count = most, 0

    def __call__(self, kind: Kind, jobs: Iterable[Job]) -> Iterator[Finished]:
        for finished in in_this_process(kind, jobs):
            if self.count == self.most:
                raise KeyboardInterrupt
            self.count += 1
            yield finished


def test_the_results_are_the_same_however_they_are_run(tmp_path: Path) -> None:
    sweep = asked(tmp_path)
    found = ran(sweep, tmp_path / "one")
    assert ran(sweep, tmp_path / "another") == found
    assert ran(sweep, tmp_path / "shuffled", shuffled) == found
    assert ran(sweep, tmp_path / "three", in_processes(3)) == found
    assert (tmp_path / "shuffled" / POINTS).read_bytes() != (tmp_path / "one" / POINTS).read_bytes()


def test_the_results_hold_all_runs_in_the_sweeps_order(tmp_path: Path) -> None:
    sweep = asked(tmp_path)
    document = json.loads(ran(sweep, tmp_path / "out", shuffled))
    assert [(one["parameters"]["rate"], one["parameters"]["stake"], one["repeat"]) for one in document["points"]] == [
        (rate, stake, repeat) for rate in (0.1, 0.5, 0.9) for stake in (1.0, 2.0, 3.0, 4.0) for repeat in (0, 1)
    ]
    first = document["points"][0]
    outcome = toy(Toy(0.1, 1.0), first["seed"])
    assert first["metrics"] == outcome.metrics and len(first["tables"]["months"]["rows"]) == 3
    assert document["versions"] == versions() and document["failed"] == []
    assert document["vary"] == ["rate", "stake"] and document["kind"] == "economy.toy"
    assert document["about"]["stake"] == {"help": "what is staked", "unit": "bounties"}
    assert document["figures"] == [{"name": "profit", "x": "stake", "y": "profit"}]
    assert (tmp_path / "out" / SWEEP).read_text() == sweep.text
    assert not list((tmp_path / "out").glob(".*"))


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sweep = asked(tmp_path)
    whole = ran(sweep, tmp_path / "whole")
    for most in (0, 1, 7, 23):
        out, rest = tmp_path / str(most), Counted()
        with pytest.raises(KeyboardInterrupt):
            run_sweep(sweep, out, Counted(most), Untold())
        assert not (out / RESULTS).exists()
        assert (out / POINTS).read_bytes().count(b"\n") == most
        assert ran(sweep, out, rest) == whole
        assert rest.count == 24 - most


def test_what_is_damaged_is_run_again(tmp_path: Path) -> None:
    sweep, out = asked(tmp_path), tmp_path / "out"
    found = ran(sweep, out)
    lines = (out / POINTS).read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:5], b"nonsense\n", b"[]\n", b'{"key":[]}\n', b"{}\n", b"\xff\n", *lines[6:20], lines[20][:-7]])
    (out / POINTS).write_bytes(damaged)
    again = Counted()
    assert ran(sweep, out, again) == found
    assert again.count == 1 + 4
    assert ran(sweep, out, again) == found and again.count == 5, "the cut line was removed before anything was appended to it"


def test_every_cut_of_the_last_line_is_noticed(tmp_path: Path) -> None:
    sweep, out = asked(tmp_path), tmp_path / "out"
    found = ran(sweep, out)
    data = (out / POINTS).read_bytes()
    last = data.rfind(b"\n", 0, -1) + 1
    for cut in range(last, len(data), 37):
        (out / POINTS).write_bytes(data[:cut])
        assert ran(sweep, out) == found


def test_a_folder_may_hold_the_points_of_a_smaller_or_another_sweep(tmp_path: Path) -> None:
    sweep, out = asked(tmp_path), tmp_path / "out"
    ran(sweep, out)
    (tmp_path / "many.toml").write_text(TEXT.format(kind="toy", note="").replace("0.9]", "0.7]"))
    other, count = Sweep.load(tmp_path / "many.toml"), Counted()
    assert ran(other, out, count) == ran(other, tmp_path / "fresh")
    assert count.count == 8


def test_the_folder_is_all_that_is_needed_to_run_a_sweep_again(tmp_path: Path) -> None:
    for name in ("scenarios/base.toml", "base.toml", str(tmp_path / "base.toml")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text('kind = "economy.toy"\ntitle = "Base"\n[parameters]\nrate = 0.25\n')
        (tmp_path / "of.toml").write_text(f'title = "Of a file"\nscenario = "{name}"\n[vary]\nstake = [1.0, 2.0]\n')
        found = ran(Sweep.load(tmp_path / "of.toml"), tmp_path / "out")
        file.unlink()
        assert ran(Sweep.load(tmp_path / "out" / SWEEP), tmp_path / "again") == found
        assert ran(Sweep.load(tmp_path / "again" / SWEEP), tmp_path / "again") == found
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [POINTS, RESULTS, "scenario", SWEEP]
    kept = ran(asked(tmp_path), tmp_path / "of kind")
    assert ran(Sweep.load(tmp_path / "of kind" / SWEEP), tmp_path / "of kind again") == kept


def test_old_results_are_gone_while_new_ones_are_made(tmp_path: Path) -> None:
    sweep, out = asked(tmp_path), tmp_path / "out"
    ran(sweep, out)
    (out / POINTS).write_bytes(b"")
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, out, Counted(3), Untold())
    assert not (out / RESULTS).exists()


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    sweep, out = asked(tmp_path), tmp_path / "out"
    out.mkdir()
    with (out / POINTS).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="in use by another process"):
            ran(sweep, out)


def test_a_place_that_cannot_be_written_to_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="is no folder; name another with --out"):
            ran(asked(tmp_path), place)
    sweep, out = asked(tmp_path), tmp_path / "out"
    found = ran(sweep, out)
    for refused, message in (
        ("pathlib.Path.open", "out cannot be written to: Permission denied; name another folder with --out"),
        ("fcntl.flock", "out cannot be locked: Permission denied; name another folder with --out"),
        ("pathlib.Path.unlink", "results.json cannot be removed: Permission denied; name another folder with --out"),
    ):
        with patch(refused, side_effect=PermissionError(13, "Permission denied")), pytest.raises(UnavailableError, match=message):
            ran(sweep, out)
        assert (out / RESULTS).read_bytes() == found


def test_a_run_that_fails_is_told_and_does_not_lose_the_others(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    sweep, out = asked(tmp_path, "brittle", str(mended)), tmp_path / "out"
    failed = run_sweep(sweep, out, in_processes(2), Untold())
    told = [(one.job.parameters.rate, one.job.parameters.stake, one.reason) for one in failed]
    expected = [(rate, 2.0, "RuntimeError: two is too much") for rate in (0.1, 0.5, 0.9) for _ in range(2)]
    assert told == [*expected, *[(0.9, 3.0, "its process ended")] * 2]
    document = json.loads((out / RESULTS).read_bytes())
    assert [(one["parameters"]["stake"], one["error"]) for one in document["failed"]] == [
        (one.job.parameters.stake, one.reason) for one in failed
    ]
    assert len(document["points"]) == 16
    mended.write_text("")
    count = Counted()
    assert ran(sweep, out, count) == ran(sweep, tmp_path / "whole")
    assert count.count == 8


def test_a_figure_of_what_there_is_not_stops_a_sweep_at_its_first_run_and_costs_no_finished_one(tmp_path: Path) -> None:
    path, out, count = tmp_path / "many.toml", tmp_path / "out", Counted()
    right = TEXT.format(kind="toy", note="")

    def refused() -> None:
        path.write_text(right.replace('y = "profit"', 'y = "proft"'))
        with pytest.raises(UsageError, match=r"many\.toml:9: figure profit: no parameter or metric 'proft'; did you mean profit"):
            run_sweep(Sweep.load(path), out, count, Untold())
        path.write_text(right)

    refused()
    assert count.count == 1
    ran(Sweep.load(path), out, count)
    before = {file: file.read_bytes() for file in out.iterdir()}
    refused()
    assert count.count == 24 and before == {file: file.read_bytes() for file in out.iterdir()}


def test_the_listener_hears_of_every_run(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Listener:
        def begin(self, total: int, kept: int) -> None:
            heard.append((total, kept))

        def finished(self, job: Job, failure: Failure | None) -> None:
            heard.append(failure)

    sweep, out = asked(tmp_path), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, out, Counted(4), Listener())
    run_sweep(sweep, out, in_this_process, Listener())
    assert heard == [(24, 0), *[None] * 4, (24, 4), *[None] * 20]


def test_two_samples_of_the_same_values_are_two_runs(tmp_path: Path) -> None:
    path = tmp_path / "few.toml"
    path.write_text('title = ""\nkind = "economy.toy"\nmode = "random"\nsamples = 9\n[vary]\npath = ["fast"]')
    document = json.loads(ran(Sweep.load(path), tmp_path / "out"))
    assert len({one["seed"] for one in document["points"]}) == 9


# Ray --------------------------------------------------------------------------------------------------------------------


def pretended(kept: list[str]) -> ModuleType:
    """What of Ray is used, in this process: the last that was handed out is ready first, and one in seven may be lost."""
    ray = ModuleType("ray")

    class RayError(Exception):
        pass

    class Reference:
        def __init__(self, number: int, found: Any) -> None:
            self.number, self.found = number, found

    count = iter(range(1000))
    on = []

    def remote(**options: Any) -> Any:
        assert options == {"num_cpus": 1}
        return lambda function: SimpleNamespace(remote=lambda *given: Reference(next(count), function(*given)))

    def get(reference: Reference) -> Any:
        if "lossy" in kept and reference.number % 7 == 3:
            raise RayError("the node\ndied")
        return reference.found

    ray.is_initialized = lambda: bool(on)  # type: ignore[attr-defined]
    ray.init = lambda **options: (on.append(1), kept.append("init"))  # type: ignore[attr-defined]
    ray.shutdown = lambda: (on.clear(), kept.append("shutdown"))  # type: ignore[attr-defined]
    ray.remote = remote  # type: ignore[attr-defined]
    ray.wait = lambda pending, num_returns: (pending[-1:], pending[:-1])  # type: ignore[attr-defined]
    ray.get = get  # type: ignore[attr-defined]
    ray.cluster_resources = lambda: {"CPU": 2.0}  # type: ignore[attr-defined]
    ray.exceptions = SimpleNamespace(RayError=RayError)  # type: ignore[attr-defined]
    return ray


def test_ray_gives_the_same_bytes_and_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    ray = pretended(kept)
    monkeypatch.setitem(sys.modules, "ray", ray)
    sweep = asked(tmp_path)
    assert ran(sweep, tmp_path / "ray", on_ray()) == ran(sweep, tmp_path / "here")
    assert kept == ["init", "shutdown"]
    ray.init()
    ran(sweep, tmp_path / "again", on_ray())
    assert kept == ["init", "shutdown", "init"], "who had connected stays connected"


def test_what_a_cluster_loses_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", pretended(["lossy"]))
    failed = run_sweep(asked(tmp_path), tmp_path / "out", on_ray(), Untold())
    assert len(failed) == 3 and {one.reason for one in failed} == {"RayError: the node died"}


def test_without_ray_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="Ray is not installed: pip install ray, or leave out --ray"):
        on_ray()


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_itself_gives_the_same_bytes(tmp_path: Path) -> None:
    sweep = asked(tmp_path)
    assert ran(sweep, tmp_path / "ray", on_ray()) == ran(sweep, tmp_path / "here")
