"""Delivery: a trainer shows the leaves of its model that are demanded, or loses what is retained (docs/protocol.md, "Delivery")."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bisection import reference
from bisection.boundary import next_state, state_root
from bisection.merkle import LEAF_BYTES, Tree
from bisection.witness import StepRoots
from contracts.build import artifact
from contracts.deploy import deploy
from contracts.events import Answered, DemandReclaimed, LeafDemanded, RetainedWithheld, Unanswered
from contracts.jobs import JobStatus
from sims.chain.evm import RevmChain
from tests.contracts.coins import Coin
from tests.contracts.stage import BOUNTY, PARAMETERS, TERMS, Actor, ModelRun, Stage, TrainerRun, digest, refused
from tests.support.programs import counting_program
from trainer.delivery import show_leaf

BOND, PERIOD = PARAMETERS.delivery_bond, PARAMETERS.answer_period
RETAINING = replace(TERMS, retained_share=2_000, delivery_period=700)
RETAINED = BOUNTY * 2_000 // 10_000
BEFORE, DATA, AFTER = range(3)  # what a node of a program joins


RUN = ModelRun((1_000, 256, 1, 5_120 + 17))


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


def completed(stage: Stage, run: ModelRun = RUN, **changes: object) -> int:
    return stage.completed(run, replace(RETAINING, **changes))


def answer(stage: Stage, demand: int, run: ModelRun = RUN, actor: Actor | None = None) -> object:
    """The honest answer, as the trainer if nobody else is named."""
    view = stage.delivery.demand_of(demand)
    size = len(run.content[-1][view.component])
    tell(stage, AFTER, view.component, size)
    leaf = view.seed % -(-size // LEAF_BYTES)
    return (actor or stage.trainer).delivery.answer(demand, *run.shown(view.component, leaf))


def tell(stage: Stage, source: int, index: int, size: int) -> None:
    """Have the referee say what the node joins."""
    stage.referee.send("join", source, index)
    stage.referee.send("place", 0, size)


@pytest.mark.parametrize("period", [700, 701])
def test_a_completed_job_has_a_delivery_period_and_no_deadline(stage: Stage, period: int) -> None:
    job = stage.registry.job(completed(stage, delivery_period=period))
    assert (job.deadline, job.delivery_end) == (0, stage.now() + period)


# Demands


def test_a_demand_names_a_leaf_and_a_last_second(stage: Stage) -> None:
    job = completed(stage)
    (told,) = stage.events(stage.watcher.delivery.send("demand", job, 3, value=BOND))
    assert isinstance(told, LeafDemanded)
    assert (told.demand, told.job, told.account, told.component) == (1, job, stage.watcher.address, 3)
    assert told.answer_by == stage.now() + PERIOD
    view = stage.delivery.demand_of(1)
    assert (view.job, view.account, view.component, view.seed, view.answer_by) == (
        job, stage.watcher.address, 3, told.seed, told.answer_by,
    )  # fmt: skip
    assert stage.registry.job(job).open_demands == 1
    assert stage.balance(stage.book.delivery) == BOND


def test_demands_are_numbered_from_one_and_fall_on_different_leaves(stage: Stage) -> None:
    job = completed(stage)
    assert [stage.watcher.delivery.demand(job, 0) for _ in range(8)] == list(range(1, 9))
    assert len({stage.delivery.demand_of(demand).seed for demand in range(1, 9)}) == 8
    assert stage.registry.job(job).open_demands == 8
    for unknown in (0, 9):
        with refused("delivery: no open demand"):
            stage.delivery.demand_of(unknown)


def test_a_demand_returns_its_number(stage: Stage) -> None:
    job = completed(stage)
    stage.watcher.delivery.demand(job, 0)
    assert stage.delivery.simulate("demand", job, 0, account=stage.watcher.address, value=BOND) == 2


def test_a_contract_wallet_demands_for_itself(stage: Stage) -> None:
    wallet = stage.wallet(stage.watcher)
    (told,) = stage.events(wallet.does(stage.delivery.call("demand", completed(stage), 0, value=BOND)))
    assert isinstance(told, LeafDemanded)
    assert told.account == stage.delivery.demand_of(1).account == wallet.address


@pytest.mark.parametrize("bond", [0, BOND - 1, BOND + 1])
def test_a_demand_brings_exactly_the_bond(stage: Stage, bond: int) -> None:
    job = completed(stage)
    with refused("delivery: wrong bond"):
        stage.watcher.delivery.send("demand", job, 0, value=bond)


def test_only_components_of_the_state_are_demanded(stage: Stage) -> None:
    job = completed(stage)
    with refused("delivery: no such component"):
        stage.watcher.delivery.demand(job, 4)
    stage.watcher.delivery.demand(job, 3)


def test_leaves_are_demanded_up_to_the_last_second_of_the_delivery_period(stage: Stage) -> None:
    job = completed(stage)
    end = stage.registry.job(job).delivery_end
    stage.chain.next_block_at(end)
    demand = stage.watcher.delivery.demand(job, 0)
    with refused("registry: delivery period over"):
        stage.watcher.delivery.demand(job, 0)
    assert stage.delivery.demand_of(demand).answer_by == end + PERIOD


def test_leaves_are_demanded_only_of_completed_jobs_of_which_something_is_retained(stage: Stage) -> None:
    with refused("registry: unknown job"):
        stage.watcher.delivery.demand(1, 0)
    under_way = stage.posted(RUN, terms=RETAINING)
    paid = stage.completed(RUN)
    for job in (under_way, paid):
        with refused("registry: nothing retained"):
            stage.watcher.delivery.demand(job, 0)


# Answers


@pytest.mark.parametrize("component", range(4))
def test_a_demanded_leaf_is_shown_and_earns_the_bond(stage: Stage, component: int) -> None:
    job = completed(stage)
    demand = stage.watcher.delivery.demand(job, component)
    seed, content = stage.delivery.demand_of(demand).seed, RUN.content[-1][component]
    (told,) = stage.events(answer(stage, demand))  # type: ignore[arg-type]
    assert isinstance(told, Answered)
    leaf = seed % -(-len(content) // LEAF_BYTES)
    assert (told.demand, told.job, told.leaf, told.data) == (demand, job, leaf, content[leaf * 256 : leaf * 256 + 256])
    assert stage.delivery.credit(stage.trainer.address) == BOND == stage.balance(stage.book.delivery)
    assert stage.registry.job(job).open_demands == 0
    assert not stage.registry.job(job).settled
    with refused("delivery: no open demand"):
        answer(stage, demand)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(size=st.integers(1, 3_000))
@example(size=256)
@example(size=512)
@example(size=513)
def test_leaves_of_every_size_can_be_shown(scripted_theatre: Stage, size: int) -> None:
    stage, mark = scripted_theatre, scripted_theatre.chain.snapshot()
    try:
        run = ModelRun((size, 1))
        job = completed(stage, run)
        for _ in range(5):
            answer(stage, stage.watcher.delivery.demand(job, 0), run)
    finally:
        stage.chain.restore(mark)


def test_a_component_without_bytes_has_one_empty_leaf(stage: Stage) -> None:
    run = ModelRun((0, 1))
    demand = stage.watcher.delivery.demand(completed(stage, run), 0)
    tell(stage, AFTER, 0, 0)
    stage.trainer.delivery.answer(demand, *run.shown(0, 0))


def test_a_leaf_with_more_bytes_than_its_component_is_no_answer(stage: Stage) -> None:
    run = ModelRun((18, 1))
    demand = stage.watcher.delivery.demand(completed(stage, run), 0)
    tell(stage, AFTER, 0, 17)
    with refused("delivery: leaf of another length"):
        stage.trainer.delivery.answer(demand, *run.shown(0, 0))


def test_anyone_may_answer_and_the_trainer_gets_the_bond(stage: Stage) -> None:
    job = completed(stage)
    answer(stage, stage.watcher.delivery.demand(job, 0), actor=stage.stranger)
    assert stage.delivery.credit(stage.trainer.address) == BOND
    with refused("ledger: nothing to withdraw"):
        stage.stranger.delivery.withdraw()


def test_an_answer_may_come_in_the_last_second(stage: Stage) -> None:
    job = completed(stage)
    demand = stage.watcher.delivery.demand(job, 1)
    end = stage.delivery.demand_of(demand).answer_by
    tell(stage, AFTER, 1, 256)
    act = ("answer", demand, *RUN.shown(1, 0))
    stage.at(end)
    stage.delivery.simulate(*act)
    stage.at(end + 1)
    with refused("delivery: too late"):
        stage.delivery.simulate(*act)


def test_only_the_node_that_writes_the_component_says_its_size(stage: Stage) -> None:
    demand = stage.watcher.delivery.demand(completed(stage), 1)
    for source, index in ((BEFORE, 1), (DATA, 1), (AFTER, 0), (AFTER, 2)):
        tell(stage, source, index, 256)
        with refused("delivery: another component"):
            stage.trainer.delivery.answer(demand, *RUN.shown(1, 0))
    tell(stage, AFTER, 1, 256)
    stage.trainer.delivery.answer(demand, *RUN.shown(1, 0))


def test_the_referee_is_asked_about_the_program_of_the_job(stage: Stage) -> None:
    demand = stage.watcher.delivery.demand(completed(stage), 1)
    spec, none = RUN.spec, bytes(32)
    step = StepRoots(spec.program_root, spec.node_count, none, spec.tensor_count, none, none, 0, none, 0)
    stage.referee.send("expect", replace(step, program_root=digest("another")))
    with refused("referee: another step"):
        answer(stage, demand)
    stage.referee.send("expect", step)
    answer(stage, demand)


def test_a_wrong_leaf_is_no_answer(stage: Stage) -> None:
    demand = stage.watcher.delivery.demand(completed(stage), 3)
    leaf = stage.delivery.demand_of(demand).seed % 21
    node, root, component_proof, data, leaf_proof = RUN.shown(3, leaf)
    tell(stage, AFTER, 3, len(RUN.content[-1][3]))

    def refuses(reason: str, *args: object) -> None:
        with refused(reason):
            stage.trainer.delivery.send("answer", demand, node, *args)

    other = RUN.shown(3, (leaf + 1) % 20)
    length = "delivery: leaf of another length"
    refuses(length, root, component_proof, data[:-1], leaf_proof)
    refuses(length, root, component_proof, b"", leaf_proof)
    short, full = bytes(17), bytes(256)
    refuses(length, root, component_proof, full if leaf == 20 else short, leaf_proof)
    refuses("merkle: proof of another root", root, component_proof, bytes(len(data)), leaf_proof)
    refuses("merkle: proof of another root", root, component_proof, data, leaf_proof[::-1])
    refuses("merkle: proof of another depth", root, component_proof, data, leaf_proof[1:])
    refuses("merkle: proof of another depth", root, component_proof[1:], data, leaf_proof)
    refuses("merkle: proof of another root", digest("root"), component_proof, data, leaf_proof)
    refuses("merkle: proof of another root", RUN.shown(0, 0)[1], RUN.shown(0, 0)[2], data, leaf_proof)
    if leaf != 20:
        refuses("merkle: proof of another root", root, component_proof, other[3], other[4])
    stage.trainer.delivery.answer(demand, node, root, component_proof, data, leaf_proof)


def test_the_leaf_must_be_of_the_final_state(stage: Stage) -> None:
    demand = stage.watcher.delivery.demand(completed(stage), 1)
    tell(stage, AFTER, 1, 256)
    with refused("merkle: proof of another root"):
        stage.trainer.delivery.answer(demand, *RUN.shown(1, 0, step=0))
    stage.trainer.delivery.answer(demand, *RUN.shown(1, 0))


# Silence


def test_an_unanswered_demand_costs_what_was_retained(stage: Stage) -> None:
    job = completed(stage)
    demand = stage.watcher.delivery.demand(job, 0)
    stage.at(stage.delivery.demand_of(demand).answer_by)
    with refused("delivery: time for an answer"):
        stage.delivery.simulate("give_up", demand)
    withheld, unanswered = stage.events(stage.stranger.delivery.give_up(demand))
    assert isinstance(withheld, RetainedWithheld) and isinstance(unanswered, Unanswered)
    assert (withheld.job, withheld.requester, withheld.amount) == (job, stage.requester.address, RETAINED)
    assert (unanswered.demand, unanswered.job) == (demand, job)
    assert stage.registry.credit(stage.requester.address) == RETAINED
    assert stage.registry.credit(stage.trainer.address) == BOUNTY - RETAINED + TERMS.stake
    assert stage.delivery.credit(stage.watcher.address) == BOND
    view = stage.registry.job(job)
    assert (view.status, view.settled, view.open_demands) == (JobStatus.COMPLETED, True, 0)
    assert stage.registry.model(job).state == RUN.states[1].root
    stage.chain.advance(RETAINING.delivery_period)
    with refused("registry: nothing retained"):
        stage.stranger.registry.release(job)
    with refused("registry: nothing retained"):
        stage.watcher.delivery.demand(job, 0)
    with refused("delivery: no open demand"):
        stage.stranger.delivery.give_up(demand)
    assert stage.balance(stage.book.registry) == stage.owed(stage.registry)


def test_once_something_is_withheld_the_other_bonds_go_back(stage: Stage) -> None:
    job = completed(stage)
    first, second, third = (actor.delivery.demand(job, 0) for actor in (stage.watcher, stage.challenger, stage.stranger))
    for demand in (first, second):
        with refused("delivery: still to be answered"):
            stage.stranger.delivery.reclaim(demand)
    stage.chain.advance(PERIOD + 1)
    stage.stranger.delivery.give_up(first)
    for act in (stage.stranger.delivery.give_up, lambda demand: answer(stage, demand)):
        with refused("delivery: already settled"):
            act(second)
    (told,) = stage.events(stage.stranger.delivery.reclaim(second))
    assert isinstance(told, DemandReclaimed)
    assert (told.demand, told.job) == (second, job)
    for demand in (first, second):
        with refused("delivery: no open demand"):
            stage.stranger.delivery.reclaim(demand)
    stage.stranger.delivery.reclaim(third)
    credits = [stage.delivery.credit(actor.address) for actor in (stage.watcher, stage.challenger, stage.stranger)]
    assert credits == [BOND] * 3
    assert stage.registry.job(job).open_demands == 0


def test_what_is_retained_waits_for_every_open_demand(stage: Stage) -> None:
    job = completed(stage)
    stage.chain.next_block_at(stage.registry.job(job).delivery_end)
    demand = stage.watcher.delivery.demand(job, 0)
    stage.chain.advance(10)
    with refused("registry: open demands"):
        stage.stranger.registry.release(job)
    answer(stage, demand)
    assert stage.registry.job(job).paid == BOUNTY - RETAINED
    stage.stranger.registry.release(job)
    released = stage.registry.job(job)
    assert (released.paid, released.settled, released.terms.stake) == (BOUNTY, True, TERMS.stake)
    assert stage.registry.credit(stage.trainer.address) == BOUNTY + TERMS.stake


def test_demands_on_one_job_are_none_on_another(stage: Stage) -> None:
    kept, lost = (completed(stage, delivery_period=50_000) for _ in range(2))
    demands = [stage.watcher.delivery.demand(job, 0) for job in (kept, lost)]
    answer(stage, demands[0])
    stage.chain.advance(50_000 + 1)
    stage.stranger.delivery.give_up(demands[1])
    stage.stranger.registry.release(kept)
    assert stage.registry.credit(stage.trainer.address) == 2 * (BOUNTY + TERMS.stake) - RETAINED
    assert stage.registry.credit(stage.requester.address) == RETAINED


def test_what_is_retained_in_tokens_is_withheld_in_tokens_and_bonds_are_ether(stage: Stage) -> None:
    coin = Coin(stage)
    for actor in stage.actors:
        coin.fund(actor, stage.book.registry)
    job = completed(stage, token=coin.address)
    demand = stage.watcher.delivery.demand(job, 0)
    stage.chain.advance(PERIOD + 1)
    stage.stranger.delivery.give_up(demand)
    assert stage.registry.credit(stage.requester.address, coin.address) == RETAINED
    assert (stage.registry.credit(stage.requester.address), stage.delivery.credit(stage.watcher.address)) == (0, BOND)


def test_whoever_refuses_payments_stops_nothing(stage: Stage) -> None:
    job = completed(stage)
    wallet = stage.wallet(stage.watcher)
    wallet.does(stage.delivery.call("demand", job, 0, value=BOND))
    wallet.send("behave", True, b"")
    stage.chain.advance(PERIOD + 1)
    stage.stranger.delivery.give_up(1)
    assert stage.registry.job(job).settled
    with refused("ledger: payment refused"):
        wallet.does(stage.delivery.call("withdraw", "0x" + 40 * "0"))
    wallet.send("behave", False, b"")
    wallet.does(stage.delivery.call("withdraw", "0x" + 40 * "0"))
    assert stage.balance(wallet.address) == BOND


# The deployment, and the real referee


def test_a_delivery_contract_has_bounds(stage: Stage) -> None:
    registry = stage.book.registry
    for args, reason in (
        (("0x" + 40 * "0", 1, 1), "no registry"),
        ((registry, 0, 1), "no bond"),
        ((registry, 1, 0), "bad answer period"),
        ((registry, 1, 2**32), "bad answer period"),
    ):
        with refused(f"delivery: {reason}"):
            stage.create(stage.deployer, "Delivery", *args)
    stage.create(stage.deployer, "Delivery", registry, 1, 1)
    stage.create(stage.deployer, "Delivery", registry, 1, 2**32 - 1)


def test_a_trainer_shows_leaves_of_a_real_program_to_the_real_referee() -> None:
    chain = RevmChain()
    stage = Stage(chain, deploy(chain.senders[0], PARAMETERS))
    program, state, data = counting_program()
    after = next_state(program, reference.trace(program, state, data))
    run = TrainerRun(steps=1, segment_length=1)
    run.histories = [Tree([state_root(program, state), state_root(program, after)])]
    run.spec = replace(
        run.spec, program_root=program.root, node_count=len(program.nodes), tensor_count=len(program.tensors),
        initial_state=state_root(program, state), state_count=len(program.state), numerics_version=1,
    )  # fmt: skip
    job = stage.completed(run, RETAINING)
    for component in range(len(program.state)):
        demand = stage.watcher.delivery.demand(job, component)
        shown = show_leaf(program, after, component, stage.delivery.demand_of(demand).seed)
        stage.trainer.delivery.answer(demand, shown.node, shown.tensor_root, shown.component_proof, shown.data, shown.leaf_proof)
    assert stage.delivery.credit(stage.trainer.address) == len(program.state) * BOND
    assert artifact("Delivery").runtime_size < 24_576
