"""``refstep job …`` and ``refstep trainer …``: offering jobs, looking at them, training them."""

from __future__ import annotations

import runpy
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisection.errors import RefstepError, UsageError
from bisection.program import NUMERICS_VERSION
from contracts.bindings import Job, JobSpec, JobStatus, Terms
from contracts.cli import attached, command, format_ether, wei
from contracts.index import Index
from contracts.settings import ChainSettings, KeySettings, setting

if TYPE_CHECKING:
    from trainer.capture import Captured

__all__ = ["NodeSettings", "add_commands", "host_and_port"]

DAY = 24 * 60 * 60


def host_and_port(text: str) -> tuple[str, int]:
    """The two halves of HOST:PORT. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"listen must be HOST:PORT, such as 127.0.0.1:8700, not {text!r}")
    return host, int(port)


# refstep job ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSettings(ChainSettings, KeySettings):
    """A job and its terms."""

    publish: str = setting("where to put program, data and initial state: a folder or an fsspec URL")
    uri: str | None = setting("where trainers find that; default: the same place", None)
    steps: int = setting("steps of training")
    segment_length: int | None = setting("steps of each posted segment; default: all", None)
    bounty: str = setting("what the trainer is paid, in ether")
    stake: str = setting("what the trainer must stake, in ether")
    training_period: int = setting("seconds from the claim to the last segment", DAY)
    challenge_window: int = setting("seconds from a segment to its finality", DAY)


def _captured(path: Path) -> Captured:
    """The variable ``captured`` that the requester's own Python file defines."""
    from trainer.capture import Captured

    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a Python file that sets `captured = trainer.capture(...)`")
    try:
        found = runpy.run_path(str(path)).get("captured")
    except RefstepError:
        raise
    except Exception as error:
        raise UsageError(f"{path} failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, Captured):
        raise UsageError(f"{path} does not set `captured = trainer.capture(...)`")
    return found


def _open(settings: OpenSettings, arguments: Namespace) -> None:
    from trainer.package import publish
    from trainer.store import Store

    bounty, stake = wei(settings.bounty, "bounty"), wei(settings.stake, "stake")
    deployment, _ = attached(settings, settings)
    captured = _captured(arguments.file)
    roots = publish(Store(settings.publish), captured.program, captured.state, captured.data)
    spec = JobSpec(
        program_root=roots.program_root,
        node_count=roots.node_count,
        tensor_count=roots.tensor_count,
        initial_state=roots.initial_state,
        state_count=roots.state_count,
        data_root=roots.data_root,
        data_count=roots.data_count,
        steps=settings.steps,
        segment_length=settings.segment_length or settings.steps,
        numerics_version=NUMERICS_VERSION,
    )
    uri = settings.uri or (settings.publish if "://" in settings.publish else str(Path(settings.publish).resolve()))
    job = deployment.registry.open_job(spec, Terms(stake, settings.training_period, settings.challenge_window), uri, bounty)
    print(f"job {job} is open: {settings.steps} steps for {settings.bounty} ETH, job hash {spec.job_hash.hex()}")


def _list(settings: ChainSettings, arguments: Namespace) -> None:
    deployment, _ = attached(settings)
    registry = deployment.registry
    print(f"{'job':>5}  {'status':<12} {'steps':>8} {'posted':>6} {'games':>5}  {'bounty':>8} {'stake':>8}  trainer")
    for number in range(1, registry.job_count() + 1):
        job = registry.job(number)
        claimed = job.trainer if job.status not in (JobStatus.OPEN, JobStatus.CANCELLED) else "-"
        print(
            f"{number:>5}  {job.status.name.lower():<12} {job.spec.steps:>8} {job.posted:>6} {job.live_games:>5}  "
            f"{format_ether(job.bounty):>8} {format_ether(job.terms.stake):>8}  {claimed}"
        )


def _show(settings: ChainSettings, arguments: Namespace) -> None:
    deployment, _ = attached(settings)
    registry = deployment.registry
    if not 1 <= arguments.job <= registry.job_count():
        raise UsageError(f"there is no job {arguments.job}; `refstep job list` shows all {registry.job_count()}")
    job: Job = registry.job(arguments.job)
    index = Index(registry.web3, deployment.book)
    index.update()
    rows: list[tuple[str, Any]] = [
        ("status", job.status.name.lower()),
        ("requester", job.requester),
        ("trainer", job.trainer),
        ("bounty", f"{format_ether(job.bounty)} ETH"),
        ("stake", f"{format_ether(job.terms.stake)} ETH"),
        ("deadline", job.deadline or "-"),
        ("challenge window", f"{job.terms.challenge_window} s"),
        ("live games", job.live_games),
        ("job hash", job.job_hash.hex()),
        ("program root", job.spec.program_root.hex()),
        ("data root", job.spec.data_root.hex()),
        ("initial state", job.spec.initial_state.hex()),
        ("last state", job.state.hex()),
        ("steps", f"{job.spec.steps} in segments of {job.spec.segment_length}"),
        ("numerics version", job.spec.numerics_version),
        ("material", index.job_uris.get(arguments.job, "-")),
        ("data service", index.service_uris.get(arguments.job, "-")),
    ]
    for name, value in rows:
        print(f"{name:<17} {value}")
    for number in range(job.posted):
        segment = registry.segment(arguments.job, number)
        span = f"steps {segment.first_step} to {segment.first_step + segment.steps}"
        print(f"segment {number:<9} {span}, window ends {segment.window_end}")
    for game in index.games[arguments.job]:
        view = deployment.game.game(game)
        print(f"game {game:<12} segment {view.segment}, {view.phase.name.lower()}, step {view.step if view.shown else '?'}")


# refstep trainer run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeSettings(ChainSettings, KeySettings):
    """What both nodes need."""

    folder: Path = setting("where the node keeps its store and recordings")
    poll_seconds: float = setting("how often to look at the chain", 2.0)
    confirmations: int = setting("how many blocks must hold a transaction", 1)
    device: str = setting("the torch device to run steps on", "cpu")
    checkpoint_every: int = setting("steps between checkpoints", 50)


@dataclass(frozen=True)
class TrainerSettings(NodeSettings):
    """A trainer node."""

    listen: str = setting("HOST:PORT of the data service", "127.0.0.1:8700")
    public_url: str | None = setting("the data service's address as challengers see it; default: http://LISTEN", None)
    min_bounty: str = setting("claim no job that pays less, in ether", "0")
    max_stake: str = setting("claim no job that asks for more, in ether", "10")
    max_jobs: int = setting("how many jobs at once", 1)


def _run(settings: TrainerSettings, arguments: Namespace) -> None:
    from trainer.node import TrainerNode, TrainerPolicy
    from trainer.runtime import console_log, run
    from trainer.service import Catalogue, ServiceThread, application
    from trainer.store import Store

    policy = TrainerPolicy(wei(settings.min_bounty, "min_bounty"), wei(settings.max_stake, "max_stake"), max_jobs=settings.max_jobs)
    host, port = host_and_port(settings.listen)
    deployment, sender = attached(settings, settings, confirmations=settings.confirmations)
    assert sender is not None
    log = console_log()
    catalogue = Catalogue(Store(settings.folder / "store"))
    with ServiceThread(application(catalogue), host, port) as url:
        node = TrainerNode(
            deployment,
            sender.address,
            settings.folder,
            settings.public_url or url,
            catalogue,
            policy=policy,
            device=settings.device,
            checkpoint_every=settings.checkpoint_every,
            log=log,
        )
        log("trainer started", account=sender.address, service=settings.public_url or url, chain=deployment.book.chain_id)
        run(node, settings.poll_seconds, log)


def add_commands(commands: Any) -> None:
    """Add ``job`` and ``trainer`` to the command line."""
    job = commands.add_parser("job", help="offer jobs and look at them").add_subparsers(required=True, metavar="COMMAND")
    opened = command(job, "open", "publish a captured model and offer its training", OpenSettings, _open)
    opened.add_argument("file", type=Path, help="a Python file that sets `captured = trainer.capture(...)`; it is run here")
    command(job, "list", "all jobs", ChainSettings, _list)
    shown = command(job, "show", "one job, its segments and games", ChainSettings, _show)
    shown.add_argument("job", type=int, help="its number")
    trainer = commands.add_parser("trainer", help="run a trainer node").add_subparsers(required=True, metavar="COMMAND")
    command(trainer, "run", "claim jobs, train them, serve and defend what was trained", TrainerSettings, _run)
