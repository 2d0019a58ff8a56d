"""The moves of a dispute game, and what they teach everybody who follows the chain (docs/protocol.md, "Moves")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from bisection.witness import Leaf, NodeProof, Run, Witness

__all__ = [
    "ChallengerMove",
    "Conclude",
    "ConcludePart",
    "Demand",
    "DemandRun",
    "DemandTensor",
    "Demanded",
    "Move",
    "Pick",
    "PostTrace",
    "Refute",
    "Reveal",
    "Revealed",
    "Revelation",
    "RunDemanded",
    "ShowStep",
    "StepOpening",
    "Timeout",
    "TrainerMove",
    "TreeKind",
]


class TreeKind(IntEnum):
    """The trees that a challenger can have revealed; the last is the tree over the parts of a long run."""

    HISTORY = 0
    TRACE = 1
    STATE = 2
    TENSOR = 3
    RUN = 4


@dataclass(frozen=True, slots=True)
class StepOpening:
    """A step of the segment, with the history leaves before and after it and the proof of both (bisection.merkle.fold_range)."""

    step: int
    before: bytes
    after: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pick:
    """Challenger: descend into item ``child`` of what was revealed last, which ``seal`` names."""

    seal: bytes
    child: int


@dataclass(frozen=True, slots=True)
class ShowStep:
    """Challenger: this is the step. With ``descend`` the trainer owes the descendants of its trace root at once."""

    opening: StepOpening
    descend: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """Challenger: reveal the trace's or the state's tree."""

    tree: TreeKind


@dataclass(frozen=True, slots=True)
class DemandTensor:
    """Challenger: reveal the tree of output ``output`` of a node."""

    node: NodeProof
    output: int
    tensor_root: bytes
    trace_proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class DemandRun:
    """Challenger: reveal the partial results of element ``position`` of a node, whose run has several parts; ``claim`` opens it."""

    node: NodeProof
    position: int
    claim: Leaf


@dataclass(frozen=True, slots=True)
class Conclude:
    """Challenger: let the referee judge."""

    witness: Witness


@dataclass(frozen=True, slots=True)
class ConcludePart:
    """Challenger: let the referee judge item ``child`` of ``parts``, the partial results that were revealed after ``trail``."""

    node: NodeProof
    trail: bytes
    parts: bytes
    child: int
    inputs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Refute:
    """Challenger: ``below``, which was revealed last, is not what was picked of ``above``.

    ``trail`` and ``picked`` are what they were before ``above`` was revealed.
    """

    trail: bytes
    picked: int
    above: bytes
    below: bytes


@dataclass(frozen=True, slots=True)
class Reveal:
    """Trainer: this is what was picked (bisection/descent.py), after this trail."""

    trail: bytes
    picked: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class PostTrace:
    """Trainer: the root of the step's trace, and its descendants if they are owed at once."""

    root: bytes
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Anyone: the mover's clock is used up."""


ChallengerMove = Pick | ShowStep | Demand | DemandTensor | DemandRun | Refute | Conclude | ConcludePart
TrainerMove = Reveal | PostTrace
Move = ChallengerMove | TrainerMove | Timeout


@dataclass(frozen=True, slots=True)
class Demanded:
    """What the demand of a tree taught everybody: its root. Of a run that is the claimed element."""

    tree: TreeKind
    tensor: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Revealed:
    """What was revealed of the node at ``height`` and ``position`` of a tree. Nobody has checked it yet."""

    tree: TreeKind
    tensor: int
    height: int
    position: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class RunDemanded:
    """What the demand of a run taught everybody: the root of the disputed tensor and its path to the trace root.

    The leftmost wrong tensor's path is all that it takes to prove any tensor before it. So whoever takes the game over can conclude
    it, even if the trace itself came from a data service that is silent by then.
    """

    tensor: int
    root: bytes
    trace_proof: tuple[bytes, ...]


Revelation = Demanded | RunDemanded | Revealed
