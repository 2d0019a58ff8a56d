# pragma version 0.4.3
# @title The life of a job: bounty, stake, segments, end
# @license Apache-2.0
# @notice docs/protocol.md, "A job". Jobs are numbered from 1, attempts from 1, segments from 0. The contract holds exactly the bounties and
#         stakes of unfinished jobs and what it has credited. A second that is named as the last one still belongs to whoever may act in it:
#         segments are posted and games opened at or before it, jobs expire and segments become final after it.

from interfaces import ITaskRegistry
from modules import commitments
from modules import governance
from modules import jobs
from modules import ledger
from modules import merkle

implements: ITaskRegistry

initializes: commitments
initializes: governance
initializes: jobs
initializes: ledger
exports: commitments.commit
exports: (
    governance.owner,
    governance.pending_owner,
    governance.paused,
    governance.clock,
    governance.transfer_ownership,
    governance.accept_ownership,
    governance.renounce_ownership,
    governance.pause,
    governance.unpause,
)
exports: (ledger.credit, ledger.burnable, ledger.withdraw, ledger.burn)

# Proofs into programs, traces and states have at most 24 siblings, proofs into histories at most 32.
MAX_LEAVES: constant(uint256) = 2**24
MAX_STEPS: constant(uint256) = 2**32 - 1
MAX_SECONDS: constant(uint256) = 2**32 - 1
MAX_AMOUNT: constant(uint256) = 2**128 - 1  # so that no product of an amount with steps or basis points overflows
MAX_ATTEMPTS: constant(uint256) = 2**8 - 1
BASIS: constant(uint256) = 10_000
U40: constant(uint256) = 2**40 - 1


interface Game:
    def numerics_version() -> uint256: view


# What becomes of a slashed stake, in basis points. Burning makes challenging oneself a loss; the reward makes watching worth while; the
# requester gets the rest for its lost time.
burn_share: public(immutable(uint256))
reward_share: public(immutable(uint256))

# Game contracts that a new job may name.
games: public(HashMap[address, bool])
# The only contract through which leaves of a final state are demanded; set once.
delivery: public(address)
job_count: public(uint256)


@deploy
def __init__(burn_share_: uint256, reward_share_: uint256):
    """
    @param burn_share_ The share of a slashed stake that is burnt, in basis points.
    @param reward_share_ The share of a slashed stake that a successful challenger gets, in basis points.
    """
    assert burn_share_ + reward_share_ <= BASIS, "registry: shares above 100%"
    governance.__init__()
    burn_share = burn_share_
    reward_share = reward_share_


# What the owner can do


@external
def add_game(game: address):
    """
    @notice Let new jobs name a game contract.
    """
    governance._check_owner()
    assert game != empty(address), "registry: no game"
    assert not self.games[game], "registry: game already added"
    self.games[game] = True
    log ITaskRegistry.GameAdded(game=game)


@external
def retire_game(game: address):
    """
    @notice Let no new job name a game contract. Jobs that have named it keep it.
    """
    governance._check_owner()
    assert self.games[game], "registry: unknown game"
    self.games[game] = False
    log ITaskRegistry.GameRetired(game=game)


@external
def set_delivery(delivery: address):
    """
    @notice Name the delivery contract, once and for all.
    """
    governance._check_owner()
    assert self.delivery == empty(address), "registry: delivery already set"
    assert delivery != empty(address), "registry: no delivery"
    self.delivery = delivery
    log ITaskRegistry.DeliverySet(delivery=delivery)


# Views


@external
@view
def job(job: uint256) -> ITaskRegistry.Job:
    """
    @notice All there is to know of a job.
    """
    life: jobs.Life = jobs.load_life(job)
    record: jobs.Record = jobs.records[job]
    spec: ITaskRegistry.JobSpec = jobs.spec(job)
    return ITaskRegistry.Job(
        status=life.status,
        requester=record.requester,
        trainer=empty(address) if life.status == ITaskRegistry.JobStatus.OPEN else record.trainer,
        bounty=record.bounty,
        paid=record.paid,
        attempt=life.attempt,
        deadline=life.deadline,
        posted=life.posted,
        finalised=life.finalised,
        state=jobs.state(job, life.posted),
        live_games=life.live_games,
        open_demands=life.open_demands,
        delivery_end=life.delivery_end,
        settled=life.settled,
        parent=record.origin & U40,
        job_hash=keccak256(abi_encode(spec)),
        spec=spec,
        terms=jobs.terms(job),
    )


