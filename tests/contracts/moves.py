"""Every move of a game in the right form, for those who may not make it."""

from __future__ import annotations

from contracts.values import plain
from tests.contracts.stage import (
    Actor,
    Stage,
    TrainerRun,
    boundary_witness,
    digest,
    element_witness,
    part_conclusion,
    refused,
    run_demand,
    run_witness,
)

RUN = TrainerRun()
OPENING, ROOTS = RUN.opening(0, 1), plain(RUN.roots(0, 1))
VERDICTS = ("refute", "conclude_boundary", "conclude_element", "conclude_run", "conclude_part")
"""Moves of the challenger that end a game."""


def challenger_moves(game: int) -> dict[str, tuple[object, ...]]:
    """Every move of the challenger, with arguments of the right form."""
    return {
        "show_step": (game, *plain(OPENING), False),
        "demand_trace": (game, ROOTS),
        "demand_state": (game, ROOTS),
        "demand_tensor": (game, ROOTS, element_witness().node, 0, digest("tensor"), ()),
        "demand_run": (game, ROOTS, *plain(run_demand())),
        "pick": (game, digest("seal"), 0),
        "refute": (game, digest("trail"), 0, digest("root"), bytes(64)),
        "conclude_boundary": (game, ROOTS, *plain(boundary_witness())),
        "conclude_element": (game, ROOTS, *plain(element_witness())),
        "conclude_run": (game, ROOTS, *plain(run_witness())),
        "conclude_part": (game, ROOTS, *plain(part_conclusion(digest("trail"), bytes(16), 0))),
    }


def trainer_moves(game: int) -> dict[str, tuple[object, ...]]:
    """Every move of the trainer, with arguments of the right form."""
    return {
        "post_trace": (game, digest("place"), digest("trace"), b""),
        "reveal": (game, digest("trail"), 0, bytes(64)),
    }


def all_refused(stage: Stage, actor: Actor, moves: dict[str, tuple[object, ...]], reason: str) -> None:
    for name, args in moves.items():
        with refused(reason):
            stage.game.simulate(name, *args, account=actor.address)
