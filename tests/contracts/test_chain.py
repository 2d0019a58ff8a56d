"""The contracts as agents see them: every game is the model's, whether it is looked at once for all or each time anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bisection import game as rules
from bisection.descent import Descent, parts_payload
from bisection.errors import TransactionFailed, UnavailableError
from bisection.game import Game, Outcome, Owed
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.merkle import Tree as MerkleTree
from bisection.moves import (
    ConcludePart,
    Demand,
    Demanded,
    DemandRun,
    DemandTensor,
    Move,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    ShowStep,
    Timeout,
    TreeKind,
)
from bisection.witness import RunPlace
from contracts.bindings import BLIND, DisputeGame, Phase, Tree, step_commitment
from contracts.chain import GameChain
from contracts.client import development_accounts
from contracts.deploy import attach
from contracts.index import Index
from contracts.journal import Journal
from contracts.sender import TransactionSender
from tests.contracts.stage import LEAF, NODE, RUN_OPENING, Actor, Stage, TrainerRun, element_witness
from tests.contracts.watched import watched_stage
from tests.support.model_chain import ModelChain

RUN = TrainerRun(steps=150, segment_length=150, tensors=100, components=3)
STEP, TENSOR, ELEMENT = 77, 40, 11
DATA = bytes(i * i % 251 for i in range(40_000))
TRACE = MerkleTree([*RUN.trace(STEP).levels[0][:TENSOR], blob_tree(DATA).root, *RUN.trace(STEP).levels[0][TENSOR + 1 :]])
PARTS = [7 * i * i - 5_000 for i in range(128)]
PLACE = RunPlace(claimed=sum(PARTS), tensor=TENSOR, parts=len(PARTS), takes_max=False)


@pytest.fixture(scope="module")
def scene() -> Stage:
    return watched_stage()


@pytest.fixture
def stage(scene: Stage) -> Iterator[Stage]:
    mark = scene.chain.snapshot()
    yield scene
    scene.chain.restore(mark)


def chain_of(stage: Stage, actor: Actor | None = None) -> GameChain:
    """The chain as somebody sees it, who can act there."""
    sender = None if actor is None else actor.sender
    return GameChain(attach(stage.chain.web3, stage.book, sender), Index(stage.chain.web3, stage.book))


def frozen(stage: Stage) -> GameChain:
    """A chain whose events are those of now, while its state goes on."""
    index = Index(stage.chain.web3, stage.book)
    index.update()
    index.update = lambda: None  # type: ignore[method-assign]
    return GameChain(attach(stage.chain.web3, stage.book), index)


def descent_of(game: Game) -> Descent:
    assert game.descent is not None
    return game.descent


# What is played ---------------------------------------------------------------------------------------------------------


def reveals(tree: MerkleTree) -> Callable[[Game], Move]:
    """Show the digests that ``tree`` has."""

    def shown(game: Game) -> Move:
        d = descent_of(game)
        digests = [tree.node(d.height - d.levels, (d.position << d.levels) + i) for i in range(1 << d.levels)]
        return Reveal(d.trail, d.picked, b"".join(digests))

    return shown


def reveals_parts(game: Game) -> Move:
    d = descent_of(game)
    each = 1 << (d.height - d.levels)
    first = d.position << d.height
    parts = [sum(PARTS[at : at + each]) for at in range(first, min(first + (1 << d.height), len(PARTS)), each)]
    return Reveal(d.trail, d.picked, parts_payload(parts))


def reveals_bytes(game: Game) -> Move:
    d = descent_of(game)
    return Reveal(d.trail, d.picked, DATA[d.position * LEAF_BYTES : (d.position + 1) * LEAF_BYTES])


def picks(leaf: int) -> Callable[[Game], Move]:
    """Pick what is above ``leaf``."""

    def picked(game: Game) -> Move:
        d = descent_of(game)
        return Pick(d.seal(game.claim.trainer), (leaf >> (d.height - d.levels)) - (d.position << d.levels))

    return picked


def refutes(game: Game) -> Move:
    d = descent_of(game)
    assert d.below is not None
    return Refute(d.origin, d.first, d.above, d.below)


def concludes(game: Game) -> Move:
    d = descent_of(game)
    assert d.below is not None
    return ConcludePart(NODE, d.trail, d.below, 3, (RUN_OPENING, RUN_OPENING))


def plain_move(move: Move) -> Callable[[Game], Move]:
    return lambda game: move


DOWN_THE_HISTORY = [reveals(RUN.histories[0]), picks(STEP), reveals(RUN.histories[0])]
INTO_A_TENSOR = [
    plain_move(DemandTensor(NODE, 0, TRACE.levels[0][TENSOR], tuple(TRACE.prove(TENSOR)))),
    reveals(blob_tree(DATA)),
    picks(33),
    reveals(blob_tree(DATA)),
    picks(33),
    reveals_bytes,
]
DOWN_A_RUN = [plain_move(DemandRun(NODE, ELEMENT, LEAF)), reveals_parts, picks(67), reveals_parts, concludes]
STEPWISE = [
    *DOWN_THE_HISTORY,
    plain_move(ShowStep(RUN.opening(0, STEP))),
    plain_move(PostTrace(TRACE.root)),
    plain_move(Demand(TreeKind.TRACE)),
    reveals(TRACE),
    picks(TENSOR),
    reveals(TRACE),
    plain_move(Demand(TreeKind.STATE)),
    reveals(RUN.states[STEP + 1]),
    *INTO_A_TENSOR,
    *DOWN_A_RUN,
]
AT_ONCE = [
    *DOWN_THE_HISTORY,
    plain_move(ShowStep(RUN.opening(0, STEP), descend=True)),
    plain_move(PostTrace(TRACE.root, b"".join(TRACE.node(3, i) for i in range(1 << 4)))),
    picks(TENSOR),
    reveals(TRACE),
    *DOWN_A_RUN,
]


def garbled(game: Game) -> Move:
    d = descent_of(game)
    return Reveal(d.trail, d.picked, bytes(32 << d.levels))


REFUTED = [reveals(RUN.histories[0]), picks(STEP), garbled, refutes]


@dataclass
class Players:
    """Both sides of a game, and the same game in the model."""

    stage: Stage
    number: int
    model: ModelChain
    chains: dict[bool, GameChain]  # by whether it is the trainer's

    @classmethod
    def begin(cls, stage: Stage) -> Players:
        job, chains = stage.posted(RUN), {True: chain_of(stage, stage.trainer), False: chain_of(stage, stage.challenger)}
        claim, model = chains[True].claim(job, 0), ModelChain()
        number = chains[False].open(claim, None)
        assert number is not None
        model.CLOCKS, model.time = stage.game.clocks, stage.now()
        assert model.open(claim, None) == 0
        model.shown[0].append(Demanded(TreeKind.HISTORY, 0, claim.history_root))
        return cls(stage, number, model, chains)

    @property
    def game(self) -> Game:
        """The model's."""
        return self.model.game(0)

    def move(self, make: Callable[[Game], Move]) -> Move:
        """Make a move on chain and in the model; which one."""
        chain = self.chains[self.game.owed != Owed.NOTHING]
        move = make(chain.game(self.number))
        chain.move(self.number, move)
        self.model.time = self.stage.now()
        self.model.move(0, move)
        if isinstance(move, PostTrace) and move.payload:
            self.model.shown[0].insert(-1, Demanded(TreeKind.TRACE, 0, move.root))
        return move

    def seen(self, chain: GameChain) -> None:
        """What ``chain`` shows is the model."""
        if self.game.outcome == Outcome.LIVE:
            assert chain.game(self.number) == self.game
        else:
            assert chain.game(self.number).outcome == self.game.outcome
        assert chain.revelations(self.number) == self.model.revelations(0)


