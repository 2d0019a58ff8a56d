"""The referee judges every element of whole random programs as the numpy reference computed it, and sees every altered claim."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from bisection.nodes import Map
from tests.differential.evm import Contract
from tests.differential.fuzz_coverage import WANTED, corpus, coverage, failures
from tests.differential.fuzzing import World, differences, questions

PROGRAMS = int(os.environ.get("FUZZ_PROGRAMS", "1000"))  # of the deep test
ENOUGH = 1_000  # of them meet all that is wanted
FIRST = int(os.environ.get("FUZZ_SEED", "10"))


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


def assert_judged(referee: Contract, world: World) -> None:
    """All that is asked about a program has the reference's answer. A seed that fails belongs to the corpus file's failures."""
    assert [told for q in questions(world) for told in differences(referee, world, q)] == []


def test_the_corpus_is_judged_as_the_reference_computes(referee: Contract) -> None:
    """It holds what its file says, which is all that is hard about a question: whoever changes the generator makes it anew."""
    covered: set[str] = set()
    for seed, rows in corpus().items():
        world = World(seed)
        asked = list(questions(world))
        for number, names in rows.items():
            covered |= names
            assert names <= coverage(world, asked[number]), f"question {number} of seed {seed}: python -m benchmarks.fuzz corpus"
            assert differences(referee, world, asked[number]) == []
    assert covered == WANTED


def test_whole_programs_are_judged_as_the_reference_computes(referee: Contract) -> None:
    """Every seed in which something differed once, and the first few."""
    for seed in (*failures(), *range(10)):
        assert_judged(referee, World(seed))


def test_a_wrong_judge_would_be_found(referee: Contract) -> None:
    """Elements of the reference are compared, not trusted: with one changed, every face that computes it disagrees."""
    world = World(1)
    q = next(q for q in questions(world) if q.part is None and not q.altered and isinstance(world.program.nodes[q.node], Map))
    assert differences(referee, world, q) == []
    world.damaged(q)
    told = differences(referee, world, q)
    assert [told[i].count(what) for i, what in enumerate(("the definition", "the judge", "the referee"))] == [1, 1, 1]


@pytest.mark.deep
def test_many_more_programs_are_judged_as_the_reference_computes(referee: Contract) -> None:
    met: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + PROGRAMS):
        world = World(seed)
        assert_judged(referee, world)
        met.update(name for q in questions(world) for name in coverage(world, q))
    assert PROGRAMS < ENOUGH or {name for name in WANTED if not met[name]} == set()
