"""Kinds of simulation that take no time, in functions of a module, so that other processes find them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np

from sims import kinds as table
from sims.kinds import Kind
from sims.result import Column, Outcome, Table


def about(help_text: str, default: object, **more: object) -> object:
    return field(default=default, metadata={"help": help_text, **more})


@dataclass(frozen=True)
class Toy:
    rate: float = about("how often", 0.5, least=0, most=1)  # type: ignore[assignment]
    stake: float = about("what is staked", 1.0, unit="bounties", least=0.001)  # type: ignore[assignment]
    watchers: int = about("how many watch", 1, least=0, most=64)  # type: ignore[assignment]
    burn: bool = about("whether some is burnt", True)  # type: ignore[assignment]
    path: Literal["fast", "slow"] = about("which path", "fast")  # type: ignore[assignment]
    note: str = about("anything", "")  # type: ignore[assignment]
    shares: tuple[float, ...] = about("shares", (0.2, 0.4), least=0, most=1)  # type: ignore[assignment]
    span: tuple[int, int] = about("first and last", (0, 9))  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if sum(self.shares) > 1:
            raise ValueError(f"the shares sum to {sum(self.shares):g}; expected at most 1")


def toy(parameters: Toy, seed: int) -> Outcome:
    draws = np.random.Generator(np.random.PCG64(seed)).random(3)
    lost = parameters.rate * parameters.stake
    metrics = {
        "profit": draws[0] - lost,
        "caught": draws[1] < parameters.rate,
        "watchers": np.int64(parameters.watchers),
        "delay_seconds": None,
    }
    rows = tuple((month, value) for month, value in enumerate(draws))
    return Outcome(metrics, {"months": Table((Column("month"), Column("income", "bounties", "what came in")), rows)})


def brittle(parameters: Toy, seed: int) -> Outcome:
    """Fails for one stake, ends its process for another and a high rate, until the file in ``note`` is there."""
    if not (parameters.note and Path(parameters.note).exists()):
        if parameters.stake == 2:
            raise RuntimeError("two is\ntoo much")
        if parameters.stake == 3 and parameters.rate > 0.5:
            os._exit(1)
    return toy(parameters, seed)


def slow(parameters: Toy, seed: int) -> Outcome:
    time.sleep(parameters.stake)
    return toy(parameters, seed)


@dataclass(frozen=True)
class Nothing:
    pass


def nothing(parameters: Nothing, seed: int) -> Outcome:
    return Outcome({"seed": seed})


KINDS = tuple(
    Kind(f"economy.{run.__name__}", "economy", parameters, run, f"a kind called {run.__name__}")
    for run, parameters in ((toy, Toy), (brittle, Toy), (slow, Toy), (nothing, Nothing))
)


@contextmanager
def only_toys() -> Iterator[None]:
    """The table of kinds has these, and no scenarios are shipped, while this lasts."""
    with patch.object(table, "_of_level", lambda level: {kind.name: kind for kind in KINDS if kind.level == level}):
        yield
