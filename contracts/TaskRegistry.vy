# pragma version 0.4.3
# @title The life of a job: bounty, stake, segments, end
# @license Apache-2.0
# @notice docs/protocol.md, "A job". Jobs are numbered from 1. The contract holds exactly the bounties and stakes of unfinished jobs
#         and what it has credited; burnt wei leave for the zero address at once. A second that is named as the last one still
#         belongs to whoever may act in it: segments are posted and games opened at or before it, jobs expire and complete after it.

from interfaces import ITaskRegistry
from modules import ledger
from modules import merkle

implements: ITaskRegistry

initializes: ledger
exports: (ledger.credit, ledger.withdraw)

# Proofs into programs, traces and states have at most 24 siblings, proofs into histories at most 32.
MAX_LEAVES: constant(uint256) = 2**24
MAX_STEPS: constant(uint256) = 2**32 - 1
MAX_SECONDS: constant(uint256) = 2**32 - 1
BASIS: constant(uint256) = 10_000
U32: constant(uint256) = 2**32 - 1


# A job as it is stored. `sizes` packs the numbers of the specification, `life` what changes: see _load_life.
struct Record:
    requester: address
    trainer: address
    bounty: uint256
    stake: uint256
    program_root: bytes32
    initial_state: bytes32
    data_root: bytes32
    sizes: uint256
    life: uint256


struct Life:
    status: ITaskRegistry.JobStatus
    posted: uint256
    live_games: uint256
    training_period: uint256
    challenge_window: uint256
    deadline: uint256


struct Commitment:
    history_root: bytes32
    end_state: bytes32
    window_end: uint256


deployer: public(immutable(address))
# The share of a slashed stake that nobody gets, in basis points: it makes challenging oneself a loss.
burn_share: public(immutable(uint256))

# The only contract that may open, close and win games; set once.
game: public(address)
job_count: public(uint256)
_records: HashMap[uint256, Record]
_commitments: HashMap[uint256, HashMap[uint256, Commitment]]


@deploy
def __init__(burn_share_: uint256):
    """
    @param burn_share_ The share of a slashed stake that is burnt, in basis points.
    """
    assert burn_share_ <= BASIS, "registry: burn share above 100%"
    deployer = msg.sender
    burn_share = burn_share_


@external
def set_game(game: address):
    """
    @notice Name the game contract, once and for all.
    """
    assert msg.sender == deployer, "registry: not the deployer"
    assert self.game == empty(address), "registry: game already set"
    assert game != empty(address), "registry: no game"
    self.game = game
    log ITaskRegistry.GameSet(game=game)


@external
@view
def job(job: uint256) -> ITaskRegistry.Job:
    """
    @notice All there is to know of a job.
    """
    life: Life = self._load_life(job)
    record: Record = self._records[job]
    spec: ITaskRegistry.JobSpec = self._spec(job)
    return ITaskRegistry.Job(
        status=life.status,
        requester=record.requester,
        trainer=record.trainer,
        bounty=record.bounty,
        deadline=life.deadline,
        posted=life.posted,
        state=self._state(job, life.posted),
        live_games=life.live_games,
        job_hash=keccak256(abi_encode(spec)),
        spec=spec,
        terms=ITaskRegistry.Terms(
            stake=record.stake, training_period=life.training_period, challenge_window=life.challenge_window
        ),
    )


@external
@view
def segment(job: uint256, segment: uint256) -> ITaskRegistry.Segment:
    """
    @notice A posted segment.
    """
    assert segment < self._load_life(job).posted, "registry: segment not posted"
    return self._segment(job, segment)


@external
@view
def spec(job: uint256) -> ITaskRegistry.JobSpec:
    """
    @notice What the result of a job depends on.
    """
    self._load_life(job)
    return self._spec(job)


@external
@view
def standing(job: uint256) -> (bool, address):
    """
    @notice Whether a job can still be disputed, and its trainer.
    """
    return self._disputable(self._load_life(job)), self._records[job].trainer


