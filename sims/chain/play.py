"""Whole disputes, from the offer of a job to the last withdrawal, and what they came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bisection.errors import RefstepError
from contracts.bindings import Phase
from contracts.deploy import Parameters
from contracts.jobs import NATIVE, JobSpec, JobStatus, Terms
from sims.chain.actors import GRACE, JOB, Requester, over
from sims.chain.seat import Seat
from sims.chain.world import FUNDS, Actor, Builder, Reorg, Transaction, World
from sims.result import Column, Outcome, Table, Value

__all__ = ["Play", "Rules", "Side", "play"]

Side = Literal["honest", "attacker", "mistaken"]
MOST_BLOCKS = 20_000
BURNT = "0x000000000000000000000000000000000000dEaD"


@dataclass(frozen=True)
class Rules:
    """What the contracts and the job's terms fix, and what the chain is like."""

    parameters: Parameters
    stake: int
    bounty: int
    segment_period: int
    window: int
    block_seconds: int = 12
    builder: Builder = field(default_factory=Builder)
    reorgs: tuple[Reorg, ...] = ()
    first: Side | None = None  # whose transactions come first, whatever they bid


@dataclass
class Play:
    """The cast of a dispute: on whose side each account is, and the first wrong segment, if there is one.

    A trainer that is not ``faithful`` may be convicted although its run is right, because of how it plays.
    """

    actors: list[Actor]
    sides: dict[str, Side]
    fraud: int | None
    faithful: bool = True


@dataclass
class _Story:
    """What was noted while it went on: when each segment's window ends, and since when the job is over."""

    windows: dict[int, int] = field(default_factory=dict)
    ended: int | None = None
    games: int = 0


def play(rules: Rules, spec: JobSpec, cast_of: Callable[[World], Play], moves: bool = False) -> Outcome:
    """Play a dispute to its end. ``cast_of`` makes the Play, given the world. With ``moves`` the transactions are told too.

    Raises RefstepError when it does not come to an end.
    """
    world = World(rules.parameters, rules.builder, rules.block_seconds, rules.reorgs)
    requester = Requester(Seat(world, "requester"), spec, _terms(rules, world), rules.bounty)
    cast = cast_of(world)
    sides: dict[str, Side] = {"requester": "honest", **cast.sides}
    world.builder.favoured = tuple(name for name in sides if sides[name] == rules.first)
    story = _tell(world, [requester, *cast.actors])
    _collect(world, list(sides))
    return _outcome(rules, spec, world, cast, sides, story, moves)


def _terms(rules: Rules, world: World) -> Terms:
    return Terms(
        stake=rules.stake,
        game=world.deployment.game.address,
        segment_period=rules.segment_period,
        challenge_window=rules.window,
    )


def _tell(world: World, actors: Sequence[Actor]) -> _Story:
    """Let everybody act until nobody has anything left to do."""
    story = _Story()
    for _ in range(MOST_BLOCKS):
        if not world.step(actors):
            return story
        if JOB not in world.index.job_uris:
            continue
        job = world.job(JOB)
        if not over(job):
            story.ended = None
            story.windows.update({k: world.segment(JOB, k).window_end for k in range(job.posted)} if job.status.disputable else {})
        elif story.ended is None:
            story.ended = world.now
        story.games = len(world.index.games[JOB])
    raise RefstepError(f"the dispute has not come to an end in {MOST_BLOCKS} blocks; report the scenario and its seed")


def _collect(world: World, names: Sequence[str]) -> None:
    """Everybody takes what it is owed, and what is nobody's is burnt."""
    ledgers = (world.deployment.registry, world.deployment.game, world.deployment.delivery)
    for name in names:
        for ledger in ledgers:
            if ledger.credit(world.account(name)):
                world.pool.append(Transaction(name, ledger.call("withdraw", NATIVE), 10**9))
    if world.deployment.registry.burnable():
        world.pool.append(Transaction("requester", world.deployment.registry.call("burn", NATIVE), 10**9))
    world.reorgs.clear()  # nobody would be left to do again what one undoes
    while world.pool:
        world.step(())


# What it came to --------------------------------------------------------------------------------------------------------

VERDICTS: Mapping[JobStatus, str] = {
    JobStatus.COMPLETED: "completed",
    JobStatus.SLASHED: "convicted",
    JobStatus.EXPIRED: "expired",
    JobStatus.CANCELLED: "cancelled",
}
ACCOUNTS = (
    Column("account", "", "whose it is"),
    Column("side", "", "honest, attacker or mistaken"),
    Column("transactions", "", "how many were mined"),
    Column("failed", "", "how many of them were reverted"),
    Column("gas", "gas", "used"),
    Column("fees_wei", "wei", "paid for gas"),
    Column("profit_wei", "wei", "what it has more than at first, after gas"),
)
MOVES = (
    Column("time", "s", "since the offer"),
    Column("account", "", "who sent it"),
    Column("call", "", "the function"),
    Column("gas", "gas", "used"),
    Column("refused", "", "the reason, if it was reverted"),
)


