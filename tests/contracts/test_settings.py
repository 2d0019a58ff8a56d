"""Where settings come from, what they may be, and what is said about those that are not."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import UsageError
from contracts.settings import KINDS, Wei, add_flags, format_ether, gather, printable, resolve, setting


@dataclass(frozen=True)
class Settings:
    """One setting of every type."""

    name: str = setting("a name")
    count: int = setting("how many", 3, least=1)
    pause: float = setting("how long", 2.0)
    loud: bool = setting("whether to shout", False)
    place: Path | None = setting("where", None)
    price: Wei = setting("what it costs, in ether", Wei(5 * 10**17))


def settings(*flags: str, toml: str | None = None, folder: Path = Path(), **environment: str) -> Settings:
    parser = ArgumentParser()
    add_flags(parser, Settings)
    if toml is not None:
        (folder / "settings.toml").write_text(toml)
        flags = (*flags, "--config", str(folder / "settings.toml"))
    return resolve(Settings, parser.parse_args(flags), environment)


def test_defaults_hold_where_nothing_is_said() -> None:
    assert settings("--name", "x") == Settings(name="x", count=3, pause=2.0, loud=False, place=None, price=Wei(5 * 10**17))


def test_a_flag_comes_before_the_environment_and_that_before_a_file(tmp_path: Path) -> None:
    toml = 'name = "file"\ncount = 10\npause = 0.5\nloud = true\nplace = "/here"\nprice = 2'
    found = settings("--name", "flag", toml=toml, folder=tmp_path, REFSTEP_NAME="environment", REFSTEP_COUNT="20")
    assert found == Settings(name="flag", count=20, pause=0.5, loud=True, place=Path("/here"), price=Wei(2 * 10**18))


def test_the_file_can_be_named_in_the_environment_and_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text('name = "file"')
    assert settings(REFSTEP_CONFIG=str(tmp_path / "it.toml"), REFSTEP_NAME="", REFSTEP_COUNT="").name == "file"


def test_a_path_can_start_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert settings("--name", "x", "--place", "~/there").place == Path("/home/of/mine/there")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("count = 1.5", "count must be a whole number, 1 or more, not 1.5"),
        ("count = 0", "count must be a whole number, 1 or more, not 0"),
        ("count = true", "count must be a whole number, 1 or more, not True"),
        ('count = "many"', "not 'many'"),
        ("pause = nan", "pause must be a number"),
        ("pause = [1]", "pause must be a number"),
        ("loud = 1", "loud must be true or false"),
        ("name = 5", "name must be a text"),
        ('name = ""', "name must be a text"),
        ("place = 5", "place must be a path"),
        ('price = "-1"', "price must be an amount of ether such as 0.5"),
        ("price = 1e-19", "price must be an amount of ether"),
        ('price = "1e999999999"', "price must be an amount of ether"),
        ('price = "nan"', "price must be an amount of ether"),
        ('price = "0x10"', "price must be an amount of ether"),
        ("price = {a = 1}", "price must be an amount of ether"),
        ("nmae = 5", "unknown setting nmae; known are count, loud, name, pause, place, price"),
        ("[table]", "unknown setting table"),
        ("name = ", "no valid TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_and_origin(tmp_path: Path, toml: str, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        settings(toml=toml, folder=tmp_path)
    assert words in str(refusal.value)
    assert "settings.toml" in str(refusal.value)


def test_the_origin_of_a_wrong_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"--count: count must"):
        settings("--name", "x", "--count", "x")
    with pytest.raises(UsageError, match=r"REFSTEP_COUNT: count must"):
        settings("--name", "x", REFSTEP_COUNT="x")


def test_all_that_is_missing_is_named_with_a_way_to_give_it() -> None:
    with pytest.raises(UsageError, match=r"name must be set: by flag \(--name\), environment \(REFSTEP_NAME\) or in a TOML file"):
        settings()


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_is_no_text_or_not_there(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "it.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"it\.toml"):
        settings(REFSTEP_CONFIG=str(tmp_path / "it.toml"))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    name=texts, count=st.integers(1), pause=st.floats(allow_nan=False, allow_infinity=False), loud=st.booleans(),
    place=st.none() | st.text("abc /.-", min_size=1).map(Path), price=st.integers(0, 2**256 - 1).map(Wei),
)  # fmt: skip
def test_what_is_printed_can_be_read_back(tmp_path_factory: pytest.TempPathFactory, **values: Any) -> None:
    environment = {f"REFSTEP_{name.upper()}": KINDS_OF[name](value) for name, value in values.items() if value is not None}
    parser = ArgumentParser()
    add_flags(parser, Settings)
    given = gather(Settings, parser.parse_args([]), environment)
    folder = tmp_path_factory.getbasetemp()
    assert settings(toml=printable(Settings, given), folder=folder) == Settings(**values)


KINDS_OF = {
    "name": str, "count": str, "pause": repr, "loud": KINDS[bool].write, "place": str, "price": format_ether,
}  # fmt: skip


def test_what_is_printed_says_where_it_comes_from_and_what_is_missing() -> None:
    parser = ArgumentParser()
    add_flags(parser, Settings)
    lines = printable(Settings, gather(Settings, parser.parse_args(["--count", "7"]), {"REFSTEP_PAUSE": "4"})).splitlines()
    assert lines == [
        "# name must be set: a name",
        "count = 7  # --count",
        "pause = 4.0  # REFSTEP_PAUSE",
        "loud = false  # default",
        "# place is not set: where",
        'price = "0.5"  # default',
    ]


def test_help_tells_every_setting_with_its_default() -> None:
    parser = ArgumentParser()
    add_flags(parser, Settings)
    text = " ".join(parser.format_help().split())
    assert "--name TEXT required: a name" in text
    assert "--count N how many (default: 3)" in text
    assert "--price ETHER what it costs, in ether (default: 0.5)" in text


@given(st.integers(0, 2**256 - 1))
def test_an_amount_in_ether_is_exact(amount: int) -> None:
    text = format_ether(amount)
    assert KINDS[Wei].read(text) == amount
    assert "." not in text or text[-1] not in ".0"
