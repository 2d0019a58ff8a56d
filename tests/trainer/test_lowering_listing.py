"""docs/operators.md lists what the tables hold."""

from __future__ import annotations

from pathlib import Path

from trainer.lowering.functions import FUNCTIONS
from trainer.lowering.interpret import SUPPORTED
from trainer.lowering.listing import page
from trainer.lowering.table import OPERATORS

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m trainer.lowering.listing > docs/operators.md"


def test_every_operator_and_function_is_on_it() -> None:
    text = page()
    assert all(f"`{name.removeprefix('aten.')}`" in text for name in SUPPORTED)
    assert all(f"| {name} |" in text for name in FUNCTIONS)


def test_every_lowering_says_what_it_does() -> None:
    assert all(lowering.__doc__ for lowering in OPERATORS.values())
