"""What happened, in words: one line for each event of the contracts."""

from __future__ import annotations

from functools import singledispatch
from typing import Protocol

from bisection.descent import DIGEST_BYTES, PART_BYTES
from contracts.bindings import Tree
from contracts.events import (
    Acquitted,
    Answered,
    BoundaryJudged,
    Burnt,
    Committed,
    Convicted,
    DeliverySet,
    Demanded,
    DemandReclaimed,
    Event,
    GameAdded,
    GameCancelled,
    GameOpened,
    GameRetired,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobExpired,
    JobOpened,
    JobRefunded,
    JobSlashed,
    Judged,
    LeafDemanded,
    OwnershipTransferred,
    OwnershipTransferStarted,
    Paused,
    Picked,
    Refuted,
    RetainedReleased,
    RetainedWithheld,
    Revealed,
    RunDemanded,
    SegmentFinalised,
    SegmentPosted,
    StepShown,
    TracePosted,
    Unanswered,
    Unpaused,
    Withdrawn,
)
from contracts.jobs import NOBODY
from contracts.words import LINE, Coin, counted, harmless, moment, short

__all__ = ["Names", "job_of", "line", "tell"]


class Names(Protocol):
    """What an event does not say itself."""

    def coin(self, token: str) -> Coin:
        """A token, as its amounts are written."""

    def job_coin(self, job: int) -> Coin:
        """What a job is paid in."""

    def game_job(self, game: int) -> int | None:
        """The job that a game is about; None where the game is gone with a reorganisation."""


def line(event: Event, time: int, names: Names) -> str:
    """One line: when, in which block, what. It may end in an ellipsis."""
    text = f"{moment(time)} #{event.block}  {tell(event, names)}"
    return text if len(text) <= LINE else text[: LINE - 1] + "…"


def job_of(event: Event, names: Names) -> int | None:
    """The job that an event is about, if it is about one."""
    job = getattr(event, "job", None)
    game = getattr(event, "game", None)
    return names.game_job(game) if job is None and isinstance(game, int) else job


def _of_game(game: int, names: Names) -> str:
    job = names.game_job(game)
    return f"game {game}: " if job is None else f"job {job}, game {game}: "


def _tree(tree: Tree) -> str:
    return (tree.name or "?").lower()


@singledispatch
def tell(event: Event, names: Names) -> str:
    """What happened. An event that has no words of its own is told by its name and numbers."""
    numbers = {name: value for name, value in vars(event).items() if isinstance(value, int) and name not in ("block", "index")}
    return " ".join([type(event).__name__, *(f"{name}={value}" for name, value in numbers.items())])


# Deployment -------------------------------------------------------------------------------------------------------------


@tell.register
def _(event: OwnershipTransferStarted, names: Names) -> str:
    if event.pending == NOBODY:
        return f"the owner {short(event.owner)} takes its offer of the ownership back"
    return f"the owner {short(event.owner)} offers the ownership to {short(event.pending)}"


@tell.register
def _(event: OwnershipTransferred, names: Names) -> str:
    if event.owner == NOBODY:
        return f"{short(event.previous)} gives the ownership up; there is no owner any more"
    return f"{short(event.owner)} is the owner"


@tell.register
def _(event: Paused, names: Names) -> str:
    return f"PAUSED: all clocks stand still, until {moment(event.until)} at the latest"


@tell.register
def _(event: Unpaused, names: Names) -> str:
    return "the pause is over: all clocks go on"


@tell.register
def _(event: GameAdded, names: Names) -> str:
    return f"jobs may name the game contract {short(event.game)}"


@tell.register
def _(event: GameRetired, names: Names) -> str:
    return f"jobs may no longer name the game contract {short(event.game)}"


@tell.register
def _(event: DeliverySet, names: Names) -> str:
    return f"the delivery contract is {short(event.delivery)}"


# Jobs -------------------------------------------------------------------------------------------------------------------


@tell.register
def _(event: Committed, names: Names) -> str:
    return f"{short(event.account)} commits to a claim or an opening, still hidden"


@tell.register
def _(event: JobOpened, names: Names) -> str:
    coin, spec = names.coin(event.terms.token), event.spec
    size = f"{counted(spec.steps, 'step')}, {counted(spec.segments, 'segment')}"
    origin = f" after job {event.parent}" if event.parent else ""
    money = f"bounty {coin.brief(event.bounty)}, stake {coin.told(event.terms.stake)}"
    return f"job {event.job}: offered by {short(event.requester)}, {size}{origin}, {money}, {harmless(event.uri)}"


@tell.register
def _(event: JobClaimed, names: Names) -> str:
    attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
    return f"job {event.job}: claimed by {short(event.trainer)}{attempt}, {harmless(event.uri)}"


@tell.register
def _(event: JobCancelled, names: Names) -> str:
    return f"job {event.job}: cancelled, {names.job_coin(event.job).told(event.refund)} back to the requester"


@tell.register
def _(event: SegmentPosted, names: Names) -> str:
    return f"job {event.job}: segment {event.segment} posted, state {event.end_state.hex()[:12]}…"


@tell.register
def _(event: SegmentFinalised, names: Names) -> str:
    amount = names.job_coin(event.job).told(event.milestone)
    return f"job {event.job}: segment {event.segment} final, {amount} to {short(event.trainer)}"


@tell.register
def _(event: JobCompleted, names: Names) -> str:
    retained = f", {names.job_coin(event.job).told(event.retained)} retained" if event.retained else ""
    return f"job {event.job}: COMPLETED by {short(event.trainer)}, state {event.state.hex()[:12]}…{retained}"


