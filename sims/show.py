"""How the demo looks on a terminal: progress and loss, the dispute's descent, the verdict, who holds what in the end."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bisection.program import Program
from contracts.cli import format_ether
from sims.demo import Outcome
from trainer.runtime import Log

__all__ = ["Quiet", "Terminal"]

TITLES = {
    "honest": "1  An honest trainer is paid",
    "fraud": "2  One number is falsified, and the contract finds it",
    "withheld": "3  The same, and the trainer hides its history: it is bisected on chain",
}
SIDES = {"requester": "cyan", "trainer": "yellow", "challenger": "magenta"}
MOVES = {
    "open_job": "offers the job, with the bounty",
    "commit": "commits to what it does next, so that nobody can copy it",
    "claim": "claims it, with the stake",
    "post_segment": "commits to the state after every step",
    "open_step": "disputes the step after the last agreed state",
    "open_blind": "disputes the history, step not yet known",
    "show_step": "has found the step",
    "post_trace": "commits to every tensor of the step",
    "demand_trace": "demands the tree over the step's tensors",
    "demand_state": "demands the tree over the state's tensors",
    "demand_tensor": "has found the node, demands its tensor's tree",
    "reveal": "reveals up to 64 digests, or 256 bytes",
    "pick": "picks the first that is wrong",
    "refute": "shows that what was revealed is not what it picked",
    "conclude_element": "opens the element and its inputs: verdict",
    "conclude_run": "opens the element and its runs: verdict",
    "conclude_boundary": "opens the two roots that must be equal: verdict",
    "finalise": "is paid for the segment: nobody objected",
    "withdraw": "withdraws what it is owed",
}


class Quiet:
    """Nobody watches."""

    def begin(self, scenario: str, cheat: str, step: int | None) -> None:
        """See Show."""

    def log(self, side: str, program: Program) -> Log:
        """See Show."""
        return lambda event, **fields: None

    def sent(self, side: str, name: str, gas: int) -> None:
        """See Show."""

    def end(self, outcome: Outcome) -> None:
        """See Show."""


class Terminal:
    """A person watches."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._reset()

    def _reset(self) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<22}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TextColumn("steps   {task.fields[loss]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._moves = Table.grid(padding=(0, 2))
        self._moves.add_column(style="dim", justify="right")
        self._moves.add_column()
        self._moves.add_column()
        self._moves.add_column(justify="right")
        self._count = 0

    def begin(self, scenario: str, cheat: str, step: int | None) -> None:
        """See Show."""
        self._reset()
        self._console.print()
        self._console.rule(f"[bold]{TITLES[scenario]}", align="left")
        if step is not None:
            self._console.print(f"  [dim]the trainer cheats at step {step} (--cheat {cheat}); nobody else knows[/dim]")
        self._live = Live(Group(self._progress, self._moves), console=self._console, refresh_per_second=10)
        self._live.start()

    def log(self, side: str, program: Program) -> Log:
        """See Show."""
        label = {"trainer": "trainer trains", "challenger": "challenger replays"}[side]

        def heard(event: str, **fields: Any) -> None:
            if event == "step":
                self._advance(side, label, fields)
            elif event == "segment audited":
                honest = fields["verdict"] == "valid"
                what = "finds every step right, and stays silent" if honest else "finds another history than the committed one"
                self._row(side, what, None)
            elif event in ("UNVERIFIABLE", "job refused", "too late"):
                self._row(side, f"{event}: {fields.get('reason', '')}", None)

        return heard

    def _advance(self, side: str, label: str, fields: dict[str, Any]) -> None:
        if side not in self._tasks:
            self._tasks[side] = self._progress.add_task(f"[{SIDES[side]}]{label}[/]", total=fields["steps"], loss="")
        self._progress.update(self._tasks[side], completed=fields["step"], loss=f"loss {fields.get('loss', float('nan')):.4f}")

    def sent(self, side: str, name: str, gas: int) -> None:
        """See Show."""
        self._row(side, MOVES.get(name, name), gas)

    def _row(self, side: str, what: str, gas: int | None) -> None:
        self._count += gas is not None
        number, cost = ("", "") if gas is None else (str(self._count), f"{gas:,} gas")
        self._moves.add_row(number, f"[{SIDES[side]}]{side}[/]", what, cost)

    def end(self, outcome: Outcome) -> None:
        """See Show."""
        if self._live is not None:
            self._live.stop()
        self._console.print()
        self._console.print(Panel(Group(*_summary(outcome), _balances(outcome)), expand=False, border_style=_colour(outcome)))


def _colour(outcome: Outcome) -> str:
    return "green" if outcome.status == "Completed" else "red"


def _summary(outcome: Outcome) -> list[Text]:
    lines = [Text.from_markup(f"[bold {_colour(outcome)}]{outcome.status}[/]")]
    if outcome.accuracy is not None:
        lines.append(Text(f"{outcome.steps} steps, loss {outcome.loss:.4f}"))
        lines.append(Text(f"the delivered model reads {outcome.accuracy:.1%} of the test digits"))
    if outcome.step is not None:
        where = f"step {outcome.step}  →  node {outcome.node} ({outcome.node_kind}, {outcome.tensor})  →  element {outcome.indices}"
        lines.append(Text(where, style="bold"))
        lines.append(Text(f"claimed {outcome.claimed}, correct {outcome.correct}"))
        lines.append(
            Text(f"dispute: {outcome.transactions} transactions, {outcome.gas:,} gas, of which the verdict {outcome.verdict_gas:,}")
        )
    return lines


def _balances(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("before", "after", "change, gas included"):
        table.add_column(name, justify="right")
    for role, before in outcome.balances["before"].items():
        after = outcome.balances["after"][role]
        change = after - before
        sign = "+" if change >= 0 else "-"
        style = "green" if change > 0 else "red" if change < 0 else ""
        table.add_row(f"[{SIDES[role]}]{role}[/]", _ether(before), _ether(after), Text(f"{sign}{_ether(abs(change))}", style=style))
    return table


def _ether(amount: int) -> str:
    return f"{float(format_ether(amount)):,.4f} ETH"
