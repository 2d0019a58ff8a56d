"""One honest job from its offer to its end, with games in which every move is made, and the means to disturb it anywhere.

``script`` tells the acts one by one. Before each of them the contracts are in another situation, in which hostile calls are tried
and taken back, so that the job goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from eth_utils.abi import event_abi_to_log_topic, function_signature_to_4byte_selector

from bisection.boundary import Array, tensor_bytes
from bisection.cut import combined
from bisection.descent import Descent, below, parts_payload
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.moves import StepOpening
from bisection.nodes import Gather, Input, Map, Output, Read, Reduce, RunNode
from bisection.program import Program, TensorSpec
from bisection.reference import part_results
from bisection.scalar import BY_NAME, Op, ScalarProgram
from bisection.trace import MemoryTrace
from bisection.witness import (
    BoundaryWitness,
    ElementWitness,
    Leaf,
    RunWitness,
    StepRoots,
    boundary_witness,
    node_proof,
    part_witness,
    witness,
)
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.build import artifact
from contracts.contract import Contract
from contracts.deploy import deploy
from contracts.jobs import NATIVE, JobSpec, claim_commitment
from contracts.values import plain
from sims.chain.evm import ANYBODY, Reverted, RevmChain
from tests.contracts.descending import begun, leaf_of, partials, raw, refutation, shown, word
from tests.contracts.stage import BOUNTY, PARAMETERS, SALT, TERMS, Actor, Stage
from tests.differential.evm import abi_types, calldata_gas
from tests.support.calldata import Calldata, decode, encode
from tests.support.programs import Builder, hostile

__all__ = ["Act", "Arena", "Outcome", "functions", "further", "script"]

NO_REASON = "no reason"  # what the chain in this process says where a contract says nothing


def event_topic(contract: str, event: str) -> str:
    """The first topic of an event's logs."""
    (entry,) = (row for row in artifact(contract).abi if row["type"] == "event" and row["name"] == event)
    return "0x" + event_abi_to_log_topic(entry).hex()


STEPS = 70
LONG = 17_000  # elements of a run of i64: 67 parts, two reveals
STEP = 23  # the disputed one
JOB, SEGMENT = 1, 0
CONVICTIONS = {event_topic("DisputeGame", "Convicted"), event_topic("TaskRegistry", "JobSlashed")}


def judged_program() -> tuple[Program, dict[str, Array], dict[str, Array]]:
    """A program with a map, a gather, a short run and a long one, two state tensors and three of data."""
    rng = np.random.default_rng(0)
    b = Builder()
    (weights,) = b.add(Input, (), [("f32", 200)], "state", 0)
    (totals,) = b.add(Input, (), [("i64", 2)], "state", 1)
    (x,) = b.add(Input, (), [("i64", 2 * LONG)], "data", 0)
    (table,) = b.add(Input, (), [("f32", 16)], "data", 1)
    (index,) = b.add(Input, (), [("i32", 100)], "data", 2)
    (rows,) = b.add(Gather, (table, index), [("f32", 200)], 2)
    (sums,) = b.add(Reduce, (x,), [("i64", 2)], "sum", LONG)
    (short,) = b.add(Reduce, (index,), [("i64", 2)], "sum", 50)
    each = Read(0, (1,))
    blend = ScalarProgram(2, 1, (), (Op(BY_NAME["fadd"].code, 0, 1),), (3,))
    (moved,) = b.add(Map, (weights, rows), [("f32", 200)], (200,), (each, each), blend)
    add = ScalarProgram(3, 1, (), (Op(BY_NAME["add64"].code, 0, 1), Op(BY_NAME["add64"].code, 2, 4)), (5,))
    (total,) = b.add(Map, (totals, sums, short), [("i64", 2)], (2,), (each, each, each), add)
    b.add(Output, (moved,), [], 0)
    b.add(Output, (total,), [], 1)
    state = (TensorSpec("weights", "f32", (200,)), TensorSpec("totals", "i64", (2,)))
    data = (TensorSpec("x", "i64", (2 * LONG,)), TensorSpec("table", "f32", (16,)), TensorSpec("index", "i32", (100,)))
    values = {spec.name: hostile(rng, spec.dtype, spec.count) for spec in data}
    values["index"] = rng.integers(-2, 10, 100).astype(np.int32)
    start = {"weights": rng.standard_normal(200).astype(np.float32), "totals": np.zeros(2, np.int64)}
    return Program(tuple(b.nodes), state, data), start, values


