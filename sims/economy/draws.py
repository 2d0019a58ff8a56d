"""Random numbers and their sums, the same however the work is cut.

Episodes are numbered, and come in blocks of ``BLOCK``. Each block has a generator of its own, derived from the seed, a label and
the block's number, and sums are taken in the order of blocks. So a result depends on neither the order nor the place of the work,
and the first n blocks of a longer run are those of a shorter one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import erf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "CONFIDENT", "Floats", "Ints", "Moments", "Tally", "blocks", "generator", "interval", "normal", "rounded"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 8192
CONFIDENT = 1.959963984540054  # standard errors to either side, for 95 %
DIGITS = 10


def generator(seed: int, label: str, *numbers: int) -> np.random.Generator:
    """The generator of one block of one simulation."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *label.encode()], spawn_key=numbers)))


def blocks(episodes: int, most: int = BLOCK) -> Iterator[tuple[int, int]]:
    """The number and the size of each block of at most ``most`` episodes."""
    for number, start in enumerate(range(0, episodes, most)):
        yield number, min(most, episodes - start)


def rounded(value: float) -> float:
    """``value`` with ten digits: the last bits of vectorised functions differ between processors."""
    return float(f"{value:.{DIGITS}g}") + 0.0 if isfinite(value) else value


def normal(x: float) -> float:
    """The probability that a standard normal number is at most ``x``."""
    return 0.5 * (1 + erf(x / sqrt(2)))


@dataclass(frozen=True)
class Moments:
    """Of a sample: its size, mean, and sum of squared deviations from the mean."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, sample: NDArray[np.generic]) -> Moments:
        """Those of the numbers in an array: NaN is no member of the sample."""
        values = sample.astype(np.float64)
        values = values[~np.isnan(values)]
        if not values.size:
            return cls()
        mean = float(values.mean())
        return cls(values.size, mean, float(np.square(values - mean).sum()))

    def __add__(self, other: Moments) -> Moments:
        """Those of both samples together."""
        if not self.count or not other.count:
            return other if other.count else self
        count, apart = self.count + other.count, other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart * apart * self.count * other.count / count,
        )

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 for fewer than two."""
        return sqrt(self.squares / (self.count - 1) / self.count) if self.count > 1 else 0.0

    @property
    def total(self) -> float:
        """The sum of the sample."""
        return self.mean * self.count


class Tally(dict[str, Moments]):
    """Moments by name, of columns that grow by blocks; of a name that nothing was added to, those of an empty sample."""

    def __missing__(self, name: str) -> Moments:
        return Moments()

    def add(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Take in the next block."""
        for name, column in columns.items():
            self[name] = self[name] + Moments.of(column)

    def merge(self, other: Mapping[str, Moments]) -> None:
        """Take in all that another tally has."""
        for name, moments in other.items():
            self[name] = self[name] + moments


def interval(moments: Moments, errors: float = CONFIDENT, share: bool = False) -> tuple[float, float]:
    """The confidence interval of a mean, so many standard errors wide to either side.

    It is that of the normal law; of a share that of Wilson, which is sound near 0 and 1 too.
    """
    if not share:
        return moments.mean - errors * moments.error, moments.mean + errors * moments.error
    if not moments.count:
        return 0.0, 1.0
    n, z2 = moments.count, errors * errors
    middle = (moments.mean + z2 / (2 * n)) / (1 + z2 / n)
    wide = errors / (1 + z2 / n) * sqrt(moments.mean * (1 - moments.mean) / n + z2 / (4 * n * n))
    return (middle - wide if moments.mean > 0 else 0.0), (middle + wide if moments.mean < 1 else 1.0)