@external
@payable
def open_job(spec: ITaskRegistry.JobSpec, terms: ITaskRegistry.Terms, uri: String[256]) -> uint256:
    """
    @notice Offer a job, with the bounty as value.
    @param uri Where program, data and initial state can be fetched; whoever fetches checks them against the roots.
    @return The number of the job.
    """
    assert 1 <= spec.node_count and spec.node_count < MAX_LEAVES, "registry: bad node count"
    assert 1 <= spec.tensor_count and spec.tensor_count <= MAX_LEAVES, "registry: bad tensor count"
    assert 1 <= spec.state_count and spec.state_count <= MAX_LEAVES, "registry: bad state count"
    assert spec.data_count <= MAX_LEAVES, "registry: bad data count"
    assert 1 <= spec.steps and spec.steps <= MAX_STEPS, "registry: bad steps"
    assert 1 <= spec.segment_length and spec.segment_length <= spec.steps, "registry: bad segment length"
    assert spec.numerics_version <= U32, "registry: bad numerics version"
    assert 1 <= terms.stake, "registry: no stake"
    assert 1 <= terms.training_period and terms.training_period <= MAX_SECONDS, "registry: bad training period"
    assert 1 <= terms.challenge_window and terms.challenge_window <= MAX_SECONDS, "registry: bad challenge window"

    self.job_count += 1
    job: uint256 = self.job_count
    self._records[job] = Record(
        requester=msg.sender,
        trainer=empty(address),
        bounty=msg.value,
        stake=terms.stake,
        program_root=spec.program_root,
        initial_state=spec.initial_state,
        data_root=spec.data_root,
        sizes=self._pack_sizes(spec),
        life=0,
    )
    self._save_life(
        job,
        Life(
            status=ITaskRegistry.JobStatus.OPEN,
            posted=0,
            live_games=0,
            training_period=terms.training_period,
            challenge_window=terms.challenge_window,
            deadline=0,
        ),
    )
    log ITaskRegistry.JobOpened(
        job=job,
        requester=msg.sender,
        job_hash=keccak256(abi_encode(spec)),
        spec=spec,
        terms=terms,
        bounty=msg.value,
        uri=uri,
    )
    return job


@external
def cancel(job: uint256):
    """
    @notice Take back a job that nobody has claimed.
    """
    life: Life = self._load_life(job)
    assert msg.sender == self._records[job].requester, "registry: not the requester"
    assert life.status == ITaskRegistry.JobStatus.OPEN, "registry: job not open"
    life.status = ITaskRegistry.JobStatus.CANCELLED
    self._save_life(job, life)
    ledger._credit(msg.sender, self._records[job].bounty)
    log ITaskRegistry.JobCancelled(job=job)


@external
@payable
def claim(job: uint256, uri: String[256]):
    """
    @notice Become the trainer of an open job, with the stake as value.
    @param uri The trainer's data service.
    """
    life: Life = self._load_life(job)
    assert life.status == ITaskRegistry.JobStatus.OPEN, "registry: job not open"
    assert msg.value == self._records[job].stake, "registry: wrong stake"
    life.status = ITaskRegistry.JobStatus.TRAINING
    life.deadline = block.timestamp + life.training_period
    self._save_life(job, life)
    self._records[job].trainer = msg.sender
    log ITaskRegistry.JobClaimed(job=job, trainer=msg.sender, deadline=life.deadline, uri=uri)


