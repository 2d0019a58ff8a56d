"""The deployed contracts and the model side by side: whatever is done is done to both, and both must allow and refuse the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

from bisection.errors import IllegalMove
from bisection.game import (
    Conclude,
    ConcludePart,
    Demand,
    DemandRun,
    DemandTensor,
    Game,
    Move,
    Outcome,
    Owed,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.witness import BoundaryWitness, ElementWitness, StepRoots
from contracts.bindings import DescentView, GameView, Phase, Tree
from contracts.jobs import NATIVE, NOBODY, JobStatus
from tests.contracts.stage import BURNT
from tests.protocol.deployed import BOND, CLOCKS, NAMES, PARAMETERS, Deployed, Refusal
from tests.protocol.model import Calendar, DeliveryModel, RegistryModel
from tests.protocol.model_games import GamesModel

__all__ = ["BAND", "World"]

BAND = ("liar", "friend", "hostile", "copycat")  # whoever may be in league with a trainer that lies
CONTRACTS = ("TaskRegistry", "DisputeGame", "Delivery")
OWED = {
    Phase.CHALLENGER: Owed.NOTHING,
    Phase.TRACE: Owed.TRACE,
    Phase.CHILDREN: Owed.CHILDREN,
    Phase.LEAF: Owed.LEAF,
    Phase.PARTS: Owed.PARTS,
}
OUTCOMES = {Phase.CONVICTED: Outcome.CONVICTED, Phase.ACQUITTED: Outcome.ACQUITTED, Phase.CANCELLED: Outcome.CANCELLED}
KINDS = {
    Tree.HISTORY: TreeKind.HISTORY,
    Tree.TRACE: TreeKind.TRACE,
    Tree.STATE: TreeKind.STATE,
    Tree.TENSOR: TreeKind.TENSOR,
    Tree.RUN: TreeKind.RUN,
}

NAMES_OF: dict[type, str] = {
    Pick: "pick",
    DemandTensor: "demand_tensor",
    DemandRun: "demand_run",
    ConcludePart: "conclude_part",
    PostTrace: "post_trace",
    Reveal: "reveal",
    Refute: "refute",
    Timeout: "timeout",
}


ON_STEP = Demand | DemandTensor | DemandRun | Conclude | ConcludePart  # moves that say where the claims of the step live
NO_ROOTS = StepRoots(bytes(32), 0, bytes(32), 0, bytes(32), bytes(32), 0, bytes(32), 0)


def flat(value: Any) -> tuple[Any, ...]:
    """The fields of a dataclass."""
    return tuple(getattr(value, field.name) for field in fields(value))


def function_of(move: Move) -> tuple[str, tuple[Any, ...]]:
    """The function of the contract that makes a move, and its arguments after the game's number."""
    match move:
        case ShowStep(opening, descend):
            return "show_step", (*flat(opening), descend)
        case Demand(tree):
            return {TreeKind.TRACE: "demand_trace", TreeKind.STATE: "demand_state"}[tree], ()
        case Conclude(w):
            kind = {BoundaryWitness: "boundary", ElementWitness: "element"}.get(type(w), "run")
            return f"conclude_{kind}", flat(w)
    return NAMES_OF[type(move)], flat(move)


def descent_of(game: Game) -> tuple[Any, ...] | None:
    """Where the model's descent stands."""
    d = game.descent
    if d is None:
        return None
    size = {TreeKind.TENSOR: d.nbytes, TreeKind.RUN: int(d.takes_max)}.get(d.tree)
    return (d.tree, d.seal(game.claim.trainer), d.height, d.position, d.count, d.picked, size)


def descent_on_chain(view: GameView) -> tuple[Any, ...] | None:
    """The same, from the contract."""
    d: DescentView = view.descent
    if not d.tree or view.phase == Phase.TRACE:
        return None  # none, or one that waits for its root
    size = d.size if d.tree in (Tree.TENSOR, Tree.RUN) else None
    return (KINDS[d.tree], d.seal, d.height, d.position, d.count, d.picked, size)


