"""Scenarios: what a file may say, how a bad one is refused, and that equal ones give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import UsageError
from sims import scenario as module
from sims.documents import Document
from sims.parameters import BadParameter, build, parameters_of, values_of
from sims.result import Column, Outcome, Result, Table, versions
from sims.scenario import LARGEST_SEED, Scenario
from tests.sims.toys import KINDS, Toy, only_toys

GOOD = """\
# a comment
kind = "economy.toy"
title = "Does it pay?"
attack = 29
seed = 7

[parameters]
rate = 0.25
shares = [
  0.1,  # burnt
  0.2,
]
watchers = 3
"""


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with only_toys():
        yield


def load(folder: Path, text: str | bytes) -> Scenario:
    path = folder / "asked.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Scenario.load(path)


def test_a_file_says_what_is_simulated(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD)
    assert (scenario.name, scenario.kind.name, scenario.title) == ("asked", "economy.toy", "Does it pay?")
    assert (scenario.attack, scenario.seed) == (29, 7)
    assert scenario.parameters == Toy(rate=0.25, shares=(0.1, 0.2), watchers=3)


def test_all_but_kind_and_title_has_a_default(tmp_path: Path) -> None:
    scenario = load(tmp_path, 'kind = "economy.toy"\ntitle = ""')
    assert scenario == Scenario("asked", KINDS[0], "", Toy(), 0, None)


REFUSED = (
    ("rate = 0.25", "rate = 1.5", 8, "rate = 1.5; expected a number from 0 to 1"),
    ("rate = 0.25", "rate = nan", 8, "rate = nan; expected a number from 0 to 1"),
    ("rate = 0.25", 'rate = "x"', 8, 'rate = "x"; expected a number from 0 to 1'),
    ("rate = 0.25", "rate = true", 8, "rate = true; expected a number from 0 to 1"),
    ("rate = 0.25", "stake = 0", 8, "stake = 0; expected a number, 0.001 or more"),
    ("rate = 0.25", "raet = 0.1", 8, "unknown parameter 'raet'; did you mean rate?"),
    ("  0.2,\n", "  2.0,\n", 9, "shares = [0.1, 2.0]; expected a list, of which each is a number from 0 to 1"),
    ("  0.2,\n", "  1.0,\n", 7, "the shares sum to 1.1; expected at most 1"),
    ("watchers = 3", "watchers = 3.0", 13, "watchers = 3.0; expected a whole number from 0 to 64"),
    ("watchers = 3", "watchers = 65", 13, "watchers = 65; expected a whole number from 0 to 64"),
    ("watchers = 3", "watchers = false", 13, "watchers = false; expected a whole number from 0 to 64"),
    ("watchers = 3", "burn = 1", 13, "burn = 1; expected true or false"),
    ("watchers = 3", "note = 1", 13, "note = 1; expected a text"),
    ("watchers = 3", 'path = "fsat"', 13, 'path = "fsat"; expected one of "fast", "slow"'),
    ("watchers = 3", "shares = 1", 13, "cannot overwrite a value; expected valid TOML"),
    ("watchers = 3", "span = [1]", 13, "span = [1]; expected a list of 2, of which each is a whole number"),
    ("watchers = 3", "span = 1", 13, "span = 1; expected a list of 2, of which each is a whole number"),
    ("watchers = 3", "watchers = ", 13, "invalid value; expected valid TOML"),
    ("watchers = 3\n", "watchers = [", 13, "invalid value; expected valid TOML"),
    ("seed = 7", "seed = -1", 5, f"seed = -1; expected a whole number from 0 to {LARGEST_SEED}"),
    ("seed = 7", f"seed = {LARGEST_SEED + 1}", 5, f"seed = {LARGEST_SEED + 1}; expected a whole number"),
    ("seed = 7", "seed = 7.0", 5, "seed = 7.0; expected a whole number"),
    ("attack = 29", "attack = 0", 4, "attack = 0; expected a number in docs/attacks.md"),
    ("seed = 7", "sead = 7", 5, "unknown key 'sead'; did you mean seed?"),
    ('"economy.toy"', '"economy.tyo"', 2, "there is no kind 'economy.tyo'; did you mean economy.toy?"),
    ('"economy.toy"', "3", 2, "kind = 3; expected a text"),
    ('kind = "economy.toy"', "", 1, "kind is missing; expected a text"),
    ('title = "Does it pay?"', "", 1, "title is missing; expected a text"),
    ("[parameters]", "[[parameters]]", 7, "expected a table"),
    ("[parameters]", "[vary]\nx = 1\n[parameters]", 7, "a sweep; expected a scenario, or refstep sims sweep to run it"),
)


def test_a_bad_file_is_refused_with_its_line_and_what_was_expected(tmp_path: Path) -> None:
    for found, instead, line, message in REFUSED:
        assert found in GOOD
        with pytest.raises(UsageError) as refused:
            load(tmp_path, GOOD.replace(found, instead))
        said = str(refused.value)
        assert said.startswith(f"{tmp_path}/asked.toml:{line}: ") and message in said and "\n" not in said, (instead, said)


def test_files_that_are_no_toml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"asked\.toml:3: bytes that are no UTF-8"):
        load(tmp_path, b'kind = "x"\n\n\xff')
    with pytest.raises(UsageError, match=r"asked\.toml is larger than"):
        load(tmp_path, b"#" * 2_000_000)
    with pytest.raises(UsageError, match=r"asked\.toml is nested too deeply"):
        load(tmp_path, "x = " + "[" * 100_000)
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.toml"):
        Scenario.load(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match="cannot read"):
        Scenario.load(tmp_path)


def test_a_line_is_found_however_the_value_is_written() -> None:
    text = '''\
top = 1
text = """
rate = 1
[parameters]
rate = 2
"""
parameters.a.b = 1   # dotted
inline = {x = 1, "y z" = 2}
"quoted key" = 3
[table]
list = [
  1,
  2]
[[figure]]
name = 1
[[figure]]

# the second's
name = 2
'''
    document = Document.parse(text, "f")
    lines = {
        ("top",): 1,
        ("text",): 2,
        ("parameters", "a", "b"): 7,
        ("inline", "y z"): 8,
        ("quoted key",): 9,
        ("table",): 10,
        ("table", "list"): 11,
        ("table", "list", 1): 11,
        ("figure", 0): 14,
        ("figure", 0, "name"): 15,
        ("figure", 1): 16,
        ("figure", 1, "name"): 19,
        ("figure", 1, "absent"): 16,
        ("absent",): 1,
    }
    assert {where: document.line(where) for where in lines} == lines
    assert Document.parse(text.replace("\n", "\r\n"), "f").line(("figure", 1, "name")) == 19


@given(st.data())
def test_every_line_of_a_generated_document_is_found(data: st.DataObject) -> None:
    values = st.sampled_from(["1", '"""\nk0 = 1\n"""', "[\n1,\n2\n]", "{a = 1}", "'#'"])
    fill = st.sampled_from(["", "\n", "# k0 = 1\n", "\n\n"])
    text, expected = "", {}
    for table in range(data.draw(st.integers(0, 3))):
        text += data.draw(fill) + f"[t{table}]\n"
        for key in range(data.draw(st.integers(0, 4))):
            text += data.draw(fill)
            expected[f"t{table}", f"k{key}"] = text.count("\n") + 1
            text += f"k{key} = {data.draw(values)}\n"
    document = Document.parse(text, "f")
    assert {where: document.line(where) for where in expected} == expected


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        Toy,
        rate=st.floats(0, 1),
        stake=st.floats(0.001, 1e300),
        watchers=st.integers(0, 64),
        burn=st.booleans(),
        path=st.sampled_from(["fast", "slow"]),
        note=texts,
        shares=st.lists(st.floats(0, 0.3), max_size=3).map(tuple),
        span=st.tuples(st.integers(), st.integers()),
    ),
    texts,
    st.integers(0, LARGEST_SEED),
    st.none() | st.integers(1, 99),
)
def test_a_scenario_is_read_as_it_was_written(parameters: Toy, title: str, seed: int, attack: int | None) -> None:
    with only_toys():
        scenario = Scenario("it", KINDS[0], title, parameters, seed, attack)
        assert Scenario.from_toml(scenario.to_toml(), "it") == scenario


def test_written_parameters_say_what_they_mean() -> None:
    text = Scenario("it", KINDS[0], "it", Toy()).to_toml()
    assert "# what is staked [bounties]; a number, 0.001 or more\nstake = 1.0\n" in text


def test_names_lead_to_what_is_shipped_and_to_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    (tmp_path / "fraud.toml").write_text(GOOD)
    assert module.names() == ("fraud",)
    assert Scenario.named("fraud").title == Scenario.found("fraud").title == "Does it pay?"
    assert Scenario.found(f"{tmp_path}/fraud.toml") == Scenario.named("fraud")
    assert Scenario.named("economy.toy") == Scenario("economy.toy", KINDS[0], KINDS[0].summary, Toy())
    for name, nearest in (("fruad", "fraud"), ("economy.yot", "economy.toy"), ("economics.toy", "economy.toy")):
        with pytest.raises(UsageError, match=f"did you mean {nearest}"):
            Scenario.named(name)
    with pytest.raises(UsageError, match="no scenario 'nowhere'; refstep sims list names them"):
        Scenario.named("nowhere")


def test_a_command_line_changes_parameters() -> None:
    scenario = Scenario.named("economy.toy")
    changed = scenario.set(["rate=1", "path=slow", "note='a=b'", "burn=false", "shares=[0.1]", " watchers = 2"])
    assert changed.parameters == Toy(1.0, 1.0, 2, False, "slow", "a=b", (0.1,))
    assert scenario.parameters == Toy()
    for wrong, message in (
        ("rate", "expected key=value"),
        ("rate=2", "--set rate=2: rate = 2; expected a number from 0 to 1"),
        ("rate=x", 'rate = "x"; expected a number'),
        ("raet=1", "did you mean rate?"),
        ("rate=0\nseed=1", "expected a number"),
    ):
        with pytest.raises(UsageError) as refused:
            scenario.set([wrong])
        assert message in str(refused.value)


def test_equal_seeds_give_equal_bytes_that_say_how_to_repeat_them() -> None:
    scenario = Scenario("it", KINDS[0], "it", Toy(rate=0.125), seed=3)
    found = scenario.run()
    assert found.to_bytes() == scenario.run(3).to_bytes() != scenario.run(4).to_bytes()
    document = json.loads(found.to_bytes())
    assert {name: document[name] for name in ("scenario", "kind", "seed")} == {"scenario": "it", "kind": "economy.toy", "seed": 3}
    assert document["parameters"] == json.loads(json.dumps(values_of(Toy(rate=0.125))))
    assert document["versions"] == versions() and set(versions()) == {"refstep", "numerics", "numpy"}
    assert document["metrics"]["watchers"] == 1 and document["metrics"]["delay_seconds"] is None
    assert document["metrics"]["caught"] in (True, False)
    assert [column["name"] for column in document["tables"]["months"]["columns"]] == ["month", "income"]
    assert len(document["tables"]["months"]["rows"]) == 3
    assert json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" == found.to_bytes().decode()


def test_wei_are_kept_exactly() -> None:
    result = Result("it", "chain.it", 0, {}, Outcome({"profit_wei": 3 * 10**18 + 1}).metrics)
    assert json.loads(result.to_bytes())["metrics"]["profit_wei"] == 3 * 10**18 + 1


def test_what_json_cannot_hold_is_refused() -> None:
    assert Outcome({"x": float("nan")}).metrics == {"x": None}
    for wrong in (float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="x is infinite"):
            Outcome({"x": wrong})
    for other in ([1], b"", {}, 1j):
        with pytest.raises(TypeError, match="x is a"):
            Outcome({"x": other})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="a row of 1 values in a table of 2 columns"):
        Table((Column("x"), Column("y")), ((1,),))


def test_parameters_of_other_types_are_refused() -> None:
    from dataclasses import make_dataclass

    for hint in (list, bytes, tuple[int, str], dict[str, int], int | None):
        with pytest.raises(TypeError, match="x"):
            parameters_of(make_dataclass("Wrong", [("x", hint)]))
    with pytest.raises(BadParameter, match="did you mean stake"):
        build(Toy, {"steak": 1})