@external
def post_segment(
    job: uint256,
    history_root: bytes32,
    start_proof: DynArray[bytes32, 32],
    end_state: bytes32,
    end_proof: DynArray[bytes32, 32],
):
    """
    @notice Commit to the states of the next segment.
    @param history_root The root over the states at the start and after every step of the segment.
    @param start_proof The siblings of leaf 0, which is the end of the segment before, or the initial state.
    @param end_state The last leaf.
    @param end_proof The siblings of the last leaf.
    """
    life: Life = self._load_life(job)
    assert life.status == ITaskRegistry.JobStatus.TRAINING, "registry: job not in training"
    assert msg.sender == self._records[job].trainer, "registry: not the trainer"
    assert block.timestamp <= life.deadline, "registry: deadline passed"

    segment: uint256 = life.posted
    first: uint256 = 0
    steps: uint256 = 0
    last: bool = False
    first, steps, last = self._steps_of(job, segment)
    merkle.check(self._state(job, segment), 0, steps + 1, start_proof, history_root)
    merkle.check(end_state, steps, steps + 1, end_proof, history_root)

    window_end: uint256 = block.timestamp + life.challenge_window
    self._commitments[job][segment] = Commitment(history_root=history_root, end_state=end_state, window_end=window_end)
    life.posted = segment + 1
    if last:
        life.status = ITaskRegistry.JobStatus.VERIFICATION
    self._save_life(job, life)
    log ITaskRegistry.SegmentPosted(
        job=job, segment=segment, history_root=history_root, end_state=end_state, window_end=window_end
    )


@external
def finalise(job: uint256):
    """
    @notice Credit bounty and stake to the trainer of a job whose last window has passed without a live game. Anyone may call.
    """
    life: Life = self._load_life(job)
    assert life.status == ITaskRegistry.JobStatus.VERIFICATION, "registry: job not in verification"
    assert life.live_games == 0, "registry: live games"
    end: Commitment = self._commitments[job][life.posted - 1]
    assert block.timestamp > end.window_end, "registry: window not over"
    life.status = ITaskRegistry.JobStatus.COMPLETED
    self._save_life(job, life)
    trainer: address = self._records[job].trainer
    ledger._credit(trainer, self._records[job].bounty + self._records[job].stake)
    log ITaskRegistry.JobCompleted(job=job, trainer=trainer, state=end.end_state)


@external
@nonreentrant
def expire(job: uint256):
    """
    @notice Slash the trainer of a job whose deadline has passed without the last segment and without a live game. Anyone may call.
    """
    life: Life = self._load_life(job)
    assert life.status == ITaskRegistry.JobStatus.TRAINING, "registry: job not in training"
    assert block.timestamp > life.deadline, "registry: deadline not passed"
    assert life.live_games == 0, "registry: live games"
    life.status = ITaskRegistry.JobStatus.EXPIRED
    self._save_life(job, life)
    stake: uint256 = self._records[job].stake
    burnt: uint256 = self._burnt(stake)
    ledger._credit(self._records[job].requester, self._records[job].bounty + stake - burnt)
    ledger._burn(burnt)
    log ITaskRegistry.JobExpired(job=job, burnt=burnt)


@external
def game_opened(job: uint256, segment: uint256) -> ITaskRegistry.Segment:
    """
    @notice Called by the game contract: a game starts on a segment.
    @return The segment in question.
    """
    assert msg.sender == self.game, "registry: not the game"
    life: Life = self._load_life(job)
    assert self._disputable(life), "registry: job not in dispute"
    assert segment < life.posted, "registry: segment not posted"
    disputed: ITaskRegistry.Segment = self._segment(job, segment)
    assert block.timestamp <= disputed.window_end, "registry: window over"
    life.live_games += 1
    self._save_life(job, life)
    return disputed


@external
def game_closed(job: uint256):
    """
    @notice Called by the game contract: a game ended in the trainer's favour.
    """
    assert msg.sender == self.game, "registry: not the game"
    life: Life = self._load_life(job)
    assert self._disputable(life), "registry: job not in dispute"
    life.live_games -= 1
    self._save_life(job, life)


