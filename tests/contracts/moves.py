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

OPENING = TrainerRun().opening(0, 1)


def challenger_moves(game: int) -> dict[str, tuple[object, ...]]:
    """Every move of the challenger, with arguments of the right form."""
    return {
        "show_step": (game, *plain(OPENING), False),
        "demand_trace": (game,),
        "demand_state": (game,),
        "demand_tensor": (game, element_witness().node, 0, digest("tensor"), ()),
        "demand_run": (game, *plain(run_demand())),
        "pick": (game, digest("node"), 0),
        "conclude_boundary": (game, *plain(boundary_witness())),
        "conclude_element": (game, *plain(element_witness())),
        "conclude_run": (game, *plain(run_witness())),
        "conclude_part": (game, *plain(part_conclusion(0, (1, 2)))),
    }


def trainer_moves(game: int) -> dict[str, tuple[object, ...]]:
    """Every move of the trainer, with arguments of the right form."""
    return {
        "post_trace": (game, digest("place"), digest("trace")),
        "reveal": (game, [digest("child")], []),
        "reveal_leaf": (game, b"leaf", []),
        "reveal_parts": (game, digest("place"), [1], []),
    }


def all_refused(stage: Stage, actor: Actor, moves: dict[str, tuple[object, ...]], reason: str) -> None:
    for name, args in moves.items():
        with refused(reason):
            stage.game.simulate(name, *args, account=actor.address)
