"""Casts: who takes part in a dispute, made of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bisection.agent import Answers, Nothing
from bisection.program import NUMERICS_VERSION
from contracts.deploy import Parameters
from contracts.jobs import JobSpec
from sims.chain.actors import Trainer, Watcher
from sims.chain.kinds import Dispute, Scaled
from sims.chain.lies import Lie, lying
from sims.chain.play import Play, Rules, Side, play
from sims.chain.runs import Execution, Work, posting_of, work
from sims.chain.seat import Seat
from sims.chain.strategies import CONDUCTS, Copycat, Crashing, Fabricating, Friend, Sybils, service
from sims.chain.synthetic import Scale, Shown, SyntheticTrace
from sims.chain.world import Actor, Builder, Reorg, World
from sims.result import Outcome

__all__ = ["cast_of", "played", "played_at_scale", "rules_of"]


def played(p: Dispute, seed: int, moves: bool = False) -> Outcome:
    """Play a dispute; with ``moves`` its transactions are told too."""
    job = work(p.program, p.size, p.steps, p.segment_steps)
    run = job.honest if p.lie == "none" else lying(job, Lie(p.lie, p.lie_step, seed))
    return play(rules_of(p), job.spec, cast_of(p, job, run, seed), moves)


def rules_of(p: Dispute) -> Rules:
    """What of the parameters is not about who takes part."""
    censored = {"nobody": (), "trainer": ("trainer",), "watchers": tuple(f"watcher-{k}" for k in range(p.watchers))}[p.censored]
    return Rules(
        parameters=Parameters(
            burn_share=p.burn_share,
            reward_share=p.reward_share,
            bond=p.bond_wei,
            trainer_clock=p.trainer_clock_seconds,
            challenger_clock=p.challenger_clock_seconds,
        ),
        stake=p.stake_wei,
        bounty=p.bounty_wei,
        segment_period=p.period_seconds,
        window=p.window_seconds,
        block_seconds=p.block_seconds,
        builder=Builder(censored=censored, budget=p.censorship_seconds if censored else 0, slices=p.slice_seconds),
        first={"bids": None, "attackers": "attacker", "honest": "honest"}[p.order],
        reorgs=tuple(Reorg(8 + 5 * k, p.reorg_blocks) for k in range(p.reorgs)),
    )


def cast_of(p: Dispute, job: Work, run: Execution, seed: int) -> Callable[[World], Play]:
    """Who takes part, given the world. ``run`` is what the trainer has computed."""
    wrong = run.first_difference(job.honest)
    honest, posted = job.spans(job.honest), job.spans(run)
    shut = [f"watcher-{k}" for k in range(p.refuses)]
    told = service(p.serves, posted, shut)

    def cast(world: World) -> Play:
        actors: list[Actor] = []
        sides: dict[str, Side] = {}

        def seat(name: str, side: Side, bids: int = 1) -> Seat:
            sides[name] = side
            return Seat(world, name, bids * p.gas_price_wei)

        faithful = wrong is None and p.conduct == "defend"
        trainer = seat("trainer", "honest" if faithful else "attacker")
        actors.append(Trainer(trainer, posted, CONDUCTS[p.conduct](), pace=min(600, p.period_seconds // 2)))
        if p.friend != "none":
            actors.append(Friend(seat("friend", "attacker", 2), honest, service("all", posted), p.friend == "convict"))
        for k in range(p.watchers):
            outages = [(p.outage_after_seconds, p.outage_after_seconds + p.outage_seconds)] if k == 0 and p.outage_seconds else []
            actors.append(Crashing(seat(f"watcher-{k}", "honest"), honest, told, p.replay_seconds, outages))
        for k in range(p.mistaken):
            other = job.spans(lying(job, Lie("element", (seed + 3 * k) % job.steps, seed + k)))
            actors.append(Watcher(seat(f"mistaken-{k}", "mistaken"), other, told, p.replay_seconds))
        if p.sybils:
            seats = [seat(f"sybil-{k}", "attacker") for k in range(p.sybils)]
            actors.append(Sybils(seats, posted, p.grief, seed, late=p.late))
        victims = [name for name in sides if name.startswith(("watcher", "mistaken"))]
        actors.extend(Copycat(seat(f"copycat-{k}", "attacker", 2 + k), victims) for k in range(p.copycats))
        return Play(actors, sides, None if wrong is None else wrong // job.segment_length, faithful)

    return cast


# At scale ---------------------------------------------------------------------------------------------------------------


class Whole(SyntheticTrace):
    """A synthetic execution as the one segment of its job."""

    first = 0

    @property
    def length(self) -> int:
        """See Posted."""
        return self.history().count - 1

    def posting(self) -> tuple[bytes, tuple[bytes, ...], bytes, tuple[bytes, ...]]:
        """See Posted."""
        return posting_of(self.history())

    def spec(self) -> JobSpec:
        """The job that this is a run of."""
        p, steps = self.program, self.length
        counts = (len(p.state), self.data().root, len(p.data), steps, steps, NUMERICS_VERSION)
        return JobSpec(p.root, len(p.nodes), len(p.tensors), self.state(0).root, *counts)


WINDOW = 5_000  # seconds that remain of it after a replay


def played_at_scale(p: Scaled, seed: int) -> Outcome:
    """Play a dispute about a wrong element, defended with partial results that add up to it."""
    scale = Scale(p.steps, p.nodes, p.elements, p.run_length)
    honest, wrong = Whole(scale), Whole(scale, lie=1 + seed)

    def told(asker: str, own: object) -> Answers:
        return Nothing() if p.withheld else Shown(wrong)

    def cast(world: World) -> Play:
        trainer, watcher = (Seat(world, name, p.gas_price_wei) for name in ("trainer", "watcher-0"))
        actors: list[Actor] = [Trainer(trainer, [wrong], Fabricating()), Watcher(watcher, [honest], told, p.replay_seconds)]
        return Play(actors, {"trainer": "attacker", "watcher-0": "honest"}, 0, False)

    rules = rules_of(Dispute(window_seconds=WINDOW + p.replay_seconds, block_seconds=p.block_seconds))
    outcome = play(rules, honest.spec(), cast, moves=True)
    return replace(outcome, metrics={**outcome.metrics, "parameters": p.elements, "trace_tensors": len(scale.program.tensors)})