@external
@nonreentrant
def convict(job: uint256, challenger: address):
    """
    @notice Called by the game contract: a game ended against the trainer. The other games on the job are live no longer.
    @param challenger Who opened the game, and gets what is not burnt of the stake.
    """
    assert msg.sender == self.game, "registry: not the game"
    life: Life = self._load_life(job)
    assert self._disputable(life), "registry: job not in dispute"
    life.status = ITaskRegistry.JobStatus.SLASHED
    life.live_games = 0
    self._save_life(job, life)
    stake: uint256 = self._records[job].stake
    burnt: uint256 = self._burnt(stake)
    ledger._credit(challenger, stake - burnt)
    ledger._credit(self._records[job].requester, self._records[job].bounty)
    ledger._burn(burnt)
    log ITaskRegistry.JobSlashed(job=job, challenger=challenger, burnt=burnt, reward=stake - burnt)


@internal
@view
def _disputable(life: Life) -> bool:
    return life.status in (ITaskRegistry.JobStatus.TRAINING | ITaskRegistry.JobStatus.VERIFICATION)


@internal
@view
def _burnt(stake: uint256) -> uint256:
    # By parts, so that no stake overflows.
    return stake // BASIS * burn_share + stake % BASIS * burn_share // BASIS


@internal
@view
def _steps_of(job: uint256, segment: uint256) -> (uint256, uint256, bool):
    """
    @return The first step of a segment, its number of steps, and whether it is the last.
    """
    sizes: uint256 = self._records[job].sizes
    total: uint256 = (sizes >> 128) & U32
    length: uint256 = (sizes >> 160) & U32
    first: uint256 = segment * length
    steps: uint256 = min(length, total - first)
    return first, steps, first + steps == total


@internal
@view
def _segment(job: uint256, segment: uint256) -> ITaskRegistry.Segment:
    first: uint256 = 0
    steps: uint256 = 0
    last: bool = False
    first, steps, last = self._steps_of(job, segment)
    commitment: Commitment = self._commitments[job][segment]
    return ITaskRegistry.Segment(
        first_step=first,
        steps=steps,
        history_root=commitment.history_root,
        end_state=commitment.end_state,
        window_end=commitment.window_end,
    )


@internal
@view
def _state(job: uint256, posted: uint256) -> bytes32:
    """
    @return The state that the next segment starts from.
    """
    if posted == 0:
        return self._records[job].initial_state
    return self._commitments[job][posted - 1].end_state


@internal
@pure
def _pack_sizes(spec: ITaskRegistry.JobSpec) -> uint256:
    """
    @notice The numbers of a specification in one word, 32 bits each.
    """
    return (
        spec.node_count
        | (spec.tensor_count << 32)
        | (spec.state_count << 64)
        | (spec.data_count << 96)
        | (spec.steps << 128)
        | (spec.segment_length << 160)
        | (spec.numerics_version << 192)
    )


@internal
@view
def _spec(job: uint256) -> ITaskRegistry.JobSpec:
    sizes: uint256 = self._records[job].sizes
    return ITaskRegistry.JobSpec(
        program_root=self._records[job].program_root,
        node_count=sizes & U32,
        tensor_count=(sizes >> 32) & U32,
        initial_state=self._records[job].initial_state,
        state_count=(sizes >> 64) & U32,
        data_root=self._records[job].data_root,
        data_count=(sizes >> 96) & U32,
        steps=(sizes >> 128) & U32,
        segment_length=(sizes >> 160) & U32,
        numerics_version=sizes >> 192,
    )


@internal
@view
def _load_life(job: uint256) -> Life:
    """
    @notice What changes in a job, from one word: status 8 bits, segments 32, live games 32, period 32, window 32, deadline 64.
    """
    word: uint256 = self._records[job].life
    assert word != 0, "registry: unknown job"
    return Life(
        status=convert(word & 255, ITaskRegistry.JobStatus),
        posted=(word >> 8) & U32,
        live_games=(word >> 40) & U32,
        training_period=(word >> 72) & U32,
        challenge_window=(word >> 104) & U32,
        deadline=word >> 136,
    )


@internal
def _save_life(job: uint256, life: Life):
    self._records[job].life = (
        convert(life.status, uint256)
        | (life.posted << 8)
        | (life.live_games << 40)
        | (life.training_period << 72)
        | (life.challenge_window << 104)
        | (life.deadline << 136)
    )
