"""Who takes part in a job, and what is posted and paid when it ends early."""

from __future__ import annotations

import numpy as np

from sims.economy.draws import Floats, Ints
from sims.economy.setting import Setting

__all__ = ["ROLES", "posted_and_paid"]

# What remains with each of them, in bounties: ``gas`` went to block builders, ``compute`` to whoever sells it.
ROLES = ("trainer", "friend", "requester", "watchers", "losers", "burnt", "gas", "compute")


def posted_and_paid(setting: Setting, caught: Ints, after: Floats) -> tuple[Ints, Ints]:
    """How many segments were posted, and how many final, when the fraud in segment ``caught`` convicts ``after`` so many seconds.

    A segment is final after its window's last second, and not before those ahead of it: so none is from the caught one on.
    """
    ahead = np.floor(after / setting.segment_seconds).astype(np.int64)
    posted = np.minimum(setting.segments, caught + 1 + ahead)
    paid = np.ceil(caught - (setting.window_seconds - after) / setting.segment_seconds).astype(np.int64)
    return posted, np.clip(paid, 0, caught)
