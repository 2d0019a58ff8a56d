"""What can be lowered, as a page: ``python -m trainer.lowering.listing > docs/operators.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from trainer.lowering.circular import FURTHER
from trainer.lowering.functions import FUNCTIONS
from trainer.lowering.interpret import SUPPORTED
from trainer.lowering.table import OPERATORS, Lowering
from trainer.optimizers import RULES

__all__ = ["page"]

HEAD = """# Operators

Generated from the tables of the code by `python -m trainer.lowering.listing > docs/operators.md`; a test keeps it current.

Capture traces a model with PyTorch's own tracer and takes composite operators apart with PyTorch's own rules, so most of what a
model calls (linear, losses, batch norm, dropout) arrives as the operators below. Anything else is refused when the model is
captured, with its name, and the module and the source line that use it.
"""

FUNCTIONS_HEAD = """## Functions

Each is a scalar program over the instruction table. The error is the largest allowed to it, in units in the last place of the exact
result (2^-149 where that is subnormal); tests measure it over random bit patterns and ordinary values.

| function | meaning | error (ulp) |
|---|---|---|
"""

OPTIMIZERS_HEAD = """## Optimizers

Exactly these classes of `torch.optim`, with parameter groups and learning-rate schedules. `foreach`, `fused` and `capturable` only
choose how PyTorch computes an update and are ignored. Other options are refused by name.

| class | options |
|---|---|
"""


def _line(lowering: Lowering) -> str:
    return " ".join((lowering.__doc__ or "").split("\n\n")[0].split())


def _sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(module title, rows of names and meaning), operators of one lowering in one row, in the order of the names."""
    titles = {
        "elementwise": "Elementwise",
        "rounding": "Rounding and remainders",
        "shapes": "Shapes",
        "rearranging": "Rearranging",
        "sums": "Products, sums, norms and losses",
        "pairs": "Pairs of rows",
        "convolution": "Convolution",
        "pooling": "Pooling",
        "resampling": "Resampling",
        "extremes": "Largest and smallest elements",
        "scans": "Running sums and products",
        "lookups": "Lookups",
        "indexing": "Indexing",
        "randomness": "Random numbers",
    }
    for module, title in titles.items():
        rows: dict[Lowering, list[str]] = {}
        for name in SUPPORTED:
            lowering = OPERATORS[name]
            if lowering.__module__.endswith("." + module):
                rows.setdefault(lowering, []).append(f"`{name.removeprefix('aten.')}`")
        yield title, [(", ".join(names), _line(lowering)) for lowering, names in rows.items()]


def _cells(*texts: object) -> str:
    return "| " + " | ".join(str(text).replace("|", "\\|") for text in texts) + " |\n"


def page() -> str:
    """The whole page, in Markdown."""
    parts = [HEAD]
    for title, rows in _sections():
        parts.append(f"## {title}\n\n| ATen operator | meaning |\n|---|---|\n" + "".join(_cells(*row) for row in rows))
    parts.append(FUNCTIONS_HEAD + "".join(_cells(name, _line(f.expression), f.ulp) for name, f in (FUNCTIONS | FURTHER).items()))
    parts.append(
        OPTIMIZERS_HEAD
        + "".join(_cells(f"`{cls.__name__}`", ", ".join((*rule.options, *rule.switches))) for cls, rule in RULES.items())
    )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
