"""The dispute campaign: wrong numbers in real training steps must be convicted, honest trainers never, on the real contracts.

The job is the digits MLP of the demo, captured from PyTorch. Each corruption changes one element of one step: of any tensor of the
trace on which the state depends, or of any tensor of the state after the step. The trainer goes on from it consistently and plays
its games as well as it can. It must be convicted on both paths, at the step, node and element that are wrong. Every eighth
corruption is on a job that starts with a NaN among its weights, so that there are NaN whose payload can be falsified.

Incoherent claims are traces and states with several wrong elements from which nothing follows, by a trainer whose data service
tells the truth, nothing or lies as it happens. The first wrong element must be found.

False reveals are answers of a trainer, at any round of the slow path, that are not what was asked for: it must be convicted by the
refutation of just that answer.

False challenges are games of a hostile challenger against an honest trainer (benchmarks/_hostile.py).

    python -m benchmarks.disputes [--corruptions 200] [--incoherent 50] [--false-reveals 100] [--false-challenges 100] [--seed 0]
                                  [--chain ...]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import numpy as np
import torch

from benchmarks._execution import CHANGES, Execution, Forgery, draw, incoherent, places
from benchmarks._hostile import STYLES, Erratic, FalseChallenge, Fibbing, Garbling, HostileChallenger, kinds
from benchmarks._world import ANSWERS, CHAINS, PATHS, TERMS, Dispute, World, machine, world
from bisection.game import Outcome
from contracts.events import BoundaryJudged, Judged
from contracts.jobs import JobStatus
from sims import digits
from trainer.capture import Captured
from trainer.executor import Executor

__all__ = ["Result", "Trial", "digits_runs", "false_challenges", "forgeries", "try_false_reveal", "try_forgery"]

STEPS = 32
DIVERGED_EVERY = 8
MOST_DRAWS = 200  # changes of one place before it counts as one that never reaches the state
DIVERGED_DRAWS = 10  # a NaN swallows most of what happens before it


@dataclass(frozen=True)
class Trial:
    """One forgery on one path. ``findings`` is what must not be; ``fibs`` counts the answers about something else that the contract
    refused."""

    forgery: Forgery
    path: str | None
    dispute: Dispute
    fibs: int
    findings: tuple[str, ...]


@dataclass
class Result:
    """All that a campaign did, on which job."""

    job: str = ""
    places: int = 0
    trials: list[Trial] = field(default_factory=list)
    incoherent: list[Trial] = field(default_factory=list)
    reveals: list[Trial] = field(default_factory=list)
    challenges: list[FalseChallenge] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


# Corruptions ------------------------------------------------------------------------------------------------------------


def digits_runs(captured: Captured, steps: int = STEPS) -> tuple[Execution, Execution]:
    """(the digits job, the same with a NaN among its weights at the start), run honestly."""
    executor = Executor(captured.program, captured.data)
    weights = next(spec.name for spec in captured.program.state if spec.dtype == "f32")
    diverged = {name: np.array(array) for name, array in captured.state.items()}
    diverged[weights].reshape(-1)[0] = np.nan
    honest, other = (Execution.honest(executor, state, captured.data, steps) for state in (captured.state, diverged))
    return honest, other


def forgeries(runs: tuple[Execution, Execution], count: int, rng: np.random.Generator) -> Iterator[tuple[Execution, Forgery]]:
    """``count`` forgeries, each with the honest run that it departs from: every place in turn, in random order, with every kind of
    change in turn; in the run that diverged any place. A change that no committed state shows is no fraud, and another is drawn."""
    all_places = places(runs[0].program)
    changes = list(CHANGES)
    order: list[int] = []
    made = 0
    while made < count:
        diverged = (made + 1) % DIVERGED_EVERY == 0
        order = order or [int(i) for i in rng.permutation(len(all_places))]
        place = all_places[int(rng.integers(len(all_places))) if diverged else order.pop()]
        run, draws = (runs[1], DIVERGED_DRAWS) if diverged else (runs[0], MOST_DRAWS)
        drawn = (draw(run, place, changes[(made + i) % len(changes)], rng) for i in range(draws))
        forgery = next((forgery for forgery in drawn if forgery is not None), None)
        if forgery is not None:
            made += 1
            yield run, forgery


def try_forgery(stage: World, honest: Execution, forgery: Forgery, path: str | None, rng: np.random.Generator) -> Trial:
    """Post the forged run and have it disputed: on one of PATHS, or, when that is None, against an erratic data service. The
    trainer tries an answer about something else before each true one."""
    job = stage.post(forgery.trainer)
    answers = Fibbing(stage.chains["trainer"], rng)
    served = Erratic(forgery.trainer, rng) if path is None else stage.served(path, forgery.trainer)
    dispute = stage.dispute(job, forgery.trainer, honest, served, answers)
    findings = [*_wrong(forgery, dispute)]
    if answers.accepted:
        findings.append(f"{answers.accepted} answers about something else were accepted")
    if stage.deployments["requester"].registry.job(job).status != JobStatus.SLASHED:
        findings.append("the job was not slashed")
    where = f"{path or 'either'} path, {forgery.place}, {forgery.change}, step {forgery.step}, element {forgery.element}"
    return Trial(forgery, path, dispute, answers.refused, tuple(f"{where}: {finding}" for finding in findings))


def try_false_reveal(stage: World, honest: Execution, forgery: Forgery, which: int, rng: np.random.Generator) -> Trial:
    """Post the forged run and have it disputed on the slow path, where the trainer's reveal number ``which`` is garbage."""
    job = stage.post(forgery.trainer)
    answers = Garbling(stage.chains["trainer"], rng, which)
    dispute = stage.dispute(job, forgery.trainer, honest, stage.served("slow", forgery.trainer), answers)
    findings = []
    if not answers.garbled:
        findings.append("the game was over before it")
    if dispute.game.outcome != Outcome.CONVICTED:
        findings.append(f"the game ended {dispute.game.outcome.name}")
    if [sent.name for sent in dispute.transactions[-2:]] not in (["reveal", "refute"], ["post_trace", "refute"]):
        findings.append("it was not refuted at once")
    if stage.deployments["requester"].registry.job(job).status != JobStatus.SLASHED:
        findings.append("the job was not slashed")
    where = f"false reveal number {which}, {forgery.place}, {forgery.change}, step {forgery.step}"
    return Trial(forgery, "slow", dispute, 0, tuple(f"{where}: {finding}" for finding in findings))


