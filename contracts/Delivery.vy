# pragma version 0.4.3
# @title Delivery: the trainer of a completed model still has it
# @license Apache-2.0
# @notice docs/protocol.md, "Delivery". For some time after completion a part of the bounty is retained. Anyone may demand a random leaf of
#         the final state against a bond; an answer earns the bond, silence costs the trainer what was retained. Demands are numbered from 1.
#         The contract holds exactly the bonds of open demands and what it has credited.
# @custom:security The leaf is drawn by the beacon of the demand's own block, which whoever demands could wait for: that it can prefer some
#                  leaf harms nobody who has all of them.

from interfaces import IDelivery
from interfaces import IReferee
from interfaces import ITaskRegistry
from modules import ledger
from modules import merkle

implements: IDelivery

initializes: ledger
exports: (ledger.credit, ledger.withdraw)

MAX_SECONDS: constant(uint256) = 2**32 - 1
STATE_AFTER: constant(uint256) = 2
NATIVE: constant(address) = empty(address)


interface Game:
    def referee() -> IReferee: view


interface Clock:
    def clock() -> uint256: view


registry: public(immutable(ITaskRegistry))
# What a demand costs whoever makes it, in wei; it pays for the answer.
bond: public(immutable(uint256))
# Seconds for the answer.
answer_period: public(immutable(uint256))

demand_count: public(uint256)
_demands: HashMap[uint256, IDelivery.Demand]


@deploy
def __init__(registry_: address, bond_: uint256, answer_period_: uint256):
    """
    @param bond_ What a demand costs, in wei.
    @param answer_period_ The time for an answer, in seconds.
    """
    assert registry_ != empty(address), "delivery: no registry"
    assert 1 <= bond_, "delivery: no bond"
    assert 1 <= answer_period_ and answer_period_ <= MAX_SECONDS, "delivery: bad answer period"
    registry = ITaskRegistry(registry_)
    bond = bond_
    answer_period = answer_period_


@external
@view
def demand_of(demand: uint256) -> IDelivery.Demand:
    """
    @notice All there is to know of a demand.
    """
    return self._open(demand)


@external
@payable
def demand(job: uint256, component: uint256) -> uint256:
    """
    @notice Demand a random leaf of one component of a completed job's final state, with the bond as value.
    @return The number of the demand.
    """
    assert msg.value == bond, "delivery: wrong bond"
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(job)
    assert component < spec.state_count, "delivery: no such component"
    extcall registry.demand_opened(job)
    self.demand_count += 1
    demand: uint256 = self.demand_count
    seed: uint256 = convert(
        keccak256(abi_encode(block.prevrandao, blockhash(block.number - 1), msg.sender, demand)), uint256
    )
    answer_by: uint256 = staticcall Clock(registry.address).clock() + answer_period
    self._demands[demand] = IDelivery.Demand(
        job=job, account=msg.sender, component=component, seed=seed, answer_by=answer_by
    )
    log IDelivery.LeafDemanded(
        demand=demand, job=job, account=msg.sender, component=component, seed=seed, answer_by=answer_by
    )
    return demand


@external
def answer(
    demand: uint256,
    node: IReferee.NodeProof,
    tensor_root: bytes32,
    component_proof: DynArray[bytes32, 24],
    data: Bytes[256],
    leaf_proof: DynArray[bytes32, 32],
):
    """
    @notice Show the leaf. Anyone who has it may; the bond goes to the trainer.
    @param node The program's output node that writes the component, which says how many bytes it has.
    @param tensor_root The component's root.
    """
    d: IDelivery.Demand = self._open(demand)
    self._check_unsettled(d.job)
    assert staticcall Clock(registry.address).clock() <= d.answer_by, "delivery: too late"
    job: ITaskRegistry.Job = staticcall registry.job(d.job)
    step: IReferee.Step = empty(IReferee.Step)
    step.program_root = job.spec.program_root
    step.node_count = job.spec.node_count
    step.tensor_count = job.spec.tensor_count
    referee: IReferee = staticcall Game(job.terms.game).referee()
    written: IReferee.Boundary = staticcall referee.boundary(step, node)
    assert written.source == STATE_AFTER and written.index == d.component, "delivery: another component"
    merkle.check(tensor_root, d.component, job.spec.state_count, component_proof, job.state)

    # A tensor without bytes has one empty leaf.
    count: uint256 = max((written.size + merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES, 1)
    leaf: uint256 = d.seed % count
    assert len(data) == min(merkle.LEAF_BYTES, written.size - leaf * merkle.LEAF_BYTES), "delivery: leaf of another length"
    merkle.check(merkle.leaf_digest(data), leaf, count, leaf_proof, tensor_root)
    self._close(demand, job.trainer)
    extcall registry.demand_closed(d.job)
    log IDelivery.Answered(demand=demand, job=d.job, leaf=leaf, data=data)


@external
def give_up(demand: uint256):
    """
    @notice Note that the leaf was not shown in time: what was retained goes back to the requester, the bond to whoever demanded.
            Anyone may call.
    """
    d: IDelivery.Demand = self._open(demand)
    self._check_unsettled(d.job)
    assert staticcall Clock(registry.address).clock() > d.answer_by, "delivery: time for an answer"
    self._close(demand, d.account)
    extcall registry.withhold(d.job)
    log IDelivery.Unanswered(demand=demand, job=d.job)


@external
def reclaim(demand: uint256):
    """
    @notice Credit the bond of a demand back that another one has settled. Anyone may call.
    """
    d: IDelivery.Demand = self._open(demand)
    assert (staticcall registry.job(d.job)).settled, "delivery: still to be answered"
    self._close(demand, d.account)
    extcall registry.demand_closed(d.job)
    log IDelivery.DemandReclaimed(demand=demand, job=d.job)


@internal
@view
def _open(demand: uint256) -> IDelivery.Demand:
    d: IDelivery.Demand = self._demands[demand]
    assert d.account != empty(address), "delivery: no open demand"
    return d


@internal
@view
def _check_unsettled(job: uint256):
    assert not (staticcall registry.job(job)).settled, "delivery: already settled"


@internal
def _close(demand: uint256, winner: address):
    self._demands[demand].account = empty(address)
    ledger._credit(NATIVE, winner, bond)
