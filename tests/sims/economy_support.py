"""What the tests of the economic level share."""

from __future__ import annotations

from math import log

from sims.economy.draws import Moments, interval

ERRORS = 3.290526731491895  # standard errors to either side, for 99.9 %
UNSEEN = log(1000)  # what did not happen in n episodes has a probability of at most this / n, at 99.9 %


def agrees(found: Moments, expected: float, share: bool = False, scale: float = 2.0) -> bool:
    """Whether an expectation lies in the confidence interval of what was found.

    ``scale`` bounds what one episode can contribute: where all were alike the interval has no width, and yet what never happened
    may have been possible.
    """
    low, high = interval(found, ERRORS, share)
    slack = 1e-12 * max(1.0, abs(expected))
    if found.error <= slack:
        slack += scale * UNSEEN / found.count
    return low - slack <= expected <= high + slack