def reveals_in(dispute: Dispute) -> int:
    """How many of a trainer's answers showed something. On the slow path the trace root comes with its first descendants."""
    return sum(sent.name in ANSWERS for sent in dispute.transactions)


def _wrong(forgery: Forgery, dispute: Dispute) -> Iterator[str]:
    """What is wrong with the verdict."""
    game, verdict = dispute.game, dispute.verdict
    if game.outcome != Outcome.CONVICTED:
        yield f"the game ended {game.outcome.name}"
    if game.step != forgery.step:
        yield f"the disputed step was {game.step}"
    found: tuple[object, ...]
    expected: tuple[object, ...]
    if isinstance(verdict, Judged):
        found = (verdict.node, verdict.output, verdict.position, verdict.claimed, verdict.correct)
        expected = (forgery.node, forgery.output, forgery.element, forgery.claimed, forgery.correct)
    elif isinstance(verdict, BoundaryJudged):
        found = (verdict.node, verdict.tensor_root, verdict.component_root, verdict.joined)
        expected = (forgery.node, forgery.claimed, forgery.correct, False)
    else:
        yield "there was no verdict"
        return
    if found != expected:
        yield f"the verdict was about {found} instead of {expected}"


# False challenges -------------------------------------------------------------------------------------------------------


def false_challenges(stage: World, honest: Execution, count: int, rng: np.random.Generator) -> Iterator[FalseChallenge]:
    """``count`` false challenges against one honest job, every style with every kind of node in turn."""
    challenger = HostileChallenger(stage, stage.post(honest), honest, rng)
    rows = [(style, kind) for kind in kinds(honest.program) for style in STYLES]
    for i in range(count):
        yield challenger.play(*rows[i % len(rows)])


def completed(stage: World, job: int) -> list[str]:
    """Findings about the end of an honest job that has been challenged in vain: it must complete and pay."""
    stage.pass_time(TERMS.challenge_window + 1)
    registry = stage.deployments["trainer"].registry
    registry.finalise(job)
    held = stage.settle()
    findings = [] if registry.job(job).status == JobStatus.COMPLETED else ["the honest job was not completed"]
    return findings if held == (0, 0) else [*findings, f"after all is paid out the contracts hold {held} wei"]


# The report -------------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def spread(values: Sequence[int]) -> str:
    """Least, median and greatest."""
    return f"{min(values):,} / {int(median(values)):,} / {max(values):,}"