@external
@view
def segment(job: uint256, segment: uint256) -> ITaskRegistry.Segment:
    """
    @notice A posted segment.
    """
    life: jobs.Life = jobs.load_life(job)
    assert segment < life.posted, "registry: segment not posted"
    return jobs.segment(job, life, segment)


@external
@view
def spec(job: uint256) -> ITaskRegistry.JobSpec:
    """
    @notice What the result of a job depends on.
    """
    jobs.load_life(job)
    return jobs.spec(job)


@external
@view
def model(job: uint256) -> ITaskRegistry.Model:
    """
    @notice The model that a completed job has made.
    """
    life: jobs.Life = jobs.load_life(job)
    assert life.status == ITaskRegistry.JobStatus.COMPLETED, "registry: job not completed"
    record: jobs.Record = jobs.records[job]
    return ITaskRegistry.Model(
        state=jobs.state(job, life.posted),
        job_hash=keccak256(abi_encode(jobs.spec(job))),
        program_root=record.program_root,
        data_root=record.data_root,
        requester=record.requester,
        trainer=record.trainer,
        parent=record.origin & U40,
        completed_at=record.origin >> 128,
    )


@external
@view
def standing(job: uint256, attempt: uint256) -> ITaskRegistry.Standing:
    """
    @notice Whether an attempt at a job can still be disputed, by whom it is, and what time it is.
    """
    paused: bool = False
    now: uint256 = 0
    paused, now = governance._now()
    return ITaskRegistry.Standing(
        live=self._under_way(job, attempt), paused=paused, trainer=jobs.records[job].trainer, clock=now
    )


@external
@view
def claim_commitment(account: address, job: uint256, salt: bytes32) -> bytes32:
    """
    @notice What `account` commits to before it claims a job with `salt`.
    """
    return self._claim_commitment(account, job, salt)


# The requester


@external
@payable
@nonreentrant
def open_job(
    spec: ITaskRegistry.JobSpec, terms: ITaskRegistry.Terms, bounty: uint256, parent: uint256, uri: String[256]
) -> uint256:
    """
    @notice Offer a job, with the bounty as value, or from the caller's allowance of the token.
    @param parent The completed job whose final state this one starts from; 0 is none.
    @param uri Where program, data and initial state can be fetched; whoever fetches checks them against the roots.
    @return The number of the job.
    """
    governance._require_running()
    assert 1 <= spec.node_count and spec.node_count < MAX_LEAVES, "registry: bad node count"
    assert 1 <= spec.tensor_count and spec.tensor_count <= MAX_LEAVES, "registry: bad tensor count"
    assert 1 <= spec.state_count and spec.state_count <= MAX_LEAVES, "registry: bad state count"
    assert spec.data_count <= MAX_LEAVES, "registry: bad data count"
    assert 1 <= spec.steps and spec.steps <= MAX_STEPS, "registry: bad steps"
    assert 1 <= spec.segment_length and spec.segment_length <= spec.steps, "registry: bad segment length"
    assert bounty <= MAX_AMOUNT, "registry: bad bounty"
    assert 1 <= terms.stake and terms.stake <= MAX_AMOUNT, "registry: bad stake"
    assert 1 <= terms.attempts and terms.attempts <= MAX_ATTEMPTS, "registry: bad attempts"
    assert 1 <= terms.segment_period and terms.segment_period <= MAX_SECONDS, "registry: bad segment period"
    assert 1 <= terms.challenge_window and terms.challenge_window <= MAX_SECONDS, "registry: bad challenge window"
    assert terms.retained_share <= BASIS, "registry: bad retained share"
    assert terms.delivery_period <= MAX_SECONDS, "registry: bad delivery period"
    assert (terms.retained_share == 0) == (terms.delivery_period == 0), "registry: a retained share needs a delivery period"
    assert terms.retained_share == 0 or self.delivery != empty(address), "registry: no delivery contract"
    assert self.games[terms.game], "registry: unknown game"
    assert spec.numerics_version == staticcall Game(terms.game).numerics_version(), "registry: numerics of another game"
    if parent != 0:
        assert jobs.load_life(parent).status == ITaskRegistry.JobStatus.COMPLETED, "registry: parent not completed"
        assert jobs.state(parent, jobs.load_life(parent).posted) == spec.initial_state, "registry: parent ends in another state"
    ledger._take(terms.token, bounty)

    self.job_count += 1
    job: uint256 = self.job_count
    jobs.records[job] = jobs.Record(
        requester=msg.sender,
        trainer=empty(address),
        token=terms.token,
        game=terms.game,
        named=terms.trainer,
        bounty=bounty,
        paid=0,
        stake=terms.stake,
        program_root=spec.program_root,
        initial_state=spec.initial_state,
        data_root=spec.data_root,
        origin=parent,
        sizes=jobs.pack_sizes(spec),
        limits=jobs.pack_limits(terms),
        life=0,
    )
    life: jobs.Life = empty(jobs.Life)
    life.status = ITaskRegistry.JobStatus.OPEN
    life.attempt = 1
    jobs.save_life(job, life)
    log ITaskRegistry.JobOpened(
        job=job,
        requester=msg.sender,
        job_hash=keccak256(abi_encode(spec)),
        spec=spec,
        terms=terms,
        bounty=bounty,
        parent=parent,
        uri=uri,
    )
    return job