def digest_of(roots: StepRoots) -> bytes:
    """What the contract stores of where the claims of a step live."""
    words = [
        value if isinstance(value, bytes) else value.to_bytes(32, "big") for value in flat(replace(roots, trace_root=bytes(32)))
    ]
    return sha256(b"".join(words)).digest()


class World:
    """One history of the protocol. ``tally`` counts what happened."""

    def __init__(self, chain: Deployed, tally: Counter[str]) -> None:
        self.chain, self.tally = chain, tally
        self.mark, self.start = chain.snapshot(), chain.time
        self.calendar = Calendar(chain.time, chain.block, chain.accounts["owner"])
        self.registry = RegistryModel(self.calendar, PARAMETERS, chain.game)
        self.games = GamesModel(self.registry, PARAMETERS)
        self.delivery = DeliveryModel(self.registry, PARAMETERS)
        self.models: dict[str, Any] = {"TaskRegistry": self.registry, "DisputeGame": self.games, "Delivery": self.delivery}
        self.purses = {name: self.wealth(name) for name in NAMES}
        self.sent = 0  # transactions, refused ones among them
        self.tell: Callable[[str], None] = lambda line: None  # the story, one transaction a line
        self.judged: Callable[[int], None] = lambda number: None
        self.before_move: Callable[[str, int, Move], None] = lambda who, number, move: None

    def close(self) -> None:
        """Forget everything."""
        self.chain.restore(self.mark)

    @property
    def clock(self) -> int:
        """Protocol time."""
        return self.calendar.clock

    def last_second(self, number: int) -> int:
        """The last second, of protocol time, in which whoever is to move in a game can move, unless there is another pause."""
        return self.clock + self.games.left(number)

    def address(self, who: str) -> str:
        return self.chain.accounts[who]

    def name(self, address: str) -> str:
        """Whose an address is."""
        return next(name for name, account in self.chain.accounts.items() if account == address)

    # Doing things to both

    def mine(self, time: int) -> None:
        """Begin the block of a second that lies ahead."""
        assert time > self.chain.time
        self.chain.mine(time - self.chain.time)
        self.calendar.time, self.calendar.block = self.chain.time, self.chain.block

    def act(self, who: str, contract: str, name: str, *args: Any, value: int = 0) -> bool:
        """Call a function in somebody's name; whether that was allowed."""
        function = getattr(self.models[contract], name)
        paid = {"value": value} if value else {}
        return self._both(
            f"{who} {name} {args[0] if args and isinstance(args[0], int) else ''}",
            lambda: function(self.address(who), *args, **paid),
            lambda: self.chain.send(self.address(who), contract, name, *args, value=value),
        )

    def open_step(self, who: str, job: int, segment: int, opening: StepOpening, salt: bytes, value: int = BOND) -> bool:
        """Open a game on a step that was committed to."""
        account = self.address(who)
        return self._both(
            f"{who} open_step {job} {segment} {opening.step}",
            lambda: self.games.open_step(account, job, segment, opening, salt, value),
            lambda: self.chain.send(account, "DisputeGame", "open_step", job, segment, *flat(opening), salt, value=value),
        )

    def move(self, who: str, number: int, move: Move) -> bool:
        """Make a move in a game; whether that was allowed."""
        self.before_move(who, number, move)
        name, args = function_of(move)
        band = {token: sum(self.wealth(one)[token] for one in BAND) for token in self.chain.tokens}
        game = self.games.games.get(number)
        job = self.registry.jobs[game.job] if game is not None else None
        trainer = job.trainer if job is not None else NOBODY
        over = game is not None and job is not None and not job.disputable(game.attempt)
        allowed = self._both(
            f"{who} {name} in game {number}",
            lambda: self.games.move(self.address(who), number, move),
            lambda: self.chain.send(self.address(who), "DisputeGame", name, number, *self.told(number, move), *args),
        )
        if not allowed:
            self.tally[f"refused in {type(move).__name__}"] += 1
        if allowed and game is not None and job is not None:
            self.tally["a move during a pause"] += self.calendar.paused
            self.tally["a move after the end of the attempt"] += over
            self.tally["a clock that a pause has extended"] += min(game.state.trainer_clock, game.state.challenger_clock) < 0
            self._ended(who, number, move, trainer, band)
        return allowed

    def told(self, number: int, move: Move) -> list[Any]:
        """What a move names besides, for it to land nowhere else."""
        if isinstance(move, PostTrace):
            return [self.chain.view("DisputeGame", "game", number).step_place]
        if not isinstance(move, ON_STEP):
            return []
        state = self.games.games[number].state
        return [state.roots if state.step is not None and state.trace_root is not None else NO_ROOTS]

    def misplaced(self, who: str, number: int, move: Move, told: list[Any]) -> None:
        """Make a move that names another place than the one that the game is at."""
        name, args = function_of(move)
        self.refused(who, "DisputeGame", name, number, *told, *args)

    def refused(self, who: str, contract: str, name: str, *args: Any) -> None:
        """Call a function that is nobody's to call in this way."""
        self.sent += 1
        try:
            self.chain.send(self.address(who), contract, name, *args)
        except Refusal:
            self.tally["refused"] += 1
            return
        raise AssertionError(f"{name}: allowed")

    def _both(self, name: str, on_model: Callable[[], None], on_chain: Callable[[], list[str]]) -> bool:
        try:
            on_model()
            reason = None
        except IllegalMove as error:
            reason = str(error)
        try:
            events = on_chain()
            refusal = None
        except Refusal as error:
            events, refusal = [], str(error)
        assert (reason is None) == (refusal is None), f"{name}: the model says {reason!r}, the contracts say {refusal!r}"
        self.tell(f"second {self.clock - self.start}: {name}" + ("" if refusal is None else f" refused: {refusal}"))
        self.sent += 1
        self.tally["allowed" if reason is None else "refused"] += 1
        self.tally.update(events)
        return reason is None

    def _ended(self, who: str, number: int, move: Move, trainer: str, band: dict[str, int]) -> None:
        """What must hold when a move has decided a game, and what of it is worth counting."""
        game = self.games.games[number]
        if game.live:
            return
        job = self.registry.jobs[game.job]
        way = "by timeout" if isinstance(move, Timeout) else "by verdict"
        if game.state.outcome == Outcome.ACQUITTED:
            self.tally[f"acquitted {way}"] += 1
            assert game.challenger != self.address("watcher"), "an honest challenger loses no game"
            return
        if game.state.verdict is not None:
            self.judged(number)
        self.tally[f"convicted {way}"] += 1
        self.tally[f"convicted in {type(move).__name__}"] += 1
        self.tally["rewarded: " + ("the challenger" if self.games.rewarded == game.challenger else "another challenger")] += 1
        self.tally["passed over: a lower rank whose predecessor has left"] += self.games.passed_over
        assert trainer != self.address("honest"), "an honest trainer is convicted by nobody"
        after = {token: sum(self.wealth(one)[token] for one in BAND) for token in self.chain.tokens}
        stake = job.terms.stake
        least = stake - stake * PARAMETERS.reward_share // 10_000
        token = job.terms.token
        assert band[token] - after[token] >= least, "whoever is in league with a convicted trainer, it loses the rest of the stake"

    def wealth(self, who: str) -> dict[str, int]:
        """What somebody has of each token: in its purse, credited, and at stake."""
        account, chain = self.address(who), self.chain
        found = {
            token: chain.balance(token, account) + sum(chain.credit(contract, token, account) for contract in CONTRACTS)
            for token in chain.tokens
        }
        for job in self.registry.jobs.values():
            found[job.terms.token] += job.terms.stake * (job.disputable(job.attempt) and job.trainer == account)
        found[NATIVE] += BOND * sum(game.live and game.challenger == account for game in self.games.games.values())
        open_demands = sum(demand.open and demand.account == account for demand in self.delivery.demands.values())
        found[NATIVE] += PARAMETERS.delivery_bond * open_demands
        return found

    # What must hold at every moment

    def check(self) -> None:
        """The contracts are where the model is, and hold what they owe to the wei."""
        chain = self.chain
        assert chain.view("TaskRegistry", "clock") == self.calendar.clock
        assert chain.view("TaskRegistry", "paused") == self.calendar.paused
        assert chain.view("TaskRegistry", "job_count") == len(self.registry.jobs)
        assert chain.view("DisputeGame", "game_count") == len(self.games.games)
        for number in self.registry.jobs:
            self._check_job(number)
        for number in self.games.games:
            self._check_game(number)
        for token in chain.tokens:
            for contract in CONTRACTS:
                model = self.models[contract]
                assert chain.balance(token, chain.addresses[contract]) == model.held(token), "solvent to the wei"
                for account in (*chain.accounts.values(), BURNT):
                    owed = model.credits[token, account]
                    assert chain.credit(contract, token, account) == owed, f"{contract} owes {account} {owed}"

    def _check_job(self, number: int) -> None:
        job, view = self.registry.jobs[number], self.chain.view("TaskRegistry", "job", number)
        live = {k: sum(g.live and g.attempt == job.attempt and (g.job, g.segment) == (number, k) for g in self.games.games.values())
                for k in range(len(job.segments))}  # fmt: skip
        if not job.disputable(job.attempt):
            live = {}
        assert (view.status, view.attempt, view.paid, view.deadline, view.posted, view.finalised, view.state) == (
            job.status, job.attempt, job.paid, job.deadline, len(job.segments), job.finalised, job.state,
        )  # fmt: skip
        assert (view.live_games, view.open_demands, view.delivery_end, view.settled) == (
            sum(live.values()), job.open_demands, job.delivery_end, job.settled,
        )  # fmt: skip
        assert view.trainer == (NOBODY if job.status == JobStatus.OPEN else job.trainer)
        for at, segment in enumerate(job.segments):
            posted = self.chain.view("TaskRegistry", "segment", number, at)
            assert (posted.history_root, posted.end_state, posted.window_end, posted.final, posted.live_games) == (
                segment.history_root, segment.end_state, segment.window_end, at < job.finalised, live.get(at, 0),
            )  # fmt: skip

    def _check_game(self, number: int) -> None:
        game, view = self.games.games[number], self.chain.view("DisputeGame", "game", number)
        state = game.state
        assert (view.job, view.attempt, view.segment, view.challenger, view.rank, view.paused) == (
            game.job, game.attempt, game.segment, game.challenger, game.rank, game.paused,
        )  # fmt: skip
        assert view.first in self.games.games and self.games.games[view.first] is self.games.first[game.place]
        if not game.live:
            assert OUTCOMES[view.phase] == state.outcome
            return
        spent = (CLOCKS[0] - state.trainer_clock, CLOCKS[1] - state.challenger_clock)
        assert (OWED[view.phase], view.trainer_spent, view.challenger_spent, view.moved_at, view.shown) == (
            state.owed, *spent, state.moved_at, state.step is not None,
        )  # fmt: skip
        assert frozenset(KINDS[tree] for tree in view.descended) == state.demanded
        assert (view.run_node, view.run_position) == (state.run or (0, 0)) and view.descent.tensor == state.tensor
        if state.step is not None:
            known = self.games.traces.get(game.place, bytes(32))
            assert (view.step, view.trace_root) == (state.step, known)
            assert view.roots == digest_of(replace(state, trace_root=known).roots)
        assert descent_on_chain(view) == descent_of(state)
        self._check_clocks(number)

    def _check_clocks(self, number: int) -> None:
        """Every second since the opening is on one of the clocks, and no game can outlast them."""
        game = self.games.games[number]
        state, added = game.state, self.games.added(game)
        spent = sum(CLOCKS) - state.trainer_clock - state.challenger_clock
        assert state.moved_at - game.opened_at == spent
        assert spent <= sum(CLOCKS) + 2 * added
        if self.calendar.time - game.opened_at > sum(CLOCKS) + 2 * added:
            assert self.games.left(number) < 0, "whoever is to move has lost"
