# pragma version 0.4.3
# @title Games as they are stored
# @license Apache-2.0
# @notice Five words a game. Most moves read two or three of them and write one or two.

from interfaces import IDisputeGame
from modules import checks
from modules import descent
from modules import turns

U8: constant(uint256) = 2**8 - 1
U16: constant(uint256) = 2**16 - 1
U32: constant(uint256) = 2**32 - 1
U40: constant(uint256) = 2**40 - 1
U48: constant(uint256) = 2**48 - 1
U64: constant(uint256) = 2**64 - 1


# `parties` never changes, `play` changes with every move, `subject` now and then; `seal` is that of the descent, and `roots` the hash of
# where the claims of the step live.
struct Record:
    parties: uint256
    play: uint256
    seal: bytes32
    subject: uint256
    roots: bytes32


# What a game is about: its rank among the games, the step, the tensor last demanded with its size in bytes (of a run: 1 for a maximum),
# and the element whose run was demanded.
struct Subject:
    rank: uint256
    step: uint256
    tensor: uint256
    size: uint256
    run_node: uint256
    run_position: uint256


records: HashMap[uint256, Record]


@internal
@view
def load(game: uint256) -> turns.State:
    """
    @notice A game. Reverts where there is none.
    """
    parties: uint256 = self.records[game].parties
    if parties == 0:
        checks.refuse("game: unknown game")
    state: turns.State = self.load_play(game)
    state.challenger = self._challenger(parties)
    state.job = (parties >> 160) & U48
    state.attempt = (parties >> 208) & U16
    state.segment = parties >> 224
    return state


@internal
@view
def load_play(game: uint256) -> turns.State:
    """
    @notice A game without what never changes: whose and what it is. One that there is not is in no phase.
    """
    play: uint256 = self.records[game].play
    return turns.State(
        challenger=empty(address),
        job=0,
        attempt=0,
        segment=0,
        phase=convert(play & U8, IDisputeGame.Phase),
        descended=convert((play >> 8) & U8, IDisputeGame.Tree),
        shown=(play >> 16) & 1 == 1,
        trainer_spent=(play >> 24) & U32,
        challenger_spent=(play >> 56) & U32,
        moved_at=(play >> 88) & U40,
        paused=play >> 224,
        descent=descent.Descent(
            tree=convert((play >> 128) & U8, IDisputeGame.Tree),
            seal=self.records[game].seal,
            height=(play >> 136) & U8,
            position=(play >> 152) & U32,
            count=(play >> 184) & U40,
            picked=(play >> 144) & U8,
        ),
    )


@internal
def create(game: uint256, state: turns.State):
    """
    @notice Store what never changes of a game: challenger 160 bits, job 48, attempt 16, segment 32.
    """
    self.records[game].parties = (
        convert(state.challenger, uint256) | (state.job << 160) | (state.attempt << 208) | (state.segment << 224)
    )


@internal
def save(game: uint256, state: turns.State):
    """
    @notice Store what changes with every move: phase 8 bits, trees 8, shown 8, seconds spent 32 each, last move 40; of the descent, tree 8,
            height 8, picked 8, position 32, count 40; pauses 32.
    """
    d: descent.Descent = state.descent
    self.records[game].play = (
        convert(state.phase, uint256)
        | (convert(state.descended, uint256) << 8)
        | (convert(state.shown, uint256) << 16)
        | (state.trainer_spent << 24)
        | (state.challenger_spent << 56)
        | (state.moved_at << 88)
        | (convert(d.tree, uint256) << 128)
        | (d.height << 136)
        | (d.picked << 144)
        | (d.position << 152)
        | (d.count << 184)
        | (state.paused << 224)
    )


@internal
def save_seal(game: uint256, seal: bytes32):
    """
    @notice Store the seal of a descent.
    """
    self.records[game].seal = seal


@internal
def save_roots(game: uint256, roots: bytes32):
    """
    @notice Store the hash of where the claims of the step live.
    """
    self.records[game].roots = roots


@internal
@view
def load_roots(game: uint256) -> bytes32:
    """
    @notice The hash of where the claims of the step live.
    """
    return self.records[game].roots


@internal
@view
def load_subject(game: uint256) -> Subject:
    """
    @notice What a game is about.
    """
    word: uint256 = self.records[game].subject
    return Subject(
        rank=self._rank(word),
        step=(word >> 64) & U32,
        tensor=(word >> 96) & U32,
        size=(word >> 128) & U48,
        run_node=(word >> 176) & U32,
        run_position=word >> 208,
    )


@internal
def save_subject(game: uint256, subject: Subject):
    """
    @notice Store what a game is about: rank 64 bits, step 32, tensor 32, size 48, node 32, position 48.
    """
    self.records[game].subject = (
        subject.rank
        | (subject.step << 64)
        | (subject.tensor << 96)
        | (subject.size << 128)
        | (subject.run_node << 176)
        | (subject.run_position << 208)
    )


@internal
@view
def contender(game: uint256, shown: bool) -> (bool, uint256, address):
    """
    @notice Whether a game is live and has shown its step, or has not; its rank, and its challenger. Game 0 is not live.
    """
    play: uint256 = self.records[game].play
    phase: IDisputeGame.Phase = convert(play & U8, IDisputeGame.Phase)
    live: bool = phase != empty(IDisputeGame.Phase) and turns.live(phase) and ((play >> 16) & 1 == 1) == shown
    return live, self._rank(self.records[game].subject), self._challenger(self.records[game].parties)


@internal
@pure
def _challenger(parties: uint256) -> address:
    return convert(parties & (2**160 - 1), address)


@internal
@pure
def _rank(subject: uint256) -> uint256:
    return subject & U64