@external
def cancel(job: uint256):
    """
    @notice Take back what is left of the bounty of a job that is open.
    """
    life: jobs.Life = jobs.load_life(job)
    assert msg.sender == jobs.records[job].requester, "registry: not the requester"
    assert life.status == ITaskRegistry.JobStatus.OPEN, "registry: job not open"
    life.status = ITaskRegistry.JobStatus.CANCELLED
    jobs.save_life(job, life)
    log ITaskRegistry.JobCancelled(job=job, refund=self._refund(job))


# The trainer


@external
@payable
@nonreentrant
def claim(job: uint256, offer: bytes32, salt: bytes32, uri: String[256]):
    """
    @notice Become the trainer of an open job, with the stake as value, or from the caller's allowance of the token. It takes a commitment
            made in an earlier block, unless the job names its trainer.
    @param offer The hash of specification, terms and bounty, so that the claim cannot land on another job after a reorganisation.
    @param uri The trainer's data service.
    @custom:security The job is claimed before the stake arrives: a token that calls back must not find it open, because whoever cancelled it
                     then would get a bounty that the trainer goes on to earn.
    """
    governance._require_running()
    life: jobs.Life = jobs.load_life(job)
    assert life.status == ITaskRegistry.JobStatus.OPEN, "registry: job not open"
    bounty: uint256 = jobs.records[job].bounty
    assert keccak256(abi_encode(jobs.spec(job), jobs.terms(job), bounty)) == offer, "registry: another job"
    named: address = jobs.records[job].named
    if named == empty(address):
        commitments._consume(self._claim_commitment(msg.sender, job, salt))
    else:
        assert msg.sender == named, "registry: the job names another trainer"
    life.status = ITaskRegistry.JobStatus.TRAINING
    life.deadline = governance._clock() + jobs.segment_period(job)
    jobs.save_life(job, life)
    jobs.records[job].trainer = msg.sender
    ledger._take(jobs.records[job].token, jobs.records[job].stake)
    log ITaskRegistry.JobClaimed(job=job, trainer=msg.sender, attempt=life.attempt, deadline=life.deadline, uri=uri)


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
    governance._require_running()
    life: jobs.Life = jobs.load_life(job)
    assert life.status == ITaskRegistry.JobStatus.TRAINING, "registry: job not in training"
    assert msg.sender == jobs.records[job].trainer, "registry: not the trainer"
    time: uint256 = governance._clock()
    assert time <= life.deadline, "registry: deadline passed"

    segment: uint256 = life.posted
    first: uint256 = 0
    steps: uint256 = 0
    total: uint256 = 0
    first, steps, total = jobs.steps_of(job, segment)
    merkle.check(jobs.state(job, segment), 0, steps + 1, start_proof, history_root)
    merkle.check(end_state, steps, steps + 1, end_proof, history_root)

    window_end: uint256 = time + jobs.challenge_window(job)
    jobs.commitments[job][segment] = jobs.Commitment(history_root=history_root, end_state=end_state, window=window_end)
    life.posted = segment + 1
    life.deadline = time + jobs.segment_period(job)
    if first + steps == total:
        life.status = ITaskRegistry.JobStatus.VERIFICATION
        life.deadline = 0
    jobs.save_life(job, life)
    log ITaskRegistry.SegmentPosted(
        job=job,
        segment=segment,
        attempt=life.attempt,
        history_root=history_root,
        end_state=end_state,
        window_end=window_end,
    )


# Ends that anyone may bring about