class HonestRun:
    """What the trainer has computed and committed to, and all openings of its disputed step."""

    def __init__(self) -> None:
        self.program, state, self.data = judged_program()
        self.trace = MemoryTrace(self.program, state, self.data, STEPS)
        self.history = self.trace.history()
        self.tensors = self.trace.tensors(STEP)
        self.contents = [self.trace.tensor(STEP, ref.tensor) for ref in self.program.tensors]
        self.states = self.trace.state(STEP + 1)

    @cached_property
    def spec(self) -> JobSpec:
        """The job's."""
        p = self.program
        return JobSpec(
            p.root, len(p.nodes), len(p.tensors), self.trace.state(0).root, len(p.state), self.trace.data().root, len(p.data),
            STEPS, STEPS, 1,
        )  # fmt: skip

    @cached_property
    def opening(self) -> StepOpening:
        """The disputed step."""
        before, after = (self.history.levels[0][at] for at in (STEP, STEP + 1))
        return StepOpening(STEP, before, after, tuple(self.history.prove_range(STEP, 2)))

    @cached_property
    def roots(self) -> StepRoots:
        """What is committed about the disputed step."""
        spec, opening = self.spec, self.opening
        return StepRoots(
            spec.program_root, spec.node_count, self.tensors.root, spec.tensor_count, opening.before, opening.after,
            spec.state_count, spec.data_root, spec.data_count,
        )  # fmt: skip

    def number(self, kind: type, length: int | None = None) -> int:
        """The first node of a kind, with runs of that length."""
        return next(
            i
            for i, n in enumerate(self.program.nodes)
            if isinstance(n, kind) and (length is None or n.length == length)  # type: ignore[attr-defined]
        )

    def leaf(self, tensor: int, leaf: int) -> Leaf:
        """The opening of a leaf of the trace."""
        tree = blob_tree(self.contents[tensor])
        data = self.contents[tensor][leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
        return Leaf(tree.root, tuple(self.tensors.prove(tensor)), data, tuple(tree.prove(leaf)))

    def element(self, number: int, position: int) -> ElementWitness | RunWitness:
        """The openings of an element of a node's first output."""
        ref = self.program.nodes[number].outputs[0]
        claim = self.leaf(ref.tensor, position * (ref.nbytes // ref.count) // LEAF_BYTES)
        return witness(self.program, ref.tensor, position, claim, self.contents.__getitem__, self.tensors.prove)

    def boundary(self, number: int) -> BoundaryWitness:
        """The openings at an input of the data or at an output."""
        node = self.program.nodes[number]
        ref = node.outputs[0] if isinstance(node, Input) else node.inputs[0]
        tree = self.trace.data() if isinstance(node, Input) else self.states
        tensor = self.tensors.levels[0][ref.tensor], self.tensors.prove(ref.tensor)
        assert isinstance(node, Input | Output)
        return boundary_witness(self.program, number, tensor, (tree.levels[0][node.index], tree.prove(node.index)))

    @cached_property
    def parts(self) -> list[int]:
        """The partial results of element 1 of the long sum."""
        node = self.program.nodes[self.number(Reduce, LONG)]
        assert isinstance(node, RunNode)
        return part_results(node, [self.data["x"][LONG:]], 1)


@cache
def functions(contract: str) -> dict[bytes, tuple[str, list[str]]]:
    """selector → the function's name and the types of its arguments."""
    rows = ((row["name"], abi_types(row["inputs"])) for row in artifact(contract).abi if row["type"] == "function")
    return {function_signature_to_4byte_selector(f"{name}({','.join(kinds)})"): (name, kinds) for name, kinds in rows}


@dataclass(frozen=True)
class Act:
    """Somebody's call of a function."""

    who: Actor
    contract: Contract
    function: str
    arguments: tuple[Any, ...] = ()
    value: int = 0

    @cached_property
    def calldata(self) -> Calldata:
        """The canonical bytes."""
        ((selector, kinds),) = (
            (selector, kinds) for selector, (name, kinds) in functions(self.contract.NAME).items() if name == self.function
        )
        return encode(selector, kinds, plain(self.arguments))

    @property
    def kinds(self) -> list[str]:
        """The types of the arguments."""
        return functions(self.contract.NAME)[self.calldata.selector][1]

    @cached_property
    def spelt(self) -> list[Any]:
        """The arguments as the bytes spell them."""
        return decode(self.kinds, self.calldata.body)


@dataclass(frozen=True)
class Outcome:
    """What a call did. ``gas`` is without what any transaction pays for itself and its calldata.

    ``reason`` is None where the call was accepted; then ``view`` is all that can be seen of the contracts afterwards.

    ``wealth`` is what each of the roles has and is owed, in wei.
    """

    reason: str | None
    gas: int
    returned: bytes = b""
    logs: tuple[Any, ...] = ()
    view: tuple[bytes, ...] = ()
    wealth: tuple[int, ...] = ()

    @property
    def convicts(self) -> bool:
        """Whether a trainer was convicted."""
        return any(topics[0] in CONVICTIONS for _, topics, _ in self.logs)


@cache
def _question(contract: Contract, function: str, *arguments: Any) -> bytes:
    return contract.call(function, *arguments).data


class SlowGame:
    """Game 1, from a blind opening down every tree to one part of a long sum, which is right.

    ``descent`` is where its descent stands, as both sides follow it.
    """

    def __init__(self, stage: Stage, run: HonestRun) -> None:
        self.run, self.game, self.trainer, self.challenger = run, stage.game, stage.trainer, stage.challenger
        self._account = raw(self.trainer.address)
        self._descent: Descent | None = None

    @property
    def descent(self) -> Descent:
        assert self._descent is not None
        return self._descent

    def begin(self, root: bytes, payload: bytes | None = None) -> None:
        """Follow the descent that was demanded, and perhaps answered already."""
        self._descent = replace(begun(self.game.game(1), root), below=payload)

    def refutation(self) -> Act | None:
        """A refutation of what was revealed last, which is right; None where there is nothing like it."""
        if self._descent is None or self._descent.below is None:
            return None
        return self.moves("refute", *plain(refutation(self._descent)))

    def moves(self, name: str, *arguments: Any) -> Act:
        """A move of the challenger."""
        return Act(self.challenger, self.game, name, (1, *plain(arguments)))

    def shows(self, payload: bytes) -> Act:
        """An answer of the trainer."""
        d = self.descent
        self._descent = replace(d, below=payload)
        return Act(self.trainer, self.game, "reveal", (1, d.trail, d.picked, payload))

    def answers(self, tree: Any) -> Act:
        """An answer with what a tree has."""
        return self.shows(shown(tree, self.descent))

    def picks(self, child: int) -> Act:
        """Pick one of what was revealed last."""
        seal = self.descent.seal(self._account)
        self._descent = below(self.descent, seal, child, self._account)
        return self.moves("pick", seal, child)

    def acts(self) -> Iterator[Act]:
        """All of it."""
        run, game = self.run, self.game
        yield Act(self.challenger, game, "commit", (step_commitment(self.challenger.address, JOB, SEGMENT, BLIND, SALT),))
        yield Act(self.challenger, game, "open_blind", (JOB, SEGMENT, run.history.root, SALT), PARAMETERS.bond)
        self.begin(run.history.root)
        yield self.answers(run.history)
        yield self.picks(STEP >> 3)
        yield self.answers(run.history)
        yield self.moves("show_step", *plain(run.opening), True)
        tree = run.tensors
        first = b"".join(tree.node(0, i) for i in range(1 << tree.depth))
        yield Act(self.trainer, game, "post_trace", (1, game.game(1).step_place, tree.root, first))
        self.begin(tree.root, first)
        yield self.moves("demand_state", run.roots)
        self.begin(run.states.root)
        yield self.answers(run.states)
        yield from self.tensor()
        yield from self.sum()

    def tensor(self) -> Iterator[Act]:
        """Down a tensor, to the bytes of a leaf."""
        run = self.run
        tensor = run.program.nodes[run.number(Reduce, LONG)].inputs[0].tensor  # its 1,063 leaves are two reveals deep
        source, tree = run.program.producer[tensor], blob_tree(run.contents[tensor])
        demanded = run.roots, node_proof(run.program, source), 0, tree.root, run.tensors.prove(tensor)
        yield self.moves("demand_tensor", *demanded)
        self.begin(tree.root)
        yield self.answers(tree)
        yield self.picks(17)
        yield self.answers(tree)
        yield self.picks(5)
        yield self.shows(leaf_of(run.contents[tensor], self.descent.position))

    def sum(self) -> Iterator[Act]:
        """Down the long sum, to the verdict on its last part."""
        run = self.run
        long = run.number(Reduce, LONG)
        proof, result = node_proof(run.program, long), run.program.nodes[long].outputs[0].tensor
        yield self.moves("demand_run", run.roots, proof, 1, run.leaf(result, 0))
        self.begin(word(combined(run.parts, False)))
        yield self.shows(parts_payload(partials(run.parts, self.descent)))
        last = len(run.parts) - 1
        yield self.picks(last >> (self.descent.height - self.descent.levels))
        yield self.shows(parts_payload(partials(run.parts, self.descent)))
        d = self.descent
        w = part_witness(run.program, long, 1, last, run.contents.__getitem__, run.tensors.prove)
        yield self.moves("conclude_part", run.roots, proof, d.trail, d.below, last - (d.position << d.levels), w.inputs)


class Arena:
    """The real contracts, everybody in their roles, and the honest run."""

    def __init__(self) -> None:
        self.chain = RevmChain()
        self.stage = Stage(self.chain, deploy(self.chain.senders[0], PARAMETERS))
        self.run = HonestRun()
        self.terms = self.stage.terms(replace(TERMS, retained_share=1_000, delivery_period=3_000))
        self.slow = SlowGame(self.stage, self.run)

    @property
    def ledgers(self) -> tuple[Contract, ...]:
        """The contracts that hold money."""
        return self.stage.registry, self.stage.game, self.stage.delivery

    def perform(self, act: Act) -> bytes:
        """Do it for good, in a block of its own. Raises Reverted."""
        provider = self.chain.provider
        provider.block, provider.time = provider.block + 1, self.chain.next_time()
        return provider.run(act.who.address, act.contract.address, bytes(act.calldata), act.value)

    def attempt(self, who: Actor, to: Contract, data: bytes, value: int) -> Outcome:
        """What would come of a call in the next block."""
        mark = self.chain.snapshot()
        provider = self.chain.provider
        provider.block, provider.time = provider.block + 1, provider.time + 1
        try:
            returned = provider.run(who.address, to.address, data, value)
        except Reverted as error:
            reason = str(error)
            return Outcome("" if reason == NO_REASON else reason, provider.evm.result.gas_used - calldata_gas(data))
        else:
            logs = tuple((log.address, tuple(log.topics), bytes(log.data[1])) for log in provider.evm.result.logs)
            gas = provider.evm.result.gas_used - calldata_gas(data)
            return Outcome(None, gas, returned, logs, self.view(), self.wealth())
        finally:
            self.chain.restore(mark)

    def look(self, contract: Contract, function: str, *arguments: Any) -> bytes:
        """What a function that changes nothing returns, as bytes; none where it reverts."""
        try:
            return self.chain.provider.run(ANYBODY, contract.address, _question(contract, function, *arguments), 0)
        except Reverted:
            return b""

    def wealth(self) -> tuple[int, ...]:
        """See Outcome."""
        owed = (
            sum(int.from_bytes(self.look(ledger, "credit", NATIVE, account), "big") for ledger in self.ledgers)
            for account in self.stage.accounts
        )
        held = map(self.chain.provider.evm.get_balance, self.stage.accounts)
        return tuple(balance + credit for balance, credit in zip(held, owed, strict=True))

    def view(self) -> tuple[bytes, ...]:
        """See Outcome."""
        registry, game, delivery = self.ledgers
        counts = [self.look(game, "game_count"), self.look(registry, "job_count"), self.look(delivery, "demand_count")]
        games, jobs, demands = (range(1, int.from_bytes(count, "big") + 1) for count in counts)
        money = [
            *(self.look(ledger, "credit", NATIVE, account) for ledger in self.ledgers for account in self.stage.accounts),
            self.look(registry, "burnable", NATIVE),
            *(self.chain.provider.evm.get_balance(at).to_bytes(32, "big") for at in (*self.stage.accounts, *self.stage.addresses)),
        ]
        governed = [self.look(registry, name) for name in ("owner", "pending_owner", "paused", "clock", "delivery")]
        return (
            *counts, *money, *governed, self.look(registry, "games", self.stage.book.game),
            *(self.look(game, "game", number) for number in games),
            *(self.look(registry, "job", number) for number in jobs),
            *(self.look(registry, "segment", number, 0) for number in jobs),
            *(self.look(delivery, "demand_of", number) for number in demands),
            self.look(game, "trace_root", JOB, 1, SEGMENT, STEP),
        )  # fmt: skip


# The job ----------------------------------------------------------------------------------------------------------------


def script(arena: Arena) -> Iterator[Act]:
    """All acts of the honest job, each to be performed before the next is asked for."""
    stage, run = arena.stage, arena.run
    requester, trainer, challenger, stranger = stage.requester, stage.trainer, stage.challenger, stage.stranger
    registry, game, delivery = stage.registry, stage.game, stage.delivery
    uri = "https://requester.example"
    yield Act(requester, registry, "open_job", (run.spec, arena.terms, BOUNTY, 0, uri), BOUNTY)
    yield Act(trainer, registry, "commit", (claim_commitment(trainer.address, JOB, SALT),))
    yield Act(trainer, registry, "claim", (JOB, registry.job(JOB).offer, SALT, uri), arena.terms.stake)
    last = run.history.count - 1
    proofs = run.history.prove(0), run.history.levels[0][last], run.history.prove(last)
    yield Act(trainer, registry, "post_segment", (JOB, run.history.root, *proofs))
    yield from arena.slow.acts()
    for number, (function, opened) in enumerate(
        [
            ("conclude_element", run.element(run.number(Map), 77)),
            ("conclude_element", run.element(run.number(Gather), 150)),
            ("conclude_run", run.element(run.number(Reduce, 50), 1)),
            ("conclude_boundary", run.boundary(run.number(Input) + 2)),
            ("conclude_boundary", run.boundary(run.number(Output) + 1)),
        ],
        2,
    ):
        yield Act(challenger, game, "commit", (step_commitment(challenger.address, JOB, SEGMENT, STEP, SALT),))
        yield Act(challenger, game, "open_step", (JOB, SEGMENT, *plain(run.opening), SALT), PARAMETERS.bond)
        yield Act(challenger, game, function, (number, plain(run.roots), *plain(opened)))
    assert all(game.game(number).phase == Phase.ACQUITTED for number in range(1, 7))
    stage.at(registry.segment(JOB, SEGMENT).window_end)
    yield Act(stranger, registry, "finalise", (JOB,))
    yield Act(stranger, delivery, "demand", (JOB, 0), PARAMETERS.delivery_bond)
    yield Act(trainer, delivery, "answer", (1, *answer_of(arena)))
    stage.at(registry.job(JOB).delivery_end)
    yield Act(stranger, registry, "release", (JOB,))
    for ledger in (registry, game, delivery):
        yield Act(trainer, ledger, "withdraw", (NATIVE,))


def answer_of(arena: Arena) -> tuple[Any, ...]:
    """The leaf that demand 1 names."""
    run = arena.run
    output = next(i for i, node in enumerate(run.program.nodes) if isinstance(node, Output) and node.index == 0)
    state = run.trace.state(STEPS)
    data = tensor_bytes(run.trace._states[STEPS]["weights"])
    tree = blob_tree(data)
    leaf = arena.stage.delivery.demand_of(1).seed % tree.count
    shown = data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    return node_proof(run.program, output), tree.root, state.prove(0), shown, tree.prove(leaf)


def further(arena: Arena) -> Sequence[Act]:
    """Acts that nobody needs in an honest job, of every other function."""
    stage, run = arena.stage, arena.run
    registry, game, delivery = stage.registry, stage.game, stage.delivery
    deployer, stranger, challenger = stage.deployer, stage.stranger, stage.challenger
    roots = plain(run.roots)
    other = stage.watcher.address
    acts = [
        *(Act(deployer, registry, name, (other,)) for name in ("add_game", "set_delivery", "transfer_ownership")),
        Act(deployer, registry, "retire_game", (stage.book.game,)),
        *(Act(deployer, registry, name) for name in ("pause", "unpause", "renounce_ownership", "accept_ownership")),
        Act(stage.requester, registry, "cancel", (JOB,)),
        *(Act(stranger, registry, name, (JOB,)) for name in ("expire", "demand_opened", "demand_closed", "withhold")),
        *(Act(stranger, registry, name, (JOB,)) for name in ("job", "spec", "model")),
        Act(stranger, registry, "segment", (JOB, SEGMENT)),
        Act(stranger, registry, "standing", (JOB, 1)),
        Act(stranger, registry, "claim_commitment", (other, JOB, SALT)),
        Act(stranger, registry, "game_opened", (JOB, SEGMENT)),
        Act(stranger, registry, "game_closed", (JOB, 1, SEGMENT)),
        Act(stranger, registry, "convict", (JOB, 1, other)),
        *(Act(stranger, registry, name, (NATIVE,)) for name in ("burn", "burnable")),
        Act(stranger, registry, "games", (stage.book.game,)),
        *(Act(stranger, ledger, "credit", (NATIVE, other)) for ledger in (registry, game, delivery)),
        *(Act(stranger, game, name, (1,)) for name in ("timeout", "reclaim", "contend", "game")),
        Act(stranger, game, "trace_root", (JOB, 1, SEGMENT, STEP)),
        *(Act(challenger, game, name, (1, roots)) for name in ("demand_trace", "demand_state")),
        Act(challenger, game, "conclude_element", (1, roots, *plain(run.element(run.number(Map), 199)))),
        Act(challenger, game, "conclude_run", (1, roots, *plain(run.element(run.number(Reduce, 50), 0)))),
        Act(challenger, game, "conclude_boundary", (1, roots, *plain(run.boundary(run.number(Output))))),
        *(Act(stranger, delivery, name, (1,)) for name in ("give_up", "reclaim", "demand_of")),
    ]
    return acts
