"""An overview as text for people: a whole deployment, or one job in full. No line is longer than ``words.LINE``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from contracts.bindings import Phase, Tree
from contracts.jobs import NOBODY, JobStatus
from contracts.overview import BASIS, Account, GameState, Holding, JobState, Overview, PostedSegment
from contracts.words import ETHER_COIN, counted, duration, fold_line, harmless, moment, percent, relative, short, table

__all__ = ["deployment_text", "descent_words", "job_text", "phase_words"]

INDENT = 16
PHASES = {
    "CHALLENGER": "the challenger has to move",
    "TRACE": "the trainer owes the root of the step's trace",
    "CHILDREN": "the trainer owes the descendants of a node",
    "LEAF": "the trainer owes the bytes of a leaf",
    "PARTS": "the trainer owes partial results",
    "CONVICTED": "over, the trainer was convicted",
    "ACQUITTED": "over, the trainer was acquitted",
    "CANCELLED": "over, another game ended the attempt and the bond went back",
}
NOT_ON = "another game ended the attempt; the bond can be reclaimed"


# Games ------------------------------------------------------------------------------------------------------------------


def phase_words(game: GameState) -> str:
    """Whose turn it is and what for, or how the game ended."""
    if game.phase.live and not game.on:
        return NOT_ON
    words = PHASES[game.phase.name]
    d = game.descent
    if game.phase == Phase.TRACE and d is not None and d.tree == Tree.TRACE:
        words += ", then its descendants"
    return words + (", but its time is up: anybody may end it" if game.live and game.left < 0 else "")


def descent_words(game: GameState) -> str:
    """Where the descent stands: ``trace, 4 levels above the leaves at position 5``; nothing where none is under way."""
    d = game.descent
    if d is None or game.phase == Phase.TRACE or not game.live:
        return ""
    name = d.tree.name.lower() if d.tree.name else "?"
    if d.tree == Tree.TENSOR:
        name = f"tensor {d.tensor} of {d.size:,} bytes"
    elif d.run is not None:
        name = f"run of element {d.run[1]:,} of node {d.run[0]}"
    if d.height == 0:
        return f"{name}, at " + ("the only leaf" if d.count == 1 else f"leaf {d.position:,}")
    return f"{name}, {counted(d.height, 'level')} above the leaves" + ("" if d.position == 0 else f" at position {d.position:,}")


def _place(game: GameState) -> str:
    return f"segment {game.segment}, " + ("step not shown" if game.step is None else f"step {game.step:,}")


def _clocks(game: GameState) -> str:
    sides = (("trainer", game.trainers_left, game.trainers_turn), ("challenger", game.challengers_left, not game.trainers_turn))
    notes = {True: " (running)", False: ""}
    return ", ".join(f"{side} {duration(left)}{notes[runs]}" if left >= 0 else f"{side} none" for side, left, runs in sides)


def _game_lines(game: GameState, head: str, who: str) -> list[str]:
    text = f"{who}: {phase_words(game)}"
    if descent := descent_words(game):
        text += f" ({descent})"
    if game.live:
        text += f"; left: {_clocks(game)}"
    return fold_line(head, text, INDENT)


# One job ----------------------------------------------------------------------------------------------------------------


def _next(overview: Overview, state: JobState) -> str:
    """What happens to a job next, and when."""
    job, clock = state.job, overview.clock
    if state.status == JobStatus.OPEN:
        return "anybody may claim it" if job.terms.trainer == NOBODY else f"{short(job.terms.trainer)} may claim it"
    if state.status == JobStatus.COMPLETED:
        if job.settled:
            return "all is paid"
        if job.open_demands:
            return f"{counted(job.open_demands, 'leaf', 'leaves')} demanded"
        if clock > job.delivery_end:
            return f"{state.coin.brief(state.bounty_held)} retained can be released"
        return f"delivery ends {relative(job.delivery_end + 1 - clock)}"
    if not state.status.disputable:
        return "over"
    parts = []
    if state.status == JobStatus.TRAINING:
        late = clock > job.deadline
        parts.append(f"segment {job.posted} {'was due' if late else 'due'} {relative(job.deadline - clock)}")
        if late and not job.live_games:
            parts.append("can be expired")
    waiting = next((segment for segment in state.segments if not segment.final), None)
    if waiting is not None:
        parts.append(_finality(overview, waiting))
    return "; ".join(parts)


def _finality(overview: Overview, segment: PostedSegment) -> str:
    if segment.games:
        return f"segment {segment.number} in {counted(len(segment.games), 'game')}"
    left = segment.window_end + 1 - overview.clock
    return f"segment {segment.number} final {relative(left)}" if left > 0 else f"segment {segment.number} can be made final"


def _when(overview: Overview, second: int) -> str:
    """A second of protocol time, in UTC and from now."""
    if overview.paused:
        left = second - overview.clock
        return relative(left) if left <= 0 else f"{duration(left)} after the clocks go on"
    return f"{moment(overview.in_chain_time(second))} ({relative(second - overview.clock)})"


def _terms(state: JobState) -> str:
    terms = state.job.terms
    parts = [
        f"stake {state.coin.amount(terms.stake)}",
        f"{duration(terms.segment_period)} for each segment",
        f"window {duration(terms.challenge_window)}",
        counted(terms.attempts, "attempt"),
    ]
    if terms.retained_share:
        parts.append(f"{percent(terms.retained_share)} retained for a delivery period of {duration(terms.delivery_period)}")
    if terms.trainer != NOBODY:
        parts.append(f"for {terms.trainer} only")
    return ", ".join(parts)


def _bounty(state: JobState) -> str:
    coin, parts = state.coin, []
    if state.job.paid:
        parts.append(f"{coin.number(state.job.paid)} paid")
    if state.bounty_held:
        parts.append(f"{coin.number(state.bounty_held)} held")
    elif state.status in (JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.SLASHED):
        parts.append(f"{coin.number(state.job.bounty - state.job.paid)} given back")
    if state.retained and state.bounty_held:
        parts.append(f"{coin.number(state.retained)} of that until delivery")
    return ": ".join([coin.amount(state.job.bounty), ", ".join(parts)]) if parts else coin.amount(state.job.bounty)


def _segment_words(overview: Overview, state: JobState, segment: PostedSegment) -> str:
    last = segment.first_step + segment.steps
    words = f"steps {segment.first_step:,} to {last:,}, "
    paid = state.coin.amount(segment.milestone)
    if segment.final:
        return f"{words}final, {paid} paid"
    open_until = overview.clock <= segment.window_end
    words += f"window {'ends' if open_until else 'ended'} {_when(overview, segment.window_end)}"
    if segment.games:
        words += ", in " + ("game " if len(segment.games) == 1 else "games ") + ", ".join(map(str, segment.games))
    elif not open_until:
        words += ", can be made final"
    return f"{words}; {paid} due"


def job_text(overview: Overview, state: JobState) -> str:
    """One job in full."""
    job, spec = state.job, state.job.spec
    attempt = f", attempt {job.attempt} of {job.terms.attempts}" if job.terms.attempts > 1 else ""
    rows = [
        ("status", f"{job.status.name.lower()}{attempt}: {_next(overview, state)}"),
        ("clocks", _clock_words(overview)),
        ("requester", job.requester),
        ("trainer", state.trainer or "none"),
        ("bounty", _bounty(state)),
        ("token", "" if state.coin == ETHER_COIN else state.coin.address),
        ("terms", _terms(state)),
        ("judged by", job.terms.game + ("" if job.terms.game == overview.book.game else ", whose games are not shown here")),
        ("deadline", f"segment {job.posted} by {_when(overview, job.deadline)}" if job.status == JobStatus.TRAINING else ""),
        (
            "steps",
            f"{spec.steps:,} in {counted(spec.segments, 'segment')} of {spec.segment_length:,}, numerics {spec.numerics_version}",
        ),
        ("job hash", job.job_hash.hex()),
        ("program", f"{spec.program_root.hex()} ({counted(spec.node_count, 'node')}, {counted(spec.tensor_count, 'tensor')})"),
        ("data", f"{spec.data_root.hex()} ({counted(spec.data_count, 'tensor')})" if spec.data_count else "none"),
        ("initial state", f"{spec.initial_state.hex()} ({counted(spec.state_count, 'tensor')})"),
        ("last state", job.state.hex() if job.posted else ""),
        ("parents", ", ".join(map(str, state.ancestors)) or "none: it starts from its own initial state"),
        ("continued by", ", ".join(f"job {number}" for number in state.children)),
        ("material", harmless(state.uri) or "nowhere"),
        ("data service", harmless(state.service)),
    ]
    lines = [f"job {state.number} at {_at(overview)}"]
    for label, text in rows:
        lines += fold_line(label, text, INDENT) if text else []
    for segment in state.segments:
        lines += fold_line(f"segment {segment.number}", _segment_words(overview, state, segment), INDENT)
    for game in state.games:
        attempts = f"attempt {game.attempt}, " if job.terms.attempts > 1 else ""
        lines += _game_lines(game, f"game {game.number}", f"{attempts}{_place(game)}, by {short(game.challenger)}")
    lines += _model_lines(state)
    for demand in state.demands:
        words = f"a leaf of component {demand.component}, for {short(demand.account)}, by {_when(overview, demand.answer_by)}"
        lines += fold_line(f"demand {demand.number}", words, INDENT)
    for account in overview.accounts:
        words = f"{_role(state, account)} {account.account} can withdraw {account.coin.amount(account.amount)} ({account.contract})"
        lines += fold_line("credit", words, INDENT)
    if not overview.accounts:
        lines += fold_line("credit", "nobody who had part in it can withdraw anything", INDENT)
    return "\n".join(lines)


def _role(state: JobState, account: Account) -> str:
    if account.account in (state.job.requester, state.trainer):
        return "requester" if account.account == state.job.requester else "trainer"
    challengers = {game.challenger for game in state.games}
    return "challenger" if account.account in challengers else "participant"


def _model_lines(state: JobState) -> list[str]:
    if state.model is None:
        return []
    words = f"state {state.model.state.hex()}, completed in block {state.model.completed_at:,}"
    if not state.job.settled and state.job.delivery_end:
        words += f", {counted(state.job.open_demands, 'open demand')}"
    return fold_line("model", words, INDENT)


# The deployment ---------------------------------------------------------------------------------------------------------


def _at(overview: Overview) -> str:
    return f"block {overview.block:,}, {moment(overview.time)}"


def _clock_words(overview: Overview) -> str:
    behind = max(overview.time - overview.clock, 0)
    told = f"protocol time is {duration(behind)} behind the chain's" if behind else "protocol time is the chain's"
    if overview.paused_until is None:
        return f"running; {told}"
    return f"PAUSED until {moment(overview.paused_until)} at the latest ({relative(overview.paused_until - overview.time)}); {told}"


def _owner(overview: Overview) -> str:
    if overview.owner == NOBODY:
        return "nobody, for good"
    return overview.owner + ("" if overview.pending_owner == NOBODY else f", offered to {overview.pending_owner}")


def _parameters(overview: Overview) -> list[tuple[str, str]]:
    p = overview.book.parameters
    shares = (
        (p.burn_share, "burnt"),
        (p.reward_share, "to the challenger"),
        (BASIS - p.burn_share - p.reward_share, "to the requester"),
    )
    clocks = f"trainer {duration(p.trainer_clock)}, challenger {duration(p.challenger_clock)}"
    return [
        ("slashed stake", ", ".join(f"{percent(share)} {where}" for share, where in shares)),
        ("a game", f"bond {ETHER_COIN.amount(p.bond)}, clocks: {clocks}"),
        ("a demand", f"bond {ETHER_COIN.amount(p.delivery_bond)}, {duration(p.answer_period)} for the answer"),
    ]


def _census(jobs: Iterable[JobState]) -> str:
    statuses = Counter(state.status for state in jobs)
    told = ", ".join(f"{statuses[status]} {status.name.lower()}" for status in JobStatus if statuses[status])
    return f"{counted(statuses.total(), 'job')}" + (f": {told}" if told else "")


def _job_row(overview: Overview, state: JobState) -> tuple[object, ...]:
    job, coin = state.job, state.coin
    attempt = f" {job.attempt}/{job.terms.attempts}" if job.terms.attempts > 1 else ""
    return (
        state.number,
        job.status.name.lower() + attempt,
        f"{job.posted}/{job.spec.segments}",
        job.finalised,
        job.live_games,
        coin.brief(job.bounty),
        coin.brief(job.terms.stake),
        coin.name,
        short(state.trainer) if state.trainer else "-",
        _next(overview, state),
    )


JOB_HEAD = ("job ", "status", "posted ", "final ", "games ", "bounty ", "stake ", "of", "trainer", "next")
MONEY_HEAD = ("contract", "of", "", "holds ", "owes ", "which is")


def _verdict(holding: Holding, steady: bool) -> str:
    if holding.held is None:
        return "THE TOKEN DOES NOT ANSWER"
    if holding.solvent:
        return "solvent"
    return f"SHORT BY {holding.coin.brief(holding.owed - holding.held)}" if steady else "unclear"


def _holding_row(holding: Holding, steady: bool) -> tuple[object, ...]:
    coin = holding.coin
    debts = {**holding.deposits, "credited": holding.credits, "to burn": holding.burnable}
    parts = ", ".join(f"{name} {coin.brief(amount)}" for name, amount in debts.items() if amount)
    held = "?" if holding.held is None else coin.brief(holding.held)
    return (holding.contract, coin.name, _verdict(holding, steady), held, coin.brief(holding.owed), parts or "nothing")


def _games_head(games: Iterable[GameState]) -> str:
    live = Counter(game.live for game in games)
    told = counted(live[True], "live game")
    return f"{told}, {live[False]} with a bond to reclaim" if live[False] else told


def deployment_text(overview: Overview) -> str:
    """A whole deployment: parameters, jobs, live games, money."""
    book = overview.book
    rows = [
        ("registry", book.registry),
        ("game", book.game),
        ("referee", book.referee),
        ("delivery", book.delivery),
        ("owner", _owner(overview)),
        ("clocks", _clock_words(overview)),
        *_parameters(overview),
    ]
    lines = [f"chain {book.chain_id} at {_at(overview)}"]
    for label, text in rows:
        lines += fold_line(label, text, INDENT)
    lines += ["", _census(overview.jobs)]
    if overview.jobs:
        lines += table(JOB_HEAD, [_job_row(overview, state) for state in overview.jobs], 2)
    games = overview.games
    lines += ["", _games_head(games)]
    for game in games:
        lines += _game_lines(game, f"  game {game.number}", f"job {game.job}, {_place(game)}, by {short(game.challenger)}")
    lines += ["", "money"]
    lines += table(MONEY_HEAD, [_holding_row(holding, overview.steady) for holding in overview.holdings], 2)
    if overview.accounts:
        lines += ["", "can be withdrawn"]
        owed = [(account.account, account.contract, account.coin.amount(account.amount)) for account in overview.accounts]
        lines += table(("account", "from", "amount"), owed, 2)
    if not overview.steady:
        lines += ["", "The chain went on while this was read, so that amounts may not fit together."]
    return "\n".join(lines)