@external
def finalise(job: uint256):
    """
    @notice Credit the milestone of the next segment, whose window has passed and which no live game is about, to the trainer. The last
            one completes the job and gives the stake back. Anyone may call.
    """
    governance._require_running()
    life: jobs.Life = jobs.load_life(job)
    assert self._disputable(life.status), "registry: job not under way"
    segment: uint256 = life.finalised
    assert segment < life.posted, "registry: no segment to finalise"
    window: uint256 = jobs.commitments[job][segment].window
    assert window >> 64 == 0, "registry: live games"
    assert governance._clock() > window, "registry: window not over"

    first: uint256 = 0
    steps: uint256 = 0
    total: uint256 = 0
    first, steps, total = jobs.steps_of(job, segment)
    bounty: uint256 = jobs.records[job].bounty
    retained: uint256 = self._share(bounty, jobs.retained_share(job))
    milestone: uint256 = (bounty - retained) * (first + steps) // total - jobs.records[job].paid
    trainer: address = jobs.records[job].trainer
    token: address = jobs.records[job].token
    jobs.records[job].paid += milestone
    ledger._credit(token, trainer, milestone)
    log ITaskRegistry.SegmentFinalised(job=job, segment=segment, trainer=trainer, milestone=milestone)

    life.finalised = segment + 1
    if first + steps == total:
        life.status = ITaskRegistry.JobStatus.COMPLETED
        life.settled = retained == 0
        if retained != 0:
            life.delivery_end = governance._clock() + jobs.delivery_period(job)
        jobs.records[job].origin |= block.number << 128
        ledger._credit(token, trainer, jobs.records[job].stake)
        log ITaskRegistry.JobCompleted(
            job=job,
            trainer=trainer,
            state=jobs.commitments[job][segment].end_state,
            job_hash=keccak256(abi_encode(jobs.spec(job))),
            data_root=jobs.records[job].data_root,
            parent=jobs.records[job].origin & U40,
            retained=retained,
        )
    jobs.save_life(job, life)


@external
def expire(job: uint256):
    """
    @notice End an attempt whose deadline has passed without the next segment and without a live game. Anyone may call.
    """
    governance._require_running()
    life: jobs.Life = jobs.load_life(job)
    assert life.status == ITaskRegistry.JobStatus.TRAINING, "registry: job not in training"
    assert governance._clock() > life.deadline, "registry: deadline not passed"
    assert life.live_games == 0, "registry: live games"
    token: address = jobs.records[job].token
    stake: uint256 = jobs.records[job].stake
    burnt: uint256 = self._share(stake, burn_share)
    ledger._credit(token, jobs.records[job].requester, stake - burnt)
    ledger._credit_nobody(token, burnt)
    log ITaskRegistry.JobExpired(job=job, trainer=jobs.records[job].trainer, attempt=life.attempt, burnt=burnt)
    self._end_attempt(job, life, ITaskRegistry.JobStatus.EXPIRED)


@external
def release(job: uint256):
    """
    @notice Credit what was retained of the bounty to the trainer, after the delivery period and without an open demand. Anyone may call.
    """
    governance._require_running()
    life: jobs.Life = jobs.load_life(job)
    assert life.status == ITaskRegistry.JobStatus.COMPLETED and not life.settled, "registry: nothing retained"
    assert governance._clock() > life.delivery_end, "registry: delivery period not over"
    assert life.open_demands == 0, "registry: open demands"
    life.settled = True
    jobs.save_life(job, life)
    trainer: address = jobs.records[job].trainer
    amount: uint256 = jobs.records[job].bounty - jobs.records[job].paid
    jobs.records[job].paid += amount
    ledger._credit(jobs.records[job].token, trainer, amount)
    log ITaskRegistry.RetainedReleased(job=job, trainer=trainer, amount=amount)


# The game contract


@external
def game_opened(job: uint256, segment: uint256) -> (uint256, ITaskRegistry.Segment):
    """
    @notice Called by the job's game contract: a game starts on a segment.
    @return The attempt, and the segment.
    """
    governance._require_running()
    life: jobs.Life = self._judged_life(job)
    assert self._disputable(life.status), "registry: job not in dispute"
    assert segment < life.posted, "registry: segment not posted"
    disputed: ITaskRegistry.Segment = jobs.segment(job, life, segment)
    assert governance._clock() <= disputed.window_end, "registry: window over"
    life.live_games += 1
    jobs.commitments[job][segment].window += 1 << 64
    jobs.save_life(job, life)
    return life.attempt, disputed


@external
def game_closed(job: uint256, attempt: uint256, segment: uint256):
    """
    @notice Called by the job's game contract: a game ended in the trainer's favour.
    """
    life: jobs.Life = self._judged_life(job)
    assert self._disputable(life.status) and life.attempt == attempt, "registry: job not in dispute"
    life.live_games -= 1
    jobs.commitments[job][segment].window -= 1 << 64
    jobs.save_life(job, life)