@pytest.fixture
def players(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Players:
    """A blind game, whose referee says on chain what it says in the model."""
    stage.referee.send("place", TENSOR, len(DATA))
    stage.referee.send("cut", PLACE)
    stage.referee.send("rule", True, PARTS[67], PARTS[67])
    monkeypatch.setattr(rules, "locate", lambda *told: (TENSOR, len(DATA)))
    monkeypatch.setattr(rules, "locate_run", lambda *told: PLACE)
    monkeypatch.setattr(rules, "judge_part", lambda *told: PARTS[67])
    return Players.begin(stage)


@pytest.mark.parametrize("tending", [True, False])
@pytest.mark.parametrize("moves", [STEPWISE, AT_ONCE, REFUTED])
def test_every_game_is_the_models(players: Players, moves: list[Callable[[Game], Move]], tending: bool) -> None:
    watching = chain_of(players.stage)
    for make in moves:
        players.seen(watching)
        for chain in players.chains.values() if tending else ():
            chain.tend()
        players.move(make)
        for chain in (watching, *players.chains.values()) if tending else ():
            chain.tend()
        for chain in (watching, *players.chains.values()):
            players.seen(chain)
    assert players.game.outcome == (Outcome.CONVICTED if moves is REFUTED else Outcome.ACQUITTED)


@pytest.mark.parametrize("moves", [STEPWISE, AT_ONCE, REFUTED])
def test_state_and_events_of_different_blocks_make_no_game(players: Players, moves: list[Callable[[Game], Move]]) -> None:
    """Else a challenger could take a pick of the one block for the answer of the other."""
    for make in moves[:-1]:
        before = frozen(players.stage)
        if players.move(make) == PostTrace(TRACE.root):  # of which the state says all
            assert before.game(players.number) == players.game
            continue
        with pytest.raises(UnavailableError, match="are of different blocks; try again"):
            before.game(players.number)


# Clocks -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tending", [True, False])
def test_a_pause_adds_to_both_clocks_though_nothing_happens_in_the_game(players: Players, tending: bool) -> None:
    stage, chain = players.stage, chain_of(players.stage)
    owner = stage.deployer.registry

    def look() -> Game:
        if tending:
            chain.tend()
        assert chain.now() == stage.now()
        return chain.game(players.number)

    assert look() == players.game
    owner.pause()
    begun = stage.now()
    stage.chain.advance(20_000)
    for end in (lambda: None, owner.unpause):
        end()
        game, added = look(), stage.now() - begun
        assert (game.trainer_clock, game.challenger_clock) == tuple(budget + added for budget in stage.game.clocks)
        assert game.moved_at == players.game.moved_at
    last = game.moved_at + game.trainer_clock
    stage.chain.next_block_at(last)
    with pytest.raises(TransactionFailed, match="clock not used up"):
        chain_of(stage, stage.stranger).move(players.number, Timeout())
    stage.chain.next_block_at(last + 1)
    chain_of(stage, stage.stranger).move(players.number, Timeout())
    assert look().outcome == Outcome.CONVICTED


def test_a_pause_before_the_opening_adds_nothing(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.deployer.registry.pause()
    stage.chain.advance(777)
    stage.deployer.registry.unpause()
    game = chain_of(stage).game(stage.challenger.opens_blind(job, 0))
    assert (game.trainer_clock, game.challenger_clock) == stage.game.clocks


# Openings ---------------------------------------------------------------------------------------------------------------


@contextmanager
def journaled(stage: Stage, path: Path) -> Iterator[GameChain]:
    """The chain of the challenger, who keeps a journal."""
    account = next(account for account in development_accounts(6) if account.address == stage.challenger.address)
    with closing(Journal(path)) as journal:
        sender = TransactionSender(stage.chain.web3, account, poll=0.0, journal=journal)
        yield GameChain(attach(stage.chain.web3, stage.book, sender), Index(stage.chain.web3, stage.book))


@pytest.mark.parametrize("step", [None, STEP])
def test_an_opening_is_committed_to_once_and_revealed_once(stage: Stage, tmp_path: Path, step: int | None) -> None:
    """However often it is asked for."""
    job, opening = stage.posted(RUN), None if step is None else RUN.opening(0, step)
    opened = []
    with journaled(stage, tmp_path / "journal") as chain:
        for _ in range(6):
            chain.tend()
            opened.append(chain.open(chain.claim(job, 0), opening))
            stage.chain.advance(1)
    assert opened[-1] == 1 and set(opened) <= {None, 1}
    view = stage.game.game(1)
    assert (view.challenger, view.shown, stage.game.game_count()) == (stage.challenger.address, step is not None, 1)


def test_a_blind_opening_is_hidden_until_it_is_revealed(stage: Stage) -> None:
    """What is committed to says that no step is shown."""
    job = stage.posted(RUN)
    commitment = step_commitment(stage.challenger.address, job, 0, BLIND, bytes(32))
    stage.challenger.game.commit(commitment)
    assert stage.challenger.game.open_blind(job, 0, bytes(32)) == 1


# The first at a place ---------------------------------------------------------------------------------------------------


def counted(stage: Stage, actor: Actor) -> int:
    """How many contentions somebody has sent."""
    return actor.sender.sent.count("contend")


def acquitted(stage: Stage, game: int, actor: Actor) -> None:
    """Have a game on the step end for the trainer."""
    stage.referee.send("rule", True, 1, 1)
    actor.game.conclude_element(game, RUN.roots(0, STEP), element_witness())


@dataclass
class Rivals:
    """Games at one place, of which the challenger's is the second by rank, and the challenger's chain."""

    stage: Stage
    job: int
    chain: GameChain

    @classmethod
    def meet(cls, stage: Stage) -> Rivals:
        return cls(stage, stage.posted(RUN), chain_of(stage, stage.challenger))

    def opens(self, actor: Actor) -> int:
        """A game on the step; in the first the trainer owes its trace."""
        game = actor.opens(self.job, 0, RUN.opening(0, STEP))
        if self.stage.game.game(game).phase == Phase.TRACE:
            self.stage.trainer.game.post_trace(game, RUN.trace(STEP).root)
        return game

    def acquits(self, game: int, actor: Actor) -> None:
        """End a game on the step for the trainer."""
        self.stage.referee.send("rule", True, 1, 1)
        actor.game.conclude_element(game, RUN.roots(0, STEP), element_witness())

    def contends(self, game: int) -> bool:
        """Whether the challenger has contended for the place."""
        sent = self.stage.challenger.sender.sent.count
        before = sent("contend")
        self.chain.tend()
        due = self.chain.contend(game)
        assert sent("contend") - before == due
        return due


@pytest.fixture
def rivals(stage: Stage) -> Rivals:
    return Rivals.meet(stage)


def test_who_is_alone_at_a_place_does_not_contend_for_it(rivals: Rivals) -> None:
    game = rivals.opens(rivals.stage.challenger)
    assert not rivals.contends(game)
    other = rivals.stage.watcher.opens(rivals.job, 0, RUN.opening(0, STEP + 1))
    assert not rivals.contends(game)
    assert rivals.stage.game.game(other).first == other


def test_a_place_is_contended_for_when_the_first_there_is_over(rivals: Rivals) -> None:
    rival, game = rivals.opens(rivals.stage.watcher), rivals.opens(rivals.stage.challenger)
    assert rivals.stage.game.game(game).first == rival
    assert not rivals.contends(game)
    rivals.acquits(rival, rivals.stage.watcher)
    assert rivals.contends(game)
    assert rivals.stage.game.game(game).first == game
    assert not rivals.contends(game)


def test_a_place_is_contended_for_when_one_of_higher_rank_is_noted_there(rivals: Rivals) -> None:
    stage = rivals.stage
    rival, game = rivals.opens(stage.watcher), rivals.opens(stage.challenger)
    rivals.acquits(rival, stage.watcher)
    late = rivals.opens(stage.stranger)
    assert stage.game.game(game).first == late
    assert rivals.contends(game)
    assert stage.game.game(game).first == game


def test_a_segment_is_contended_for_when_the_first_there_has_left_for_a_step(rivals: Rivals) -> None:
    stage = rivals.stage
    rival, game = stage.watcher.opens_blind(rivals.job, 0), stage.challenger.opens_blind(rivals.job, 0)
    assert not rivals.contends(game)
    d = descent_of(rivals.chain.game(rival))
    stage.trainer.game.reveal(rival, d.trail, d.picked, bytes(32 << d.levels))
    stage.watcher.game.show_step(rival, ShowStep(RUN.opening(0, STEP)))
    assert rivals.contends(game)
    assert (stage.game.game(game).first, stage.game.game(rival).first) == (game, rival)


def test_nobody_contends_for_a_game_that_is_over(rivals: Rivals) -> None:
    stage = rivals.stage
    rival, game = rivals.opens(stage.watcher), rivals.opens(stage.challenger)
    rivals.acquits(game, stage.challenger)
    rivals.acquits(rival, stage.watcher)
    assert not rivals.contends(game)
    last, other = rivals.opens(stage.watcher), rivals.opens(stage.challenger)
    stage.referee.send("rule", False, 1, 2)
    stage.watcher.game.conclude_element(last, RUN.roots(0, STEP), element_witness())
    assert not rivals.contends(other)  # its attempt is


def test_with_a_journal_a_situation_is_contended_in_once(rivals: Rivals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the chain takes to say so."""
    stage = rivals.stage
    rival, game = rivals.opens(stage.watcher), rivals.opens(stage.challenger)
    rivals.acquits(rival, stage.watcher)
    past, simulate = stage.game.simulate("game", game), DisputeGame.simulate

    def late(contract: DisputeGame, *asked: Any, **options: Any) -> Any:
        return past if asked == ("game", game) else simulate(contract, *asked, **options)

    monkeypatch.setattr(DisputeGame, "simulate", late)
    begun = stage.chain.provider.block
    with journaled(stage, tmp_path / "journal") as chain:
        for _ in range(3):
            chain.tend()
            assert chain.contend(game)
    assert stage.chain.provider.block == begun + 1
    monkeypatch.undo()
    assert stage.game.game(game).first == game


# What a move answers ----------------------------------------------------------------------------------------------------


def test_the_state_that_a_move_answers_has_a_name_without_times_and_other_games(
    rivals: Rivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, chain = rivals.stage, rivals.chain
    game = rivals.opens(stage.challenger)

    def name(**changes: Any) -> str:
        view = replace(stage.game.game(game), **changes)
        monkeypatch.setattr(chain, "view", lambda number: view)
        return chain._place(game)

    known = name()
    for field in ("trainer_spent", "challenger_spent", "moved_at", "paused", "first"):
        assert name(**{field: 7}) == known
    seen = stage.game.game(game)
    others: dict[str, Any] = {"descended": seen.descended | Tree.STATE, "roots": bytes(32), "step": STEP + 1, "phase": Phase.TRACE}
    for field, value in others.items():
        assert name(**{field: value}) != known
    deeper: dict[str, Any] = {"seal": b"7" * 32, "height": 7, "position": 7, "picked": 7}
    for field, value in deeper.items():
        assert name(descent=replace(seen.descent, **{field: value})) != known