def report(result: Result) -> str:
    """The campaign's tables, in Markdown."""
    trials, challenges = result.trials, result.challenges
    parts = [f"The job: {result.job}."]
    if trials:
        covered = len({trial.forgery.place for trial in trials})
        convictions = Counter(trial.path for trial in trials if not trial.findings)
        by_change = Counter((t.forgery.change, t.forgery.place.state) for t in trials if t.path == PATHS[0])
        groups = [
            (path, kind, [t for t in trials if t.path == path and t.forgery.kind == kind])
            for path in PATHS
            for kind in kinds(trials[0].forgery.trainer.program)
        ]
        parts += [
            f"Convicted at the right step, node and element: {convictions['fast']} fast, {convictions['slow']} slow, of "
            f"{len(trials) // len(PATHS)} corruptions, which cover {covered} of {result.places} places. "
            f"Answers about something else refused: {sum(t.fibs for t in trials):,}.",
            table(["change", "in the trace", "in the state"], [(c, by_change[c, False], by_change[c, True]) for c in CHANGES]),
            "Least / median / greatest:",
            table(
                ["path, node kind", "disputes", "transactions", "gas", "gas of the verdict"],
                [
                    (
                        f"{path}, {kind}",
                        len(group),
                        spread([len(t.dispute.transactions) for t in group]),
                        spread([t.dispute.gas for t in group]),
                        spread([t.dispute.verdict_gas for t in group]),
                    )
                    for path, kind, group in groups
                    if group
                ],
            ),
        ]
    if result.incoherent:
        right = sum(not trial.findings for trial in result.incoherent)
        moves = spread([len(trial.dispute.transactions) for trial in result.incoherent])
        parts.append(
            f"Incoherent claims convicted at their first wrong element: {right} of {len(result.incoherent)}, in {moves} moves."
        )
    if result.reveals:
        right = sum(not trial.findings for trial in result.reveals)
        parts.append(f"False reveals refuted at once: {right} of {len(result.reveals)}.")
    if challenges:
        refused = sum((c.refused for c in challenges), Counter[str]())
        parts += [
            f"Acquitted: {sum(c.outcome == Outcome.ACQUITTED for c in challenges)} of {len(challenges)} false challenges, "
            f"{sum(c.by_timeout for c in challenges)} of them by time-out. Forged or untimely messages: {refused.total():,} "
            f"refused, {sum(c.harmless for c in challenges)} accepted that changed nothing.",
            table(["reason of refusal", "times"], refused.most_common()),
        ]
    parts.append("\n".join(f"FINDING: {finding}" for finding in result.findings) or "Findings: none.")
    return "\n\n".join(parts)


def campaign(stage: World, corruptions: int, claims: int, reveals: int, challenges: int, seed: int) -> Result:
    """Run all of it, with a line of progress now and then."""
    result, start = Result(), time.monotonic()
    captured = digits.job(0)[1]
    runs = digits_runs(captured)
    program = captured.program
    result.places = len(places(program))
    result.job = f"{STEPS} steps of program {program.root.hex()[:16]}…: {len(program.nodes)} nodes, {len(program.tensors)} tensors"

    def progress(what: str, done: int, of: int) -> None:
        if done % 10 == 0 or done == of:
            line = f"{what} {done} of {of}, {len(result.findings)} findings, {time.monotonic() - start:.0f} s"
            print(line, file=sys.stderr, flush=True)

    rng = np.random.default_rng([seed, 0])
    for done, (honest, forgery) in enumerate(forgeries(runs, corruptions, rng), 1):
        for path in PATHS:
            trial = try_forgery(stage, honest, forgery, path, rng)
            result.trials.append(trial)
            result.findings += trial.findings
        progress("corruption", done, corruptions)
    rng = np.random.default_rng([seed, 2])
    drawn = (forgery for forgery in iter(lambda: incoherent(runs[0], rng), 0) if isinstance(forgery, Forgery))
    for done, forgery in enumerate(islice(drawn, claims), 1):
        trial = try_forgery(stage, runs[0], forgery, None, rng)
        result.incoherent.append(trial)
        result.findings += trial.findings
        progress("incoherent claim", done, claims)
    rng = np.random.default_rng([seed, 3])
    for done, (honest, forgery) in enumerate(forgeries(runs, reveals, rng), 1):
        rounds = reveals_in(try_forgery(stage, honest, forgery, "slow", rng).dispute)
        trial = try_false_reveal(stage, honest, forgery, int(rng.integers(rounds)), rng)
        result.reveals.append(trial)
        result.findings += trial.findings
        progress("false reveal", done, reveals)
    for done, challenge in enumerate(false_challenges(stage, runs[0], challenges, np.random.default_rng([seed, 1])), 1):
        result.challenges.append(challenge)
        result.findings += challenge.findings
        progress("false challenge", done, challenges)
    if challenges:
        result.findings += completed(stage, stage.deployments["requester"].registry.job_count())
    return result


def main() -> int:
    """Run the campaign and print its report. Returns 1 if there is any finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corruptions", type=int, default=200)
    parser.add_argument("--incoherent", type=int, default=50)
    parser.add_argument("--false-reveals", type=int, default=100)
    parser.add_argument("--false-challenges", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", choices=CHAINS, default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the model is small, and the chain needs a core as well
    start = time.monotonic()
    with world(options.chain) as stage:
        result = campaign(
            stage, options.corruptions, options.incoherent, options.false_reveals, options.false_challenges, options.seed
        )
        print(report(result))
        spent = f"{time.monotonic() - start:.0f} s, of which {time.process_time():.0f} s in this process"
        print(f"\n{spent}, on {stage.name}, seed {options.seed}; {machine()}")
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
