"""Long runs: their parts combine to the element; a wrong element is convicted at one part of it, a right one never is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection import reference
from bisection.agent import Challenger, Defender, Nothing, Served
from bisection.boundary import tensor_bytes
from bisection.cut import PART_LENGTH, combined, element, load, part_count, part_length, part_result, run_starts, takes_max
from bisection.descent import parts_of, parts_payload
from bisection.errors import IllegalMove
from bisection.game import (
    ConcludePart,
    DemandRun,
    Game,
    Outcome,
    Owed,
    Pick,
    Refute,
    Reveal,
    Revealed,
    StepOpening,
    Timeout,
    TreeKind,
    apply,
)
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.nodes import DTYPES, MAX_LENGTH, MAX_RUN, Dot, Node, Reduce, Ref, RunNode, ScatterAdd
from bisection.numbers import wrap
from bisection.solver import own_parts, parts_below
from bisection.trace import MemoryTrace
from bisection.witness import (
    Leaf,
    PartWitness,
    StepRoots,
    judge,
    judge_part,
    locate_run,
    node_proof,
    part_witness,
    witness,
)
from tests.support.liar import Choice, Liar, balanced
from tests.support.model_chain import TRAINER, HonestService, ModelChain, claim_of
from tests.support.programs import run_program

STEPS = 2


@dataclass(frozen=True)
class Job:
    """A program around one long node, its honest execution, and the number of the node and of the tensor that it writes."""

    trace: MemoryTrace
    node: RunNode
    number: int
    tensor: int

    def fetch(self, i: int, first: int, count: int) -> list[int]:
        ref = self.node.inputs[i]
        size = DTYPES[ref.dtype].size
        return load(self.trace.tensor(0, ref.tensor)[first * size : (first + count) * size], ref.dtype)

    def forged(self, position: int, change: int) -> MemoryTrace:
        """The execution of a trainer that adds ``change`` to one element of the node at the first step."""
        program = self.trace.program

        def tamper(number: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
            if number != self.number:
                return outputs
            (wrong,) = (output.copy() for output in outputs)
            wrong[position] = wrap(int(wrong[position]) + change, 8 * wrong.itemsize)
            return [wrong]

        return MemoryTrace(program, self.trace._states[0], self.trace._data, STEPS, {0: tamper})

    def opening(self) -> StepOpening:
        history = self.trace.history()
        proofs = [tuple(history.prove(leaf)) for leaf in (0, 1)]
        return StepOpening(0, history.node(0, 0), proofs[0], history.node(0, 1), proofs[1])

    def claim(self, position: int, trace: MemoryTrace | None = None) -> Leaf:
        """The opening of one element of the node, as the trainer with this trace committed it."""
        claimed = trace or self.trace
        data, leaf = claimed.tensor(0, self.tensor), position * DTYPES[self.node.outputs[0].dtype].size // LEAF_BYTES
        tree, path = blob_tree(data), tuple(claimed.tensors(0).prove(self.tensor))
        return Leaf(tree.root, path, data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES], tuple(tree.prove(leaf)))

    def part(self, position: int, part: int) -> PartWitness:
        tensors = self.trace.tensors(0)
        return part_witness(self.trace.program, self.number, position, part, lambda n: self.trace.tensor(0, n), tensors.prove)


def job(
    kind: type[Node], length: int, dtypes: tuple[str, str] = ("i8", "i8"), op: str = "sum", seed: int = 0, rows: int = 2
) -> Job:
    program, state, data = run_program(np.random.default_rng(seed), kind, length, dtypes, op, rows)
    number = next(i for i, node in enumerate(program.nodes) if isinstance(node, RunNode))
    node = program.nodes[number]
    assert isinstance(node, RunNode)
    return Job(MemoryTrace(program, state, data, STEPS), node, number, node.outputs[0].tensor)


@st.composite
def jobs(draw: st.DrawFn, longest: int = 5000) -> Job:
    kind = draw(st.sampled_from([Reduce, Dot, ScatterAdd]))
    op = draw(st.sampled_from(["sum", "max"])) if kind is Reduce else "sum"
    names = {"max": ["i32", "i64"]}.get(op) or (["i8", "i16", "i32"] if kind is Dot else ["i8", "i16", "i32", "i64"])
    dtypes = draw(st.tuples(st.sampled_from(names), st.sampled_from(names)))
    return job(kind, draw(st.integers(MAX_LENGTH + 1, longest)), dtypes, op, draw(st.integers(0, 2**32 - 1)))


# Parts ------------------------------------------------------------------------------------------------------------------


@given(jobs(), st.data())
def test_the_parts_of_a_run_combine_to_its_element(job: Job, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, job.node.outputs[0].count - 1))
    parts = [part_result(job.node, position, part, job.fetch) for part in range(part_count(job.node))]
    whole = element(job.node, 0, position, job.fetch)
    assert combined(parts, takes_max(job.node)) == whole
    assert all(part == wrap(part, 64) for part in parts)
    inputs = [np.frombuffer(job.trace.tensor(0, ref.tensor), reference.NUMPY_TYPES[ref.dtype]) for ref in job.node.inputs]
    starts = run_starts(job.node, position)
    runs = [x[start : start + job.node.length] for x, start in zip(inputs, starts, strict=True)]
    assert reference.part_results(job.node, runs, position) == parts
    registers = load(job.trace.tensor(0, job.tensor), job.node.outputs[0].dtype)
    assert registers[position] == whole, "the reference computes long runs exactly"


@pytest.mark.parametrize("dtypes", [("i8", "i8"), ("i16", "i8"), ("i8", "i32"), ("i64", "i64")])
def test_a_part_of_a_longer_run_has_256_elements_of_any_width(dtypes: tuple[str, str]) -> None:
    node = job(ScatterAdd, MAX_LENGTH + 1, dtypes).node
    assert part_length(node) == PART_LENGTH == 256 and part_count(node) == 5


def test_a_run_that_one_verdict_reads_is_one_part() -> None:
    node = job(ScatterAdd, MAX_LENGTH, ("i64", "i64")).node
    assert part_length(node) == MAX_LENGTH and part_count(node) == 1


def test_runs_end_where_their_encoding_does() -> None:
    x, y = Ref(0, "i8", MAX_RUN), Ref(1, "i64", 1)
    node = Reduce((x,), (y,), "sum", MAX_RUN)
    assert Node.decode(node.encode()) == node


# Disputes ---------------------------------------------------------------------------------------------------------------


def dispute(job: Job, trainer: MemoryTrace, choose: Choice, served: Served) -> tuple[ModelChain, Game]:
    """Play a dispute between a lying trainer and an honest challenger to its end."""
    chain = ModelChain()
    challenger = Challenger(chain, job.trace, claim_of(trainer.program, trainer, STEPS), served)
    liar = Liar(chain, trainer, choose)
    number = challenger.open()
    assert number is not None
    while challenger.play(number) and liar.play(number):
        assert chain.moves < 40
    return chain, chain.game(number)


def drawn(data: st.DataObject) -> Choice:
    """Partial results of any sort that combine rightly."""

    def choose(own: tuple[int, ...], value: int, maximum: bool) -> list[int]:
        places = st.integers(0, len(own) - 1)
        parts = list(own)
        for at, wrong in data.draw(st.dictionaries(places, st.integers(-(2**63), 2**63 - 1), max_size=4)).items():
            parts[at] = wrong
        return balanced(parts, data.draw(places), value, maximum)

    return choose


@given(jobs(), st.sampled_from([1, -1, 1 << 20, -(1 << 31), (1 << 31) - 1]), st.booleans(), st.data())
def test_a_wrong_element_is_convicted_whatever_parts_the_trainer_shows(
    job: Job, change: int, served: bool, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, job.node.outputs[0].count - 1))
    trainer = job.forged(position, change)
    _, game = dispute(job, trainer, drawn(data), HonestService(trainer) if served else Nothing())
    assert game.outcome == Outcome.CONVICTED and game.verdict is not None
    assert (game.verdict.node, game.verdict.position) == (job.number, position) == game.run


@pytest.mark.parametrize("hide_at", [0, 7, 63])
@pytest.mark.parametrize("kind", [Reduce, Dot, ScatterAdd])
def test_a_run_of_a_million_elements_takes_two_rounds(kind: type[Node], hide_at: int) -> None:
    large = job(kind, 1 << 20, rows=1)
    trainer = large.forged(0, 1)
    chain, game = dispute(large, trainer, lambda own, value, top: balanced(own, hide_at, value, top), HonestService(trainer))
    assert game.outcome == Outcome.CONVICTED and game.verdict is not None
    assert game.verdict.claimed - game.verdict.correct == 1
    # Opening, trace; demand, parts of parts, pick, parts; verdict.
    assert game.descent is not None and game.descent.position == hide_at and chain.moves == 7


def test_a_trainer_whose_parts_do_not_combine_is_silent_or_refuted() -> None:
    wrong = job(Dot, 3000)
    chain = ModelChain()
    trainer = wrong.forged(1, 5)
    challenger = Challenger(chain, wrong.trace, claim_of(trainer.program, trainer, STEPS), HonestService(trainer))
    number = challenger.open()
    assert number is not None
    while chain.game(number).owed != Owed.PARTS:
        challenger.play(number)
        Defender(chain, trainer).play(number)
    game = chain.game(number)
    assert game.descent is not None
    d, own = game.descent, parts_below(own_parts(game, trainer), game.descent)
    moves = chain.moves
    Defender(chain, trainer).play(number)
    assert chain.moves == moves, "it cannot defend a wrong element"
    silent = apply(game, Timeout(), ModelChain.CLOCKS[0] + 1)
    assert silent.outcome == Outcome.CONVICTED
    for parts in (own[:-1], (*own, 0), ()):
        with pytest.raises(IllegalMove, match="wrong length"):
            chain.move(number, Reveal(d.trail, d.picked, parts_payload(parts)))
    with pytest.raises(IllegalMove, match="more than 64 bits"):
        parts_payload((own[0] + (1 << 64), *own[1:]))
    chain.move(number, Reveal(d.trail, d.picked, parts_payload(own)))
    challenger.play(number)
    game = chain.game(number)
    assert game.outcome == Outcome.CONVICTED and game.verdict is None, "refuted, not judged"


def test_a_trainer_cannot_take_back_a_partial_result() -> None:
    """What it answers to a pick must combine to the number that it revealed, not to another that would suit it."""
    large = job(Dot, 1 << 17, ("i16", "i16"), rows=1)  # 512 parts: two rounds
    chain, number = demanded(large, 0)
    Defender(chain, large.trace).play(number)
    shown = chain.revelations(number)[-1]
    descent = chain.game(number).descent
    assert isinstance(shown, Revealed) and len(parts_of(shown.payload)) == 32 and descent is not None
    chain.move(number, Pick(descent.seal(TRAINER), 5))
    game = chain.game(number)
    d = game.descent
    assert d is not None and d.value == parts_of(shown.payload)[5]
    below = parts_below(own_parts(game, large.trace), d)
    for move in (Reveal(descent.trail, 5, bytes(128)), Reveal(d.trail, 4, bytes(128)), Reveal(bytes(32), 5, bytes(128))):
        with pytest.raises(IllegalMove, match="not what the trainer owes"):
            chain.move(number, move)
    raised = parts_payload((below[0] + 1, *below[1:]))
    lied = apply(game, Reveal(d.trail, 5, raised), 0)
    refutation = Refute(descent.trail, 3, shown.payload, raised)
    assert apply(lied, refutation, 0).outcome == Outcome.CONVICTED
    told = apply(game, Reveal(d.trail, 5, parts_payload(below)), 0)
    with pytest.raises(IllegalMove, match="something else revealed"):
        apply(told, refutation, 0)
    with pytest.raises(IllegalMove, match="nothing to refute"):
        apply(told, replace(refutation, below=parts_payload(below)), 0)


def test_a_run_cannot_be_demanded_before_the_trace_is_known() -> None:
    long, chain = job(Reduce, 3000), ModelChain()
    demand = DemandRun(node_proof(long.trace.program, long.number), 0, long.claim(0))
    blind = chain.open(claim_of(long.trace.program, long.trace, STEPS), None)
    Defender(chain, long.trace).play(blind)
    with pytest.raises(IllegalMove, match="no trace yet"):
        chain.move(blind, demand)


class Fickle(HonestService):
    """Serves a trace until ``silent``, then nothing."""

    silent = False

    def history(self) -> Sequence[bytes] | None:
        return None if self.silent else super().history()

    def trace(self, step: int) -> Sequence[bytes] | None:
        return None if self.silent else super().trace(step)

    def tensor(self, step: int, number: int) -> bytes | None:
        return None if self.silent else super().tensor(step, number)


@pytest.mark.parametrize("silent_after", range(9))
@pytest.mark.parametrize("kind", [Reduce, Dot, ScatterAdd])
def test_a_new_agent_goes_on_with_a_run_even_when_the_service_falls_silent(kind: type[Node], silent_after: int) -> None:
    large = job(kind, 1 << 16, rows=1)
    trainer = large.forged(0, 1)
    chain, served, claim = ModelChain(), Fickle(trainer), claim_of(trainer.program, trainer, STEPS)
    liar = Liar(chain, trainer, lambda own, value, top: balanced(own, len(own) // 2, value, top))
    number = Challenger(chain, large.trace, claim, served).open()
    assert number is not None
    served.silent = silent_after == 0
    while Challenger(chain, large.trace, claim, served).play(number) and liar.play(number):
        served.silent = chain.moves >= silent_after
        assert chain.moves < 40
    game = chain.game(number)
    assert game.outcome == Outcome.CONVICTED and game.verdict is not None and game.verdict.node == large.number


# A right element --------------------------------------------------------------------------------------------------------


def demanded(job: Job, position: int) -> tuple[ModelChain, int]:
    """A game against the honest trainer in which a run has just been demanded."""
    chain = ModelChain()
    number = chain.open(claim_of(job.trace.program, job.trace, STEPS), job.opening())
    Defender(chain, job.trace).play(number)
    chain.move(number, DemandRun(node_proof(job.trace.program, job.number), position, job.claim(position)))
    return chain, number


@given(jobs(longest=40_000), st.data())
def test_a_right_element_is_never_convicted_whatever_the_challenger_picks(job: Job, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, job.node.outputs[0].count - 1))
    chain, number = demanded(job, position)
    trainer = Defender(chain, job.trace)
    while True:
        trainer.play(number)
        game = chain.game(number)
        d = game.descent
        assert d is not None and d.below is not None and game.owed == Owed.NOTHING
        parts = parts_of(d.below)
        child = data.draw(st.integers(0, len(parts) - 1))
        if d.levels == d.height:
            break
        chain.move(number, Pick(d.seal(TRAINER), child))
    w = job.part(position, d.position << d.levels | child)
    chain.move(number, ConcludePart(w.node, d.trail, d.below, child, w.inputs))
    game = chain.game(number)
    assert game.outcome == Outcome.ACQUITTED and game.verdict is not None
    assert game.verdict.claimed == game.verdict.correct == parts[child]


def test_what_a_challenger_may_not_do_with_a_run() -> None:
    honest = job(ScatterAdd, 1 << 15, ("i64", "i8"), rows=1)  # 128 parts: two rounds
    program = honest.trace.program
    chain, number = demanded(honest, 3)
    trainer = Defender(chain, honest.trace)
    trainer.play(number)
    top = chain.game(number).descent
    assert top is not None and top.below is not None and (top.count, top.height, top.levels) == (128, 7, 4)
    first = honest.part(3, 0)
    with pytest.raises(IllegalMove, match="no parts revealed"):
        chain.move(number, ConcludePart(first.node, top.trail, top.below, 0, first.inputs))
    with pytest.raises(IllegalMove, match="already demanded"):
        chain.move(number, DemandRun(node_proof(program, honest.number), 2, honest.claim(2)))
    with pytest.raises(IllegalMove, match="something else revealed"):
        chain.move(number, Pick(bytes(32), 1))
    chain.move(number, Pick(top.seal(TRAINER), 9))
    trainer.play(number)
    d = chain.game(number).descent
    assert d is not None and d.below is not None and (d.height, d.position, d.picked, len(d.below)) == (3, 9, 9, 8 * 8)
    with pytest.raises(IllegalMove, match="at the leaves"):
        chain.move(number, Pick(d.seal(TRAINER), 0))
    w = honest.part(3, 73)
    right = ConcludePart(w.node, d.trail, d.below, 1, w.inputs)
    for move, reason in [
        (replace(right, parts=d.below[:-1] + bytes([d.below[-1] ^ 1])), "something else revealed"),
        (replace(right, parts=top.below), "something else revealed"),
        (replace(right, trail=top.trail), "something else revealed"),
        (replace(right, node=node_proof(program, 0)), "another node"),
        (replace(right, child=8), "no such part"),
        (replace(right, child=2), "bad leaf proof"),
        (replace(right, inputs=w.inputs[:1]), "wrong number of openings"),
        (replace(right, inputs=(replace(w.inputs[0], data=w.inputs[0].data[:-1]), w.inputs[1])), "wrong leaf length"),
    ]:
        with pytest.raises(IllegalMove, match=reason):
            chain.move(number, move)
    chain.move(number, right)
    assert chain.game(number).outcome == Outcome.ACQUITTED


# The referee ------------------------------------------------------------------------------------------------------------


def roots_of(job: Job) -> StepRoots:
    chain, number = demanded(job, 0)
    return chain.game(number).roots


def test_the_referee_reads_no_run_of_more_than_1024_elements_at_once() -> None:
    longest, longer = job(Dot, MAX_LENGTH), job(Dot, MAX_LENGTH + 1)
    for it in (longest, longer):
        claim_chain = ModelChain()
        number = claim_chain.open(claim_of(it.trace.program, it.trace, STEPS), it.opening())
        Defender(claim_chain, it.trace).play(number)
        roots = claim_chain.game(number).roots
        tensors = it.trace.tensors(0)
        w = witness(it.trace.program, it.tensor, 1, it.claim(1), lambda n, it=it: it.trace.tensor(0, n), tensors.prove)
        demand = DemandRun(w.node, 1, it.claim(1))
        if it is longest:
            assert not judge(roots, w).fraud and locate_run(roots, w.node, 1, it.claim(1)).parts == 1
            with pytest.raises(IllegalMove, match="run not too long"):
                claim_chain.move(number, demand)
        else:
            with pytest.raises(IllegalMove, match="run too long"):
                judge(roots, w)
            claim_chain.move(number, demand)


@given(jobs(), st.data())
def test_the_referee_places_a_run_and_recomputes_each_of_its_parts(job: Job, data: st.DataObject) -> None:
    roots, position = roots_of(job), data.draw(st.integers(0, job.node.outputs[0].count - 1))
    place = locate_run(roots, node_proof(job.trace.program, job.number), position, job.claim(position))
    assert (place.tensor, place.parts) == (job.tensor, part_count(job.node))
    assert place.claimed == element(job.node, 0, position, job.fetch) and place.takes_max == takes_max(job.node)
    part = data.draw(st.integers(0, place.parts - 1))
    assert judge_part(roots, job.part(position, part)) == part_result(job.node, position, part, job.fetch)


def test_the_referee_refuses_what_is_no_part_of_a_run() -> None:
    honest = job(Reduce, 3000)
    roots, w = roots_of(honest), honest.part(1, 1)
    claim = honest.claim(1)
    data_node = node_proof(honest.trace.program, 0)
    for wrong, reason in [
        (replace(w, part=12), "no such part"),
        (replace(w, position=2), "no such element"),
        (replace(w, part=0), "Merkle proof"),
        (replace(w, inputs=(replace(w.inputs[0], root=bytes(32)),)), "bad trace proof"),
        (replace(w, inputs=()), "wrong number of openings"),
        (replace(w, node=data_node), "not a reduce, dot or scatter_add node"),
        (replace(w, node=replace(w.node, proof=())), "bad node proof"),
    ]:
        with pytest.raises(IllegalMove, match=reason):
            judge_part(roots, wrong)
    for node, position, opened, reason in [
        (data_node, 1, claim, "not a reduce, dot or scatter_add node"),
        (w.node, 2, claim, "no such element"),
        (w.node, 1, replace(claim, data=tensor_bytes(np.array([1, 2]))), "bad leaf proof"),
    ]:
        with pytest.raises(IllegalMove, match=reason):
            locate_run(roots, node, position, opened)


def test_a_run_has_the_fifth_tree() -> None:
    chain, number = demanded(job(Reduce, 5000, ("i32", "i32"), "max"), 1)
    game = chain.game(number)
    assert game.owed == Owed.PARTS and game.run == (1, 1) and TreeKind.RUN in game.demanded
    assert game.descent is not None and game.descent.tree == TreeKind.RUN == 4 and game.descent.takes_max
