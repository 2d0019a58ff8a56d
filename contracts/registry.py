"""TaskRegistry and Delivery as Python classes: one method for each function.

Functions that change something return the receipt, or the number of what they opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from eth_typing import ChecksumAddress
from web3 import Web3
from web3.types import TxReceipt

from bisection.witness import NodeProof
from contracts.contract import Ledger
from contracts.jobs import NATIVE, Demand, Job, JobSpec, Model, Segment, Standing, Terms
from contracts.values import build

__all__ = ["Delivery", "TaskRegistry"]


class TaskRegistry(Ledger):
    """The life of a job, and who may pause."""

    NAME = "TaskRegistry"

    def job(self, job: int) -> Job:
        """All there is to know of a job."""
        return build(Job, self.simulate("job", job))

    def segment(self, job: int, segment: int) -> Segment:
        """A posted segment."""
        return build(Segment, self.simulate("segment", job, segment))

    def model(self, job: int) -> Model:
        """The model that a completed job has made."""
        return build(Model, self.simulate("model", job))

    def standing(self, job: int, attempt: int) -> Standing:
        """Whether an attempt can still be disputed, by whom it is, and what time it is."""
        return build(Standing, self.simulate("standing", job, attempt))

    def job_count(self) -> int:
        """How many jobs there are; they are numbered from 1."""
        return int(self.simulate("job_count"))

    def shares(self) -> tuple[int, int]:
        """The shares of a slashed stake that are burnt and that the challenger gets, in basis points."""
        return int(self.simulate("burn_share")), int(self.simulate("reward_share"))

    def has_game(self, game: str) -> bool:
        """Whether new jobs may name a game contract."""
        return bool(self.simulate("games", game))

    def delivery(self) -> ChecksumAddress:
        """The address of the delivery contract."""
        return Web3.to_checksum_address(self.simulate("delivery"))

    def clock(self) -> int:
        """Protocol time: that of the latest block in seconds, without what was spent paused."""
        return int(self.simulate("clock"))

    def paused(self) -> bool:
        """Whether all clocks stand still."""
        return bool(self.simulate("paused"))

    def owner(self) -> ChecksumAddress:
        """Who may pause."""
        return Web3.to_checksum_address(self.simulate("owner"))

    def pending_owner(self) -> ChecksumAddress:
        """Who can become owner by accepting."""
        return Web3.to_checksum_address(self.simulate("pending_owner"))

    def add_game(self, game: str) -> TxReceipt:
        """Let new jobs name a game contract, as the owner."""
        return self.send("add_game", game)

    def retire_game(self, game: str) -> TxReceipt:
        """Let no new job name a game contract, as the owner."""
        return self.send("retire_game", game)

    def set_delivery(self, delivery: str) -> TxReceipt:
        """Name the delivery contract, once, as the owner."""
        return self.send("set_delivery", delivery)

    def transfer_ownership(self, pending: str) -> TxReceipt:
        """Offer the ownership, as the owner."""
        return self.send("transfer_ownership", pending)

    def accept_ownership(self) -> TxReceipt:
        """Become the owner."""
        return self.send("accept_ownership")

    def renounce_ownership(self) -> TxReceipt:
        """Leave the contracts without an owner for good, as the owner."""
        return self.send("renounce_ownership")

    def pause(self) -> TxReceipt:
        """Stop all clocks for a while, as the owner."""
        return self.send("pause")

    def unpause(self) -> TxReceipt:
        """Let the clocks go on, as the owner."""
        return self.send("unpause")

    def burnable(self, token: str = NATIVE) -> int:
        """What ``burn`` would destroy."""
        return int(self.simulate("burnable", token))

    def burn(self, token: str = NATIVE) -> TxReceipt:
        """Destroy what was slashed and belongs to nobody."""
        return self.send("burn", token)

    def open_job(self, spec: JobSpec, terms: Terms, uri: str, bounty: int, parent: int = 0) -> int:
        """Offer a job; its number. ``uri`` says where program, data and initial state can be fetched.

        A bounty in tokens needs an allowance.
        """
        receipt = self.send("open_job", spec, terms, bounty, parent, uri, value=terms.value(bounty))
        return self.number(receipt, "JobOpened")

    def cancel(self, job: int) -> TxReceipt:
        """Take back what is left of the bounty of an open job."""
        return self.send("cancel", job)

    def commit(self, commitment: bytes) -> TxReceipt:
        """Commit to a claim (``claim_commitment``) that is revealed in a later block."""
        return self.send("commit", commitment)

    def claim(self, number: int, uri: str, job: Job, salt: bytes = bytes(32)) -> TxReceipt:
        """Become the trainer of open job ``number``, which is ``job``; ``uri`` is the data service.

        A stake in tokens needs an allowance.
        """
        return self.send("claim", number, job.offer, salt, uri, value=job.terms.value(job.terms.stake))

    def post_segment(
        self, job: int, history_root: bytes, start_proof: Sequence[bytes], end_state: bytes, end_proof: Sequence[bytes]
    ) -> TxReceipt:
        """Commit to the states of the next segment."""
        return self.send("post_segment", job, history_root, start_proof, end_state, end_proof)

    def finalise(self, job: int) -> TxReceipt:
        """Pay for the next segment, whose window has passed."""
        return self.send("finalise", job)

    def expire(self, job: int) -> TxReceipt:
        """End an attempt whose deadline has passed."""
        return self.send("expire", job)

    def release(self, job: int) -> TxReceipt:
        """Pay what was retained, after the delivery period."""
        return self.send("release", job)


class Delivery(Ledger):
    """Demands for leaves of final states."""

    NAME = "Delivery"

    @cached_property
    def bond(self) -> int:
        """What a demand costs, in wei."""
        return int(self.simulate("bond"))

    @cached_property
    def answer_period(self) -> int:
        """The time for an answer, in seconds."""
        return int(self.simulate("answer_period"))

    def registry(self) -> ChecksumAddress:
        """The address of the registry."""
        return Web3.to_checksum_address(self.simulate("registry"))

    def demand_of(self, demand: int) -> Demand:
        """An open demand. Raises TransactionFailed when there is none."""
        return build(Demand, self.simulate("demand_of", demand))

    def demand(self, job: int, component: int) -> int:
        """Demand a random leaf of one component of a final state; the number of the demand."""
        return self.number(self.send("demand", job, component, value=self.bond), "LeafDemanded")

    def answer(
        self,
        demand: int,
        node: NodeProof,
        tensor_root: bytes,
        component_proof: Sequence[bytes],
        data: bytes,
        leaf_proof: Sequence[bytes],
    ) -> TxReceipt:
        """Show the leaf."""
        return self.send("answer", demand, node, tensor_root, component_proof, data, leaf_proof)

    def give_up(self, demand: int) -> TxReceipt:
        """Note that the leaf was not shown in time."""
        return self.send("give_up", demand)

    def reclaim(self, demand: int) -> TxReceipt:
        """Take the bond back from a demand that another one has settled."""
        return self.send("reclaim", demand)