def _outcome(
    rules: Rules, spec: JobSpec, world: World, cast: Play, sides: Mapping[str, Side], story: _Story, moves: bool
) -> Outcome:
    gas, fees, sent, failed = world.tally()
    gains = {name: world.balance(world.account(name)) - FUNDS for name in sides}
    profit = {name: gains[name] - fees[name] for name in sides}
    burnt, left = world.balance(BURNT), sum(world.balance(a) for a in (world.book.registry, world.book.game, world.book.delivery))

    def of(side: Side) -> int:
        return sum(profit[name] for name in sides if sides[name] == side and name != "requester")

    verdict = VERDICTS.get(world.job(JOB).status, "open")
    decisive = _decisive(spec, world)
    posted = story.windows[decisive] - rules.window if decisive in story.windows else None
    delay = None if posted is None or story.ended is None else story.ended - posted
    clocks = rules.parameters.trainer_clock + rules.parameters.challenger_clock
    slack = (spec.segments + 4) * rules.block_seconds + GRACE + rules.builder.budget
    bound = rules.window + clocks + slack
    metrics: dict[str, Value] = {
        "verdict": verdict,
        "fraud": cast.fraud is not None,
        "right": _right(cast, verdict, story),
        "delay_seconds": delay,
        "bound_seconds": bound,
        "within_bound": verdict == "cancelled" if delay is None else delay <= bound,
        "attacker_profit_wei": of("attacker"),
        "honest_profit_wei": of("honest"),
        "mistaken_profit_wei": of("mistaken"),
        "trainer_profit_wei": profit["trainer"],
        "watchers_profit_wei": sum(profit[name] for name in sides if name.startswith("watcher")),
        "requester_profit_wei": profit["requester"],
        "burnt_wei": burnt,
        "fees_wei": sum(fees.values()),
        "money_conserved": left == 0 and sum(gains.values()) + burnt == 0,
        "games": story.games,
        **_course(world, sides, posted),
        "gas": sum(gas.values()),
        "gas_trainer": gas["trainer"],
        "gas_requester": gas["requester"],
        "gas_watchers": sum(gas[name] for name in sides if sides[name] == "honest" and name.startswith("watcher")),
        "gas_honest": sum(gas[name] for name in sides if sides[name] == "honest"),
        "gas_attacker": sum(gas[name] for name in sides if sides[name] == "attacker"),
        "transactions": sum(sent.values()),
        "transactions_failed": sum(failed.values()),
        "transactions_honest_failed": sum(failed[name] for name in sides if sides[name] == "honest"),
        "blocks": len(world.provider.made),
    }
    rows = tuple((name, sides[name], sent[name], failed[name], gas[name], fees[name], profit[name]) for name in sides)
    tables = {"accounts": Table(ACCOUNTS, rows)}
    if moves:
        tables["transactions"] = Table(MOVES, _moves(world))
    return Outcome(metrics, tables)


def _right(cast: Play, verdict: str, story: _Story) -> bool:
    """Whether what was posted came to its due: fraud to a conviction, right work to its pay. What nobody claims is taken back."""
    if cast.fraud in story.windows:
        return verdict == "convicted"
    return verdict in ("completed", "cancelled") or not cast.faithful


def _course(world: World, sides: Mapping[str, Side], posted: int | None) -> dict[str, Value]:
    """How the games went: when honest watchers found the fraud and when it was convicted, and what all games took.

    ``detected`` counts from the decisive segment to the first watcher's commitment, ``localised`` from there to the conviction.
    """
    game = world.deployment.game.address
    acts = [(tx, tx.receipt) for tx in world.mined if tx.call.to == game and tx.call.name != "withdraw" and tx.receipt is not None]
    found = [r.time for tx, r in acts if tx.call.name == "commit" and sides[tx.sender] == "honest" and r.ok]
    convicted = world.job(JOB).status == JobStatus.SLASHED
    last = max((r.time for tx, r in acts if r.ok and tx.call.name != "reclaim"), default=0)
    return {
        "detected_seconds": found[0] - posted if found and posted is not None else None,
        "localised_seconds": last - found[0] if found and convicted else None,
        "dispute_gas": sum(r.gas for _, r in acts),
        "dispute_gas_trainer": sum(r.gas for tx, r in acts if tx.sender == "trainer"),
        "verdict_gas": max((r.gas for tx, r in acts if r.ok and tx.call.name.startswith("conclude")), default=None),
        "dispute_transactions": len(acts),
    }


def _decisive(spec: JobSpec, world: World) -> int:
    """The segment in a game about which the trainer was convicted, or else the last one."""
    for game in world.index.games[JOB]:
        if world.eyes.view(game).phase == Phase.CONVICTED:
            return world.index.segments[game]
    return spec.segments - 1


def _moves(world: World) -> tuple[tuple[int | str, ...], ...]:
    first = world.provider.made[0].time
    told = [(tx, tx.receipt) for tx in world.mined]
    return tuple((r.time - first, tx.sender, tx.call.name, r.gas, r.reason or "") for tx, r in told if r is not None)