@external
def convict(job: uint256, attempt: uint256, beneficiary: address):
    """
    @notice Called by the job's game contract: a game ended against the trainer. The other games on the attempt are live no longer.
    @param beneficiary Who gets the reward.
    """
    life: jobs.Life = self._judged_life(job)
    assert self._disputable(life.status) and life.attempt == attempt, "registry: job not in dispute"
    token: address = jobs.records[job].token
    stake: uint256 = jobs.records[job].stake
    burnt: uint256 = self._share(stake, burn_share)
    reward: uint256 = self._share(stake, reward_share)
    ledger._credit(token, beneficiary, reward)
    ledger._credit(token, jobs.records[job].requester, stake - burnt - reward)
    ledger._credit_nobody(token, burnt)
    log ITaskRegistry.JobSlashed(
        job=job,
        trainer=jobs.records[job].trainer,
        beneficiary=beneficiary,
        attempt=attempt,
        reward=reward,
        burnt=burnt,
    )
    self._end_attempt(job, life, ITaskRegistry.JobStatus.SLASHED)


# The delivery contract


@external
def demand_opened(job: uint256):
    """
    @notice Called by the delivery contract: a leaf of the final state is demanded.
    """
    governance._require_running()
    life: jobs.Life = self._delivered_life(job)
    assert life.status == ITaskRegistry.JobStatus.COMPLETED and not life.settled, "registry: nothing retained"
    assert governance._clock() <= life.delivery_end, "registry: delivery period over"
    life.open_demands += 1
    jobs.save_life(job, life)


@external
def demand_closed(job: uint256):
    """
    @notice Called by the delivery contract: a demanded leaf was shown, or another one was not.
    """
    life: jobs.Life = self._delivered_life(job)
    life.open_demands -= 1
    jobs.save_life(job, life)


@external
def withhold(job: uint256):
    """
    @notice Called by the delivery contract: a demanded leaf was not shown in time. What was retained goes back to the requester.
    """
    life: jobs.Life = self._delivered_life(job)
    assert life.status == ITaskRegistry.JobStatus.COMPLETED and not life.settled, "registry: nothing retained"
    life.settled = True
    life.open_demands -= 1
    jobs.save_life(job, life)
    requester: address = jobs.records[job].requester
    amount: uint256 = jobs.records[job].bounty - jobs.records[job].paid
    ledger._credit(jobs.records[job].token, requester, amount)
    log ITaskRegistry.RetainedWithheld(job=job, requester=requester, amount=amount)


# Parts of transitions


@internal
@view
def _judged_life(job: uint256) -> jobs.Life:
    life: jobs.Life = jobs.load_life(job)
    assert msg.sender == jobs.records[job].game, "registry: not the game"
    return life


@internal
@view
def _delivered_life(job: uint256) -> jobs.Life:
    assert msg.sender == self.delivery, "registry: not the delivery"
    return jobs.load_life(job)


@internal
@view
def _disputable(status: ITaskRegistry.JobStatus) -> bool:
    return status in (ITaskRegistry.JobStatus.TRAINING | ITaskRegistry.JobStatus.VERIFICATION)


@internal
@view
def _under_way(job: uint256, attempt: uint256) -> bool:
    status: ITaskRegistry.JobStatus = empty(ITaskRegistry.JobStatus)
    present: uint256 = 0
    status, present = jobs.status(job)
    return self._disputable(status) and present == attempt


@internal
def _end_attempt(job: uint256, ended: jobs.Life, failed: ITaskRegistry.JobStatus):
    """
    @notice Forget the segments that are not final, and open the job again; without attempts left it has failed.
    """
    life: jobs.Life = ended
    life.posted = life.finalised
    life.live_games = 0
    life.deadline = 0
    if life.attempt < jobs.attempts(job):
        life.attempt += 1
        life.status = ITaskRegistry.JobStatus.OPEN
    else:
        life.status = failed
        log ITaskRegistry.JobRefunded(job=job, refund=self._refund(job))
    jobs.save_life(job, life)


@internal
def _refund(job: uint256) -> uint256:
    """
    @notice Credit what is left of the bounty to the requester.
    """
    refund: uint256 = jobs.records[job].bounty - jobs.records[job].paid
    ledger._credit(jobs.records[job].token, jobs.records[job].requester, refund)
    return refund


@internal
@pure
def _share(amount: uint256, basis_points: uint256) -> uint256:
    return amount * basis_points // BASIS


@internal
@pure
def _claim_commitment(account: address, job: uint256, salt: bytes32) -> bytes32:
    return keccak256(abi_encode(account, job, salt))
