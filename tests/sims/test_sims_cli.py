"""``refstep sims``: what a person and a script see of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refstep import main
from sims import scenario, sims_cli, sweep
from sims.scenario import Scenario
from tests.sims.toys import only_toys

ROOT = Path(__file__).parents[2]
SCENARIO = """\
kind = "economy.toy"
title = "Does it pay?"
attack = 29
seed = 5
[parameters]
rate = 0.25
"""
SWEEP = """\
title = "Many"
scenario = "fraud"
[vary]
stake = [1.0, 2.0, 3.0]
"""


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, beside what is shipped: the scenario ``fraud`` and the sweep ``stakes``."""
    for module, name, text in ((scenario, "fraud", SCENARIO), (sweep, "stakes", SWEEP)):
        folder = tmp_path / "shipped" / module.__name__
        folder.mkdir(parents=True)
        (folder / f"{name}.toml").write_text(text)
        monkeypatch.setattr(module, "FOLDER", folder)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "120")
    with only_toys():
        yield work


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["sims", *arguments])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["sims", *arguments])
    assert stopped.value.code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_list_names_kinds_scenarios_and_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "list")
    assert re.search(r"economy\.toy +a kind called toy", text)
    assert re.search(r"fraud +29 +economy +Does it pay\?", text)
    assert re.search(r"stakes +3 +fraud +Many", text)


def test_show_says_what_every_parameter_means(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "show", "fraud")
    assert "Does it pay?" in text and "attack 29 of docs/attacks.md" in text
    assert re.search(r"rate +0\.25 +how often \(default: 0\.5\)", text)
    assert re.search(r"stake +1\.0 +bounties +what is staked *\n", text)


def test_what_show_prints_as_toml_is_the_scenario(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    (shipped / "fraud.toml").write_text(said(capsys, "show", "fraud", "--toml"))
    assert Scenario.load(shipped / "fraud.toml") == Scenario.named("fraud")
    assert said(capsys, "run", "fraud.toml", "--json") == said(capsys, "run", "fraud", "--json")


def test_a_run_prints_the_result_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "run", "fraud", "--json")
    assert text == Scenario.named("fraud").run().to_bytes().decode() == said(capsys, "run", "fraud", "--json")
    assert (json.loads(text)["seed"], json.loads(text)["parameters"]["rate"]) == (5, 0.25)
    other = json.loads(said(capsys, "run", "fraud", "--json", "--seed", "9", "--set", "rate=1", "--set", "path=slow"))
    assert (other["seed"], other["parameters"]["rate"], other["parameters"]["path"]) == (9, 1.0, "slow")
    assert other["metrics"] != json.loads(text)["metrics"]
    assert json.loads(said(capsys, "run", "economy.toy", "--json"))["scenario"] == "economy.toy"


def test_a_run_prints_metrics_and_tables_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "run", "fraud")
    assert "Does it pay?" in text and "economy.toy, seed 5" in text
    assert re.search(r"caught +(yes|no) *\n", text) and re.search(r"watchers +1 *\n", text) and re.search(r"delay +–", text)
    assert re.search(r"months\nmonth +income *\n +bounties *\n", text)


def metric(name: str, *values: Any) -> str:
    return " ".join(cell.plain for cell in sims_cli._metric(name, values)).strip()


def test_metrics_are_shown_in_units_that_are_easily_read() -> None:
    assert metric("delay_seconds", 345_600, None, None) == "delay 4 days"
    assert metric("profit_wei", -1_500 * 10**15, None, None) == "profit −1.5 ETH"
    assert metric("gas", 1_234_567, None, None) == "gas 1.235 million"
    assert metric("detection", 0.5, 0.25, 0.75) == "detection 0.5  0.25 … 0.75"
    assert metric("delay_seconds", 7_200, 3_600, 10_800) == "delay 2 h 1 … 3"
    assert metric("right", True, None, None) == "right yes"


MISTAKES = {
    "run fruad": "there is no scenario 'fruad'; did you mean fraud?",
    "run economy.yot": "did you mean economy.toy?",
    "run xyz": "there is no scenario 'xyz'; refstep sims list names them",
    "run shipped/fraud": "cannot read shipped/fraud",
    "run nowhere.toml": "cannot read nowhere.toml",
    "run fraud --set rate": "--set rate: expected key=value",
    "run fraud --set rate=2": "rate = 2; expected a number from 0 to 1",
    "run fraud --set raet=2": "unknown parameter 'raet'; did you mean rate?",
    "run fraud --seed -1": "--seed -1; expected a whole number from 0",
    "run fraud --seed x": "invalid int value",
    "run": "NAME_OR_FILE",
    "": "COMMAND",
    "rnu": "invalid choice: 'rnu'",
    "run bad.toml": 'bad.toml:3: rate = "x"; expected a number from 0 to 1',
    "run of.toml": "of.toml:3: a sweep; expected a scenario, or refstep sims sweep to run it",
    "show fruad": "did you mean fraud?",
    "sweep stake": "did you mean stakes?",
    "sweep stakes --workers 0": "--workers 0; expected a whole number, 1 or more",
    "sweep stakes --ray": "Ray is not installed",
    "sweep stakes --out bad.toml": "bad.toml is no folder; name another with --out",
    "report nowhere": "nowhere is no folder; expected one that refstep sims sweep has made",
    "report bad.toml": "bad.toml is no folder",
    "report .": ". has no results.json; run refstep sims sweep FILE --out . until it ends",
}


