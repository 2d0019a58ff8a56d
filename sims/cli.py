"""The command line: ``refstep demo``, and the entry that puts all commands together."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from typing import Any, NoReturn

from rich.console import Console

from bisection.errors import RefstepError, UsageError

__all__ = ["main"]

INTERRUPTED = 130
GROUPS = {  # the first word of a command, and the module whose add_commands adds it
    "demo": __name__,
    "sims": "sims.sims_cli",
    "chain": "contracts.cli",
    "key": "contracts.cli",
    "job": "trainer.cli",
    "trainer": "trainer.cli",
    "doctor": "trainer.cli",
    "challenger": "challenger.cli",
}
CHEATS = ("weight", "moment", "gradient", "data-order", "skip-step", "learning-rate", "replay-old-checkpoint")  # sims.cheats.CHEATS


def _demo(arguments: Namespace) -> None:
    # These take seconds to import, and no other command needs them.
    import torch

    from sims import demo, digits
    from sims.show import Quiet, Terminal

    torch.set_num_threads(1)  # tensors this small only wait for each other on more

    if arguments.steps < 2:
        raise UsageError("--steps must be at least 2: one to train, one to cheat at")
    console = Console(stderr=arguments.json)
    show: demo.Show = Quiet() if arguments.json else Terminal(console)
    options = demo.Options(arguments.steps, arguments.seed, arguments.cheat)
    with console.status("compiling the contracts, capturing the model"):
        world = demo.World(show)
        _, captured = digits.job(options.seed)
        _, other = digits.job(options.seed, 1.5 * digits.LEARNING_RATE)
    outcomes = [demo.run(scenario, world, captured, other, options, show) for scenario in demo.SCENARIOS]
    if arguments.json:
        print(json.dumps({outcome.scenario: asdict(outcome) for outcome in outcomes}, indent=2))
    wrong = [outcome.scenario for outcome in outcomes if not demo.right(outcome)]
    if wrong:
        raise RefstepError(f"the verdict is wrong in: {', '.join(wrong)}")


def _add_demo(commands: Any) -> None:
    parser: ArgumentParser = commands.add_parser(
        "demo",
        help="train on a chain in this process: honestly, with one falsified number, and with that number hidden",
        description="A requester, a trainer and a challenger on a chain in this process. Exits 0 only if every verdict is right.",
    )
    parser.add_argument("--steps", type=int, default=200, help="steps of training (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of model, data order and cheat (default: 0)")
    parser.add_argument("--cheat", choices=CHEATS, default="weight", help="what is falsified (default: weight)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(start=_demo)


class OneLineParser(ArgumentParser):
    """Says what is wrong with a command line in one line, and where the rest can be read."""

    def error(self, message: str) -> NoReturn:
        """See ArgumentParser."""
        self.exit(UsageError.exit_code, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser(argv: Sequence[str]) -> ArgumentParser:
    """The commands of the group that is asked for, or all if none is: what the others import takes seconds."""
    parser = OneLineParser(prog="refstep", description="Train a model on a stranger's GPU and hold them to it.")
    parser.add_argument("--version", action="version", version=f"refstep {version('refstep')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    asked = GROUPS.get(argv[0]) if argv else None
    for module in dict.fromkeys(GROUPS.values()) if asked is None else [asked]:
        if module == __name__:
            _add_demo(commands)
        else:
            import_module(module).add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command. Expected failures end in one line on standard error and a numbered exit code (bisection/errors.py)."""
    # Before torch is imported: on a busy machine its idle threads would spin, at many times the cost of the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
    try:
        arguments.start(arguments)
    except RefstepError as error:
        print(f"refstep: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
