"""This build still speaks the numerics version that it names."""

from __future__ import annotations

import json

from tests.vectors.generate import GOLDEN, vectors


def test_the_golden_vectors_hold() -> None:
    golden, now = json.loads(GOLDEN.read_text()), vectors()
    assert golden["numerics"] == now["numerics"]
    for kind in ("instructions", "trees", "program", "long runs"):
        assert golden[kind].keys() == now[kind].keys()
        for name, expected in golden[kind].items():
            assert json.loads(json.dumps(now[kind][name])) == expected, name