@tell.register
def _(event: JobExpired, names: Names) -> str:
    return f"job {event.job}: EXPIRED, {short(event.trainer)} missed the deadline of attempt {event.attempt} and loses its stake"


@tell.register
def _(event: JobSlashed, names: Names) -> str:
    coin = names.job_coin(event.job)
    shares = f"{coin.told(event.reward)} to {short(event.beneficiary)}, {coin.brief(event.burnt)} burnt"
    return f"job {event.job}: SLASHED, {short(event.trainer)} loses its stake: {shares}"


@tell.register
def _(event: JobRefunded, names: Names) -> str:
    return f"job {event.job}: no attempt is left, {names.job_coin(event.job).told(event.refund)} back to the requester"


# Money and delivery -----------------------------------------------------------------------------------------------------


@tell.register
def _(event: RetainedReleased, names: Names) -> str:
    return f"job {event.job}: delivered, {names.job_coin(event.job).told(event.amount)} to {short(event.trainer)}"


@tell.register
def _(event: RetainedWithheld, names: Names) -> str:
    return f"job {event.job}: NOT delivered, {names.job_coin(event.job).told(event.amount)} back to {short(event.requester)}"


@tell.register
def _(event: LeafDemanded, names: Names) -> str:
    return f"job {event.job}, demand {event.demand}: {short(event.account)} demands a leaf of component {event.component}"


@tell.register
def _(event: Answered, names: Names) -> str:
    return f"job {event.job}, demand {event.demand}: leaf {event.leaf} shown, {counted(len(event.data), 'byte')}"


@tell.register
def _(event: Unanswered, names: Names) -> str:
    return f"job {event.job}, demand {event.demand}: the leaf was not shown in time"


@tell.register
def _(event: DemandReclaimed, names: Names) -> str:
    return f"job {event.job}, demand {event.demand}: settled by another one, bond given back"


@tell.register
def _(event: Withdrawn, names: Names) -> str:
    return f"{short(event.account)} withdraws {names.coin(event.token).told(event.amount)}"


@tell.register
def _(event: Burnt, names: Names) -> str:
    return f"{names.coin(event.token).told(event.amount)} burnt"


# Games ------------------------------------------------------------------------------------------------------------------


@tell.register
def _(event: GameOpened, names: Names) -> str:
    return f"job {event.job}, game {event.game}: opened by {short(event.challenger)} on segment {event.segment}"


@tell.register
def _(event: StepShown, names: Names) -> str:
    return f"{_of_game(event.game, names)}challenger points at step {event.step:,}"


@tell.register
def _(event: TracePosted, names: Names) -> str:
    return f"job {event.job}, game {event.game}: trainer posts the trace of step {event.step:,}, root {event.root.hex()[:12]}…"


@tell.register
def _(event: Demanded, names: Names) -> str:
    name = f"tensor {event.tensor}" if event.tree == Tree.TENSOR else _tree(event.tree)
    what = f"{name}, {counted(event.count, 'leaf', 'leaves')}"
    return f"{_of_game(event.game, names)}challenger demands the {what}"


@tell.register
def _(event: Picked, names: Names) -> str:
    place = f"height {event.height}, position {event.position:,}"
    return f"{_of_game(event.game, names)}challenger picks descendant {event.child} ({place})"


@tell.register
def _(event: Revealed, names: Names) -> str:
    place = f"(height {event.height}, position {event.position:,})"
    if event.tree == Tree.RUN:
        what = f"{counted(len(event.payload) // PART_BYTES, 'partial result')} {place}"
    elif event.height == 0:
        what = f"{counted(len(event.payload), 'byte')} of leaf {event.position:,} of the tensor"
    else:
        what = f"{counted(len(event.payload) // DIGEST_BYTES, 'digest')} of the {_tree(event.tree)} {place}"
    return f"{_of_game(event.game, names)}trainer reveals {what}"


@tell.register
def _(event: Refuted, names: Names) -> str:
    return f"{_of_game(event.game, names)}REFUTED: what the trainer revealed last is not what was picked"


@tell.register
def _(event: RunDemanded, names: Names) -> str:
    what = f"the run of element {event.position:,} of node {event.node}"
    return f"{_of_game(event.game, names)}challenger has found {what}"


@tell.register
def _(event: Judged, names: Names) -> str:
    verdict = "as claimed" if event.claimed == event.correct else f"claimed {event.claimed}, correct {event.correct}"
    return f"{_of_game(event.game, names)}JUDGED: node {event.node}, element {event.position:,}: {verdict}"


@tell.register
def _(event: BoundaryJudged, names: Names) -> str:
    verdict = "has the root that it must have" if event.joined else "has another root than it must have"
    return f"{_of_game(event.game, names)}JUDGED: the tensor of node {event.node} {verdict}"


@tell.register
def _(event: Convicted, names: Names) -> str:
    reason = "its time is up" if event.by_timeout else "by verdict"
    return f"job {event.job}, game {event.game}: the trainer is CONVICTED, {reason}"


@tell.register
def _(event: Acquitted, names: Names) -> str:
    reason = "the challenger's time is up" if event.by_timeout else "by verdict"
    return f"job {event.job}, game {event.game}: the trainer is ACQUITTED, {reason}"


@tell.register
def _(event: GameCancelled, names: Names) -> str:
    return f"job {event.job}, game {event.game}: another game ended the attempt, the bond goes back"
