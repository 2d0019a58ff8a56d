"""What every test may rely on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no failure, and CI tries the same examples every time.
settings.register_profile("refstep", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("refstep")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command run inside a test takes over the process's logging, as a command does; the next test gets it back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
