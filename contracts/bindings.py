"""The contracts as Python classes: one method for each function, bytes and dataclasses in and out.

Functions that change something go through a sender and return the receipt, or the number of what they opened.
``call`` describes such a transaction without sending it, ``simulate`` says what it would return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum, IntFlag
from functools import cache, cached_property
from typing import Any, ClassVar, Protocol, TypeVar, cast, get_origin, get_type_hints

from eth_abi.abi import encode
from eth_typing import ABIEvent, ABIFunction, ChecksumAddress
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types
from eth_utils.crypto import keccak
from web3 import Web3
from web3.types import TxReceipt

from bisection.errors import UsageError
from bisection.game import StepOpening
from bisection.witness import BoundaryWitness, ElementWitness, NodeProof, RunWitness, StepRoots
from contracts.build import artifact
from contracts.sender import Call, simulate

__all__ = [
    "NO_PICK",
    "Contract",
    "DescentView",
    "DisputeGame",
    "GameView",
    "Job",
    "JobSpec",
    "JobStatus",
    "Phase",
    "Referee",
    "Segment",
    "Sender",
    "TaskRegistry",
    "Terms",
    "Tree",
    "build",
    "plain",
]

T = TypeVar("T")

NO_PICK = 16  # DescentView.picked where no descendant has been picked


class JobStatus(IntEnum):
    """Where a job stands."""

    OPEN = 1
    TRAINING = 2
    VERIFICATION = 4
    COMPLETED = 8
    CANCELLED = 16
    EXPIRED = 32
    SLASHED = 64


class Phase(IntEnum):
    """Whose turn it is in a game and what the trainer owes, or how it ended."""

    CHALLENGER = 1
    TRACE = 2
    CHILDREN = 4
    LEAF = 8
    CONVICTED = 16
    ACQUITTED = 32
    CANCELLED = 64

    @property
    def live(self) -> bool:
        """Whether the game still goes on."""
        return self <= Phase.LEAF


class Tree(IntFlag):
    """A tree that can be descended, or a set of them."""

    HISTORY = 1
    TRACE = 2
    STATE = 4
    TENSOR = 8


@dataclass(frozen=True)
class JobSpec:
    """What the result of a job depends on (docs/protocol.md, "A job"); roots are 32 bytes."""

    program_root: bytes
    node_count: int
    tensor_count: int
    initial_state: bytes
    state_count: int
    data_root: bytes
    data_count: int
    steps: int
    segment_length: int
    numerics_version: int

    @property
    def job_hash(self) -> bytes:
        """The hash that names the job's content, 32 bytes."""
        types = ",".join("bytes32" if field.type == "bytes" else "uint256" for field in fields(self))
        return keccak(encode([f"({types})"], [plain(self)]))

    @property
    def segments(self) -> int:
        """How many segments a whole run has."""
        return -(-self.steps // self.segment_length)


@dataclass(frozen=True)
class Terms:
    """``stake`` in wei, ``training_period`` and ``challenge_window`` in seconds."""

    stake: int
    training_period: int
    challenge_window: int


@dataclass(frozen=True)
class Job:
    """A job. ``bounty`` in wei; ``deadline`` is the last second for the last segment; ``state`` is the last one that was posted."""

    status: JobStatus
    requester: ChecksumAddress
    trainer: ChecksumAddress
    bounty: int
    deadline: int
    posted: int
    state: bytes
    live_games: int
    job_hash: bytes
    spec: JobSpec
    terms: Terms


@dataclass(frozen=True)
class Segment:
    """A posted segment; a game on it can be opened up to and in the second ``window_end``."""

    first_step: int
    steps: int
    history_root: bytes
    end_state: bytes
    window_end: int


@dataclass(frozen=True)
class DescentView:
    """Where a descent stands; ``tree`` is empty where none is under way. ``size`` is in bytes."""

    tree: Tree
    node: bytes
    height: int
    position: int
    count: int
    picked: int
    tensor: int
    size: int


@dataclass(frozen=True)
class GameView:
    """A game. Clocks hold the seconds left at ``moved_at``; ``step`` counts within the segment; ``trace_root`` is zero at first."""

    job: int
    segment: int
    challenger: ChecksumAddress
    phase: Phase
    descended: Tree
    shown: bool
    step: int
    before: bytes
    after: bytes
    trace_root: bytes
    trainer_clock: int
    challenger_clock: int
    moved_at: int
    descent: DescentView


def plain(value: Any) -> Any:
    """``value`` as the ABI encoder takes it: dataclasses as tuples, sequences as lists, enumerations as integers."""
    if is_dataclass(value):
        return tuple(plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def build(kind: type[T], value: Any) -> T:
    """``value`` from the ABI decoder as a ``kind``: a dataclass (from a tuple or mapping), enumeration, address, bytes or tuple."""
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        values = [value[name] for name in names] if isinstance(value, Mapping) else value
        hints = _hints(kind)
        return kind(**{name: build(hints[name], item) for name, item in zip(names, values, strict=True)})
    if kind is ChecksumAddress:
        return cast(T, Web3.to_checksum_address(value))
    if get_origin(kind) is tuple:
        return cast(T, tuple(value))
    if isinstance(kind, type) and issubclass(kind, Enum | bytes):
        return kind(value)
    return value  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Function:
    """A function of a contract: its selector, and the types of its arguments and results."""

    selector: bytes
    inputs: list[str]
    outputs: list[str]


@cache
def _functions(contract: str) -> dict[str, _Function]:
    entries = [cast(ABIFunction, entry) for entry in artifact(contract).abi if entry["type"] == "function"]
    return {
        entry["name"]: _Function(function_abi_to_4byte_selector(entry), get_abi_input_types(entry), get_abi_output_types(entry))
        for entry in entries
    }


@cache
def _topic(contract: str, event: str) -> bytes:
    (entry,) = (cast(ABIEvent, entry) for entry in artifact(contract).abi if entry["type"] == "event" and entry["name"] == event)
    return event_abi_to_log_topic(entry)


class Sender(Protocol):
    """Who sends transactions: a TransactionSender, or what stands in for one."""

    def send(self, call: Call) -> TxReceipt:
        """The receipt of ``call``. Raises TransactionFailed if it reverts."""


class Contract:
    """A contract at an address. Without a sender it can only be looked at."""

    NAME: ClassVar[str]

    def __init__(self, web3: Web3, address: str, sender: Sender | None = None) -> None:
        self.web3 = web3
        self.address = Web3.to_checksum_address(address)
        self._sender = sender

    def call(self, name: str, *args: Any, value: int = 0) -> Call:
        """The transaction that calls function ``name``, with ``value`` in wei."""
        function = _functions(self.NAME)[name]
        return Call(name, self.address, function.selector + self.web3.codec.encode(function.inputs, plain(args)), value)

    def simulate(self, name: str, *args: Any, account: str | None = None, value: int = 0) -> Any:
        """What function ``name`` would return to ``account``, or to anybody. Raises TransactionFailed if it would revert."""
        returned = simulate(self.web3, self.call(name, *args, value=value), account)
        results = self.web3.codec.decode(_functions(self.NAME)[name].outputs, returned)
        return results[0] if len(results) == 1 else results

    def send(self, name: str, *args: Any, value: int = 0) -> TxReceipt:
        """The receipt of a transaction that calls function ``name``. Raises TransactionFailed if it reverts."""
        if self._sender is None:
            raise UsageError(f"{name} needs a key, and this {self.NAME} has none; give it a sender")
        return self._sender.send(self.call(name, *args, value=value))

    def _number(self, receipt: TxReceipt, event: str) -> int:
        """The number that ``event`` gives to what was opened: its first indexed argument."""
        topic = _topic(self.NAME, event)
        (log,) = (log for log in receipt["logs"] if log["address"] == self.address and log["topics"][0] == topic)
        return int.from_bytes(log["topics"][1], "big")


class Ledger(Contract):
    """What every contract has that holds money."""

    def credit(self, account: str) -> int:
        """What ``account`` can withdraw, in wei."""
        return int(self.simulate("credit", account))

    def withdraw(self) -> TxReceipt:
        """Have all that the sender is owed paid out."""
        return self.send("withdraw")


class TaskRegistry(Ledger):
    """The life of a job."""

    NAME = "TaskRegistry"

    def job(self, job: int) -> Job:
        """All there is to know of a job."""
        return build(Job, self.simulate("job", job))

    def segment(self, job: int, segment: int) -> Segment:
        """A posted segment."""
        return build(Segment, self.simulate("segment", job, segment))

    def job_count(self) -> int:
        """How many jobs there are; they are numbered from 1."""
        return int(self.simulate("job_count"))

    def burn_share(self) -> int:
        """The share of a slashed stake that is burnt, in basis points."""
        return int(self.simulate("burn_share"))

    def game(self) -> ChecksumAddress:
        """The address of the game contract."""
        return Web3.to_checksum_address(self.simulate("game"))

    def set_game(self, game: str) -> TxReceipt:
        """Name the game contract, once, as the deployer."""
        return self.send("set_game", game)

    def open_job(self, spec: JobSpec, terms: Terms, uri: str, bounty: int) -> int:
        """Offer a job; its number. ``uri`` says where program, data and initial state can be fetched."""
        return self._number(self.send("open_job", spec, terms, uri, value=bounty), "JobOpened")

    def cancel(self, job: int) -> TxReceipt:
        """Take back an open job."""
        return self.send("cancel", job)

    def claim(self, job: int, uri: str, stake: int) -> TxReceipt:
        """Become the trainer of an open job; ``uri`` is the data service."""
        return self.send("claim", job, uri, value=stake)

    def post_segment(
        self, job: int, history_root: bytes, start_proof: Sequence[bytes], end_state: bytes, end_proof: Sequence[bytes]
    ) -> TxReceipt:
        """Commit to the states of the next segment."""
        return self.send("post_segment", job, history_root, start_proof, end_state, end_proof)

    def finalise(self, job: int) -> TxReceipt:
        """Complete a job whose last window has passed."""
        return self.send("finalise", job)

    def expire(self, job: int) -> TxReceipt:
        """Slash the trainer of a job whose deadline has passed."""
        return self.send("expire", job)


class DisputeGame(Ledger):
    """One claim against one challenger, any number at once."""

    NAME = "DisputeGame"

    @cached_property
    def bond(self) -> int:
        """What a challenger stakes on a game, in wei."""
        return int(self.simulate("bond"))

    @cached_property
    def clocks(self) -> tuple[int, int]:
        """The budgets of trainer and challenger, in seconds."""
        return int(self.simulate("trainer_clock")), int(self.simulate("challenger_clock"))

    def registry(self) -> ChecksumAddress:
        """The address of the registry."""
        return Web3.to_checksum_address(self.simulate("registry"))

    def referee(self) -> ChecksumAddress:
        """The address of the referee."""
        return Web3.to_checksum_address(self.simulate("referee"))

    def game_count(self) -> int:
        """How many games there are; they are numbered from 1."""
        return int(self.simulate("game_count"))

    def game(self, game: int) -> GameView:
        """All there is to know of a game."""
        return build(GameView, self.simulate("game", game))

    def trace_root(self, job: int, segment: int, step: int) -> bytes:
        """The trace root that the trainer posted for a step; 32 zero bytes where there is none."""
        return bytes(self.simulate("trace_root", job, segment, step))

    def open_step(self, job: int, segment: int, opening: StepOpening) -> int:
        """Challenge one step; the number of the game."""
        return self._number(self.send("open_step", job, segment, *plain(opening), value=self.bond), "GameOpened")

    def open_blind(self, job: int, segment: int) -> int:
        """Challenge a segment whose states are not known; the number of the game."""
        return self._number(self.send("open_blind", job, segment, value=self.bond), "GameOpened")

    def show_step(self, game: int, opening: StepOpening) -> TxReceipt:
        """Point at one step of the segment."""
        return self.send("show_step", game, *plain(opening))

    def demand_trace(self, game: int) -> TxReceipt:
        """Start down the trace of the step."""
        return self.send("demand_trace", game)

    def demand_state(self, game: int) -> TxReceipt:
        """Start down the state after the step."""
        return self.send("demand_state", game)

    def demand_tensor(self, game: int, node: NodeProof, output: int, tensor_root: bytes, trace_proof: Sequence[bytes]) -> TxReceipt:
        """Start down one tensor of the trace."""
        return self.send("demand_tensor", game, node, output, tensor_root, trace_proof)

    def pick(self, game: int, node: bytes, child: int) -> TxReceipt:
        """Choose one of the revealed descendants of ``node``."""
        return self.send("pick", game, node, child)

    def post_trace(self, game: int, root: bytes) -> TxReceipt:
        """Answer with the trace root of the step."""
        return self.send("post_trace", game, root)

    def reveal(self, game: int, children: Sequence[bytes], siblings: Sequence[bytes]) -> TxReceipt:
        """Answer with the descendants of the node in question."""
        return self.send("reveal", game, children, siblings)

    def reveal_leaf(self, game: int, data: bytes, siblings: Sequence[bytes]) -> TxReceipt:
        """Answer with the bytes of the leaf in question."""
        return self.send("reveal_leaf", game, data, siblings)

    def conclude_boundary(self, game: int, witness: BoundaryWitness) -> TxReceipt:
        """Have an input or output node judged."""
        return self.send("conclude_boundary", game, *plain(witness))

    def conclude_element(self, game: int, witness: ElementWitness) -> TxReceipt:
        """Have one element of a map or gather node judged."""
        return self.send("conclude_element", game, *plain(witness))

    def conclude_run(self, game: int, witness: RunWitness) -> TxReceipt:
        """Have one element of a reduce, dot or scatter_add node judged."""
        return self.send("conclude_run", game, *plain(witness))

    def timeout(self, game: int) -> TxReceipt:
        """End a game whose mover has used up its clock."""
        return self.send("timeout", game)

    def reclaim(self, game: int) -> TxReceipt:
        """Take the bond back from a game whose job another game has ended."""
        return self.send("reclaim", game)


class Referee(Contract):
    """The judge, to be asked without a game: for dry runs and tests."""

    NAME = "Referee"

    def locate(self, step: StepRoots, node: NodeProof, output: int) -> tuple[int, int]:
        """The number in the trace and the size in bytes of a node's output."""
        tensor, size = self.simulate("locate", step, node, output)
        return tensor, size

    def judge_boundary(self, step: StepRoots, witness: BoundaryWitness) -> bool:
        """Whether the tensor at a boundary node is the one that it must be."""
        return bool(self.simulate("judge_boundary", step, *plain(witness)))

    def judge_element(self, step: StepRoots, witness: ElementWitness) -> tuple[int, int]:
        """The claimed and the correct element of a map or gather node, as registers."""
        claimed, correct = self.simulate("judge_element", step, *plain(witness))
        return claimed, correct

    def judge_run(self, step: StepRoots, witness: RunWitness) -> tuple[int, int]:
        """The claimed and the correct element of a reduce, dot or scatter_add node, as registers."""
        claimed, correct = self.simulate("judge_run", step, *plain(witness))
        return claimed, correct