def test_mistakes_are_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shipped: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (shipped / "bad.toml").write_text('kind = "economy.toy"\ntitle = ""\nparameters.rate = "x"\n')
    (shipped / "of.toml").write_text('kind = "economy.toy"\ntitle = ""\nvary.rate = [0.5]\n')
    for arguments, message in MISTAKES.items():
        text = refused(capsys, *arguments.split())
        assert message in text and text.count("\n") == 1, (arguments, text)
    assert sorted(path.name for path in shipped.iterdir()) == ["bad.toml", "of.toml"]


def test_a_sweep_leaves_its_results_in_a_folder(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    text = said(capsys, "sweep", "stakes", "--workers", "1")
    assert text == "sweeps/stakes/results.json: 3 runs; refstep sims report sweeps/stakes draws them\n"
    found = (shipped / "sweeps/stakes/results.json").read_bytes()
    said(capsys, "sweep", "sweeps/stakes/sweep.toml", "--out", "again", "--workers", "2")
    assert (shipped / "again/results.json").read_bytes() == found


def test_failures_are_told_with_the_command_that_repeats_them(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    (shipped / "two.toml").write_text(
        'title = ""\nkind = "economy.brittle"\n[parameters]\npath = "slow"\n[vary]\nstake = [1.0, 2.0]'
    )
    text = refused(capsys, "sweep", "two.toml", "--out", "out", "--workers", "1", code=1)
    assert "failed: RuntimeError: two is too much\n" in text
    assert "1 of 2 runs failed; out/results.json has the others, the same command tries again" in text
    again = re.search(r"again: refstep (sims run economy.brittle --seed \d+) --set 'stake=2.0' --set 'path=\"slow\"'", text)
    assert again
    with pytest.raises(RuntimeError, match="too much"):
        main([*again[1].split(), "--set", "stake=2.0", "--set", 'path="slow"'])


def test_a_terminal_sees_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(["sims", "sweep", "stakes", "--workers", "1", "--out", "out"])
    captured = capsys.readouterr()
    assert "3/3" in captured.err and "stakes" in captured.err and "3/3" not in captured.out
    main(["sims", "run", "fraud", "--json"])
    captured = capsys.readouterr()
    assert "fraud, seed 5" in captured.err and json.loads(captured.out)


def test_an_interrupt_ends_a_sweep_at_once_and_the_next_call_goes_on(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    (shipped / "slow.toml").write_text(
        'title = ""\nkind = "economy.slow"\nrepeats = 4\n[vary]\nstake = [0.01, 60.0]\n[parameters]\nwatchers = 3'
    )
    command = "main(['sims', 'sweep', 'slow.toml', '--out', 'out', '--workers', '2'])"
    # Whatever runs in the background of a shell ignores interrupts.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}\nfrom refstep import main\nfrom tests.sims.toys import only_toys\nwith only_toys(): {command}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, stderr=subprocess.PIPE
    )
    points = shipped / "out" / "points.jsonl"
    while not points.exists() or points.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors == b""
    assert not (shipped / "out" / "results.json").exists() and points.read_bytes().count(b"\n") == 4
    (shipped / "slow.toml").write_text((shipped / "slow.toml").read_text().replace("60.0", "0.02"))
    said(capsys, "sweep", "slow.toml", "--out", "out", "--workers", "1")
    assert points.read_bytes().count(b"\n") == 8


def test_only_the_group_that_is_asked_for_is_imported() -> None:
    code = "import sys; from refstep import main; main(['sims', 'run', '--help'])"
    loaded = (
        "import sys, atexit; atexit.register(lambda: print([name for name in ('torch', 'web3', 'vyper') if name in sys.modules]));"
    )
    found = subprocess.run(
        [sys.executable, "-c", loaded + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.endswith("[]\n") and "--set KEY=VALUE" in found.stdout


def test_every_group_is_found_where_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    from sims.cli import GROUPS

    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    listed = set(re.findall(r"^    (\w+)\b", capsys.readouterr().out, re.MULTILINE))
    assert stopped.value.code == 0 and listed == set(GROUPS)
    for group in GROUPS:
        with pytest.raises(SystemExit) as stopped:
            main([group, "--help"])
        assert stopped.value.code == 0 and f"usage: refstep {group} " in capsys.readouterr().out
