"""The kinds of simulation on the real contracts, and their parameters. The contracts are only loaded when one is run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from sims.kinds import Kind
from sims.result import Outcome

__all__ = ["KINDS", "Design", "Dispute", "RandomDispute", "Scaled", "design", "dispute", "drawn", "random_dispute", "scaled"]

Program = Literal["counting", "dot", "reduce", "scatter_add", "long-dot", "digits"]
SMALL = tuple(name for name in get_args(Program) if name != "digits")  # those that run in no time
Lies = Literal[
    "none", "element", "map", "dot", "reduce", "gather", "scatter_add", "input", "moment", "state", "batch-order", "other-constant",
    "other-model", "skipped-step", "old-checkpoint", "nonsense",
]  # fmt: skip
Conducts = Literal[
    "defend", "fabricate", "silent", "falls-silent", "stall", "last-second", "garbage", "garbage-history", "garbage-trace",
    "garbage-tensor",
]  # fmt: skip
Services = Literal["all", "nothing", "history", "no-history", "no-trace", "no-tensors", "lies"]
Griefs = Literal["point", "wander", "silent", "stall"]
Friends = Literal["none", "hold", "convict"]
Censored = Literal["nobody", "watchers", "trainer"]
Order = Literal["bids", "attackers", "honest"]


def _is(default: Any, text: str, unit: str = "", least: float | None = None, most: float | None = None) -> Any:
    """A parameter: its default, what it means, its unit and its bounds."""
    bounds = {name: bound for name, bound in (("least", least), ("most", most)) if bound is not None}
    return field(default=default, metadata={"help": text, "unit": unit, **bounds})


@dataclass(frozen=True)
class Dispute:
    """One job: who takes part in it, how they behave, and what the contracts and the chain are like."""

    program: Program = field(
        default="counting",
        metadata={
            "help": "what is trained: a small program with every kind of node, one long run, or the demo's perceptron (digits)"
        },
    )
    size: int = _is(200, "elements of the largest tensor or of a run; digits has its own", "elements", 1, 100_000)
    steps: int = _is(8, "steps of the job", "steps", 1, 256)
    segment_steps: int = _is(4, "steps of a segment", "steps", 1, 256)
    lie: Lies = field(default="element", metadata={"help": "what of the run is wrong; none: the trainer is honest"})
    lie_step: int = _is(2, "the step at which it is wrong, counted from 0", "", 0)
    conduct: Conducts = field(default="defend", metadata={"help": "how the trainer plays games about its segments"})
    serves: Services = field(default="all", metadata={"help": "what its data service tells"})
    refuses: int = _is(0, "how many of the watchers it tells nothing", "watchers", 0, 100)
    watchers: int = _is(1, "honest watchers that replay everything", "watchers", 0, 100)
    replay_seconds: int = _is(60, "what a watcher needs to replay a segment", "s", 0)
    outage_seconds: int = _is(0, "for how long the first watcher is down, in the middle of it all, without memory", "s", 0)
    outage_after_seconds: int = _is(1_000, "when it goes down", "s", 0)
    mistaken: int = _is(0, "watchers whose numbers are of another version", "watchers", 0, 100)
    friend: Friends = field(
        default="none", metadata={"help": "the trainer's friend: holds the first rank at the lie, or convicts for the reward"}
    )
    copycats: int = _is(0, "who repeat what watchers send, and bid more", "accounts", 0, 100)
    sybils: int = _is(0, "accounts of one purse that challenge what is right", "accounts", 0, 200)
    grief: Griefs = field(default="point", metadata={"help": "how these play"})
    late: bool = _is(False, "whether they all open in the last blocks of the window")
    stake_wei: int = _is(2 * 10**18, "the trainer's stake", "wei", 1)
    bounty_wei: int = _is(10**18, "what the job pays", "wei", 1)
    bond_wei: int = _is(10**17, "a challenger's bond", "wei", 1)
    burn_share: int = _is(2_000, "of a slashed stake, burnt", "basis points", 0, 10_000)
    reward_share: int = _is(4_000, "of a slashed stake, the challenger's", "basis points", 0, 10_000)
    trainer_clock_seconds: int = _is(3_600, "the trainer's time in a game", "s", 1)
    challenger_clock_seconds: int = _is(3_600, "a challenger's time in a game", "s", 1)
    window_seconds: int = _is(5_000, "in which a segment can be challenged", "s", 1)
    period_seconds: int = _is(20_000, "in which the next segment is to be posted", "s", 1)
    block_seconds: int = _is(12, "between blocks", "s", 1, 600)
    gas_price_wei: int = _is(10**9, "what the honest bid for gas", "wei/gas", 0)
    order: Order = field(default="bids", metadata={"help": "what puts transactions first: what they bid, or whose they are"})
    censored: Censored = field(default="nobody", metadata={"help": "whose transactions block builders leave out"})
    censorship_seconds: int = _is(0, "for how long in all", "s", 0)
    slice_seconds: int = _is(0, "after how long one block lets them through; 0: never", "s", 0)
    reorgs: int = _is(0, "how often the last blocks are made anew, in another order", "", 0, 20)
    reorg_blocks: int = _is(2, "how many blocks each time", "blocks", 1, 8)

    def __post_init__(self) -> None:
        if self.segment_steps > self.steps:
            raise ValueError(f"segment_steps = {self.segment_steps}: the job has {self.steps} steps")
        if self.lie != "none" and self.lie_step >= self.steps:
            raise ValueError(f"lie_step = {self.lie_step}: the job has {self.steps} steps, counted from 0")


@dataclass(frozen=True)
class RandomDispute:
    """A dispute whose cast is drawn from the seed: any lie or none, any conduct, and at least one honest watcher."""

    liars: float = _is(0.6, "how many of the trainers lie", "", 0, 1)
    steps: int = _is(12, "the most steps of a job", "steps", 1, 64)
    sybils: int = _is(4, "the most accounts that challenge what is right", "accounts", 0, 50)
    censorship_seconds: int = _is(1_200, "the most seconds of censorship", "s", 0)
    reorgs: int = _is(2, "the most reorganisations", "", 0, 20)


# At random --------------------------------------------------------------------------------------------------------------


def drawn(p: RandomDispute, seed: int) -> Dispute:
    """The dispute that a seed stands for: everything in it is drawn, but the protocol's side is as it should be."""
    rng = np.random.default_rng(seed)
    kinds = get_type_hints(Dispute)

    def one_of(name: str) -> Any:
        return str(rng.choice(get_args(kinds[name])))

    def up_to(most: int) -> int:
        return int(rng.integers(most + 1))

    def sometimes(probability: float, value: Any, otherwise: Any) -> Any:
        return value if rng.random() < probability else otherwise

    program = sometimes(0.6, "counting", str(rng.choice(SMALL)))
    steps = 1 + up_to(p.steps - 1)
    lies = bool(rng.random() < p.liars)
    lie = str(rng.choice([lie for lie in get_args(Lies) if lie != "none"])) if lies else "none"
    watchers = 1 + up_to(2)
    censored = one_of("censored")
    return Dispute(
        program=program,
        size={"counting": 8 * (1 + up_to(80)), "long-dot": 1_025 + up_to(40_000)}.get(program, 1 + up_to(500)),
        steps=steps,
        segment_steps=max(1 + up_to(steps - 1), -(-steps // 4)),
        lie=lie,  # type: ignore[arg-type]
        lie_step=up_to(steps - 1),
        conduct=one_of("conduct") if lies else "defend",
        serves=one_of("serves"),
        refuses=up_to(1),
        watchers=watchers,
        replay_seconds=up_to(1_000),
        outage_seconds=sometimes(0.3, up_to(1_000), 0),
        outage_after_seconds=up_to(4_000),
        mistaken=sometimes(0.25, 1, 0),
        friend=one_of("friend") if lies else "none",
        copycats=sometimes(0.3, 1, 0),
        sybils=sometimes(0.4, up_to(p.sybils), 0),
        grief=one_of("grief"),
        order=one_of("order"),
        late=bool(rng.random() < 0.3),
        censored=censored,
        censorship_seconds=up_to(p.censorship_seconds),
        slice_seconds=sometimes(0.5, 60 + up_to(600), 0),
        reorgs=sometimes(0.4, up_to(p.reorgs), 0),
        reorg_blocks=1 + up_to(3),
    )


@dataclass(frozen=True)
class Scaled:
    """A dispute about one wrong element of a job of any size: its trees are known where it matters, all else is real."""

    steps: int = _is(1 << 10, "steps of the job, in one segment", "steps", 2, 1 << 32)
    nodes: int = _is(1 << 6, "nodes of the program, and tensors of a step", "nodes", 16, 1 << 16)
    elements: int = _is(1 << 16, "elements of the largest tensor: a power of two", "elements", 16, 1 << 32)
    run_length: int = _is(1 << 10, "products that are summed up to one element: a power of two", "products", 128, 1 << 24)
    products_per_second: float = _is(
        1e12, "how fast a watcher replays the segment; the window is that much longer", "1/s", 1e6, 1e18
    )
    withheld: bool = _is(False, "whether the trainer serves nothing, so that all is forced out on chain")
    gas_price_wei: int = _is(10**9, "what everybody bids for gas", "wei/gas", 0)
    block_seconds: int = _is(12, "between blocks", "s", 1, 600)

    def __post_init__(self) -> None:
        for name in ("elements", "run_length"):
            if (value := getattr(self, name)) & (value - 1):
                raise ValueError(f"{name} = {value} is no power of two")

    @property
    def replay_seconds(self) -> int:
        """What a watcher needs to replay the segment, rounded up."""
        return math.ceil(self.steps * self.elements * self.run_length / self.products_per_second)


@dataclass(frozen=True)
class Design(Scaled):
    """A dispute at a size, on contracts with another constant: they are compiled anew, which takes a minute the first time."""

    arity: int = _is(64, "descendants that a reveal shows: a power of two", "", 2, 128)
    leaf_bytes: int = _is(256, "bytes of a leaf of a tensor: a power of two", "bytes", 256, 4_096)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("arity", "leaf_bytes"):
            if (value := getattr(self, name)) & (value - 1):
                raise ValueError(f"{name} = {value} is no power of two")


# Runs -------------------------------------------------------------------------------------------------------------------


def dispute(p: Dispute, seed: int) -> Outcome:
    """Play one dispute. The seed says which number is falsified and what the hostile choose."""
    from sims.chain.casts import played

    return played(p, seed, moves=True)


def random_dispute(p: RandomDispute, seed: int) -> Outcome:
    """Play the dispute that a seed stands for, and tell what was drawn."""
    from sims.chain.casts import played

    d = drawn(p, seed)
    outcome = played(d, seed)
    told = {f"drawn_{f.name}": getattr(d, f.name) for f in fields(Dispute) if getattr(d, f.name) != f.default}
    return replace(outcome, metrics={**outcome.metrics, **told})


def scaled(p: Scaled, seed: int) -> Outcome:
    """Play a dispute at a size. The seed says by how much the element is wrong."""
    from sims.chain.casts import played_at_scale

    return played_at_scale(p, seed)


def design(p: Design, seed: int) -> Outcome:
    """Play a dispute at a size on contracts of another design."""
    from sims.chain.variants import played_in

    return played_in(p, seed)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("chain.dispute", "chain", Dispute, dispute, "One job on the real contracts, with a cast of any strategies."),
        Kind(
            "chain.random", "chain", RandomDispute, random_dispute, "One job on the real contracts, its cast drawn from the seed."
        ),
        Kind("chain.scale", "chain", Scaled, scaled, "One wrong element of a job of up to 2^32 elements and steps."),
        Kind("chain.design", "chain", Design, design, "The same under another arity and leaf size: the contracts compiled anew."),
    )
}
