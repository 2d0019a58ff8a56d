# pragma version 0.4.3
# @title Jobs as they are stored
# @license Apache-2.0
# @notice What TaskRegistry.vy remembers of a job and its segments, packed into few words, and what follows from that alone.

from interfaces import ITaskRegistry

U8: constant(uint256) = 2**8 - 1
U32: constant(uint256) = 2**32 - 1
U40: constant(uint256) = 2**40 - 1
U64: constant(uint256) = 2**64 - 1


# A job as it is stored. `sizes` packs the numbers of the specification, `limits` those of the terms, `life` what changes.
struct Record:
    requester: address
    trainer: address
    token: address
    game: address
    named: address  # the only one that may claim; zero is anybody
    bounty: uint256
    paid: uint256
    stake: uint256
    program_root: bytes32
    initial_state: bytes32
    data_root: bytes32
    origin: uint256  # the parent job, and in the upper half the block of completion
    sizes: uint256
    limits: uint256
    life: uint256


struct Life:
    status: ITaskRegistry.JobStatus
    attempt: uint256
    posted: uint256
    finalised: uint256
    live_games: uint256
    open_demands: uint256
    deadline: uint256
    delivery_end: uint256
    settled: bool


# `window` packs the window's last second with the number of live games.
struct Commitment:
    history_root: bytes32
    end_state: bytes32
    window: uint256


records: HashMap[uint256, Record]
# job -> segment
commitments: HashMap[uint256, HashMap[uint256, Commitment]]


@internal
@view
def steps_of(job: uint256, segment: uint256) -> (uint256, uint256, uint256):
    """
    @return The first step of a segment, its number of steps, and that of the job.
    """
    sizes: uint256 = self.records[job].sizes
    total: uint256 = (sizes >> 128) & U32
    length: uint256 = (sizes >> 160) & U32
    first: uint256 = segment * length
    return first, min(length, total - first), total


@internal
@view
def segment(job: uint256, life: Life, segment: uint256) -> ITaskRegistry.Segment:
    first: uint256 = 0
    steps: uint256 = 0
    total: uint256 = 0
    first, steps, total = self.steps_of(job, segment)
    commitment: Commitment = self.commitments[job][segment]
    return ITaskRegistry.Segment(
        first_step=first,
        steps=steps,
        history_root=commitment.history_root,
        end_state=commitment.end_state,
        window_end=commitment.window & (2**64 - 1),
        live_games=commitment.window >> 64,
        final=segment < life.finalised,
    )


@internal
@view
def state(job: uint256, posted: uint256) -> bytes32:
    """
    @return The state that the next segment starts from.
    """
    if posted == 0:
        return self.records[job].initial_state
    return self.commitments[job][posted - 1].end_state


@internal
@pure
def pack_sizes(spec: ITaskRegistry.JobSpec) -> uint256:
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
def spec(job: uint256) -> ITaskRegistry.JobSpec:
    sizes: uint256 = self.records[job].sizes
    return ITaskRegistry.JobSpec(
        program_root=self.records[job].program_root,
        node_count=sizes & U32,
        tensor_count=(sizes >> 32) & U32,
        initial_state=self.records[job].initial_state,
        state_count=(sizes >> 64) & U32,
        data_root=self.records[job].data_root,
        data_count=(sizes >> 96) & U32,
        steps=(sizes >> 128) & U32,
        segment_length=(sizes >> 160) & U32,
        numerics_version=sizes >> 192,
    )


@internal
@pure
def pack_limits(terms: ITaskRegistry.Terms) -> uint256:
    """
    @notice The numbers of the terms in one word, 32 bits each.
    """
    return (
        terms.attempts
        | (terms.segment_period << 32)
        | (terms.challenge_window << 64)
        | (terms.retained_share << 96)
        | (terms.delivery_period << 128)
    )


@internal
@view
def attempts(job: uint256) -> uint256:
    return self.records[job].limits & U32


@internal
@view
def segment_period(job: uint256) -> uint256:
    return (self.records[job].limits >> 32) & U32


@internal
@view
def challenge_window(job: uint256) -> uint256:
    return (self.records[job].limits >> 64) & U32


@internal
@view
def retained_share(job: uint256) -> uint256:
    return (self.records[job].limits >> 96) & U32


@internal
@view
def delivery_period(job: uint256) -> uint256:
    return self.records[job].limits >> 128


@internal
@view
def terms(job: uint256) -> ITaskRegistry.Terms:
    return ITaskRegistry.Terms(
        token=self.records[job].token,
        stake=self.records[job].stake,
        trainer=self.records[job].named,
        game=self.records[job].game,
        attempts=self.attempts(job),
        segment_period=self.segment_period(job),
        challenge_window=self.challenge_window(job),
        retained_share=self.retained_share(job),
        delivery_period=self.delivery_period(job),
    )


@internal
@view
def load_life(job: uint256) -> Life:
    """
    @notice What changes in a job, from one word: status 8 bits, attempt 8, settled 8, posted 32, finalised 32, live games 32, open demands
            32, deadline 40, end of delivery 40.
    """
    word: uint256 = self.records[job].life
    assert word != 0, "registry: unknown job"
    return Life(
        status=convert(word & U8, ITaskRegistry.JobStatus),
        attempt=(word >> 8) & U8,
        posted=(word >> 24) & U32,
        finalised=(word >> 56) & U32,
        live_games=(word >> 88) & U32,
        open_demands=(word >> 120) & U32,
        deadline=(word >> 152) & U40,
        delivery_end=word >> 192,
        settled=(word >> 16) & U8 == 1,
    )


@internal
def save_life(job: uint256, life: Life):
    self.records[job].life = (
        convert(life.status, uint256)
        | (life.attempt << 8)
        | (convert(life.settled, uint256) << 16)
        | (life.posted << 24)
        | (life.finalised << 56)
        | (life.live_games << 88)
        | (life.open_demands << 120)
        | (life.deadline << 152)
        | (life.delivery_end << 192)
    )


@internal
@view
def status(job: uint256) -> (ITaskRegistry.JobStatus, uint256):
    """
    @return The status of a job, and the number of its present attempt.
    """
    word: uint256 = self.records[job].life
    assert word != 0, "registry: unknown job"
    return convert(word & U8, ITaskRegistry.JobStatus), (word >> 8) & U8
