"""``refstep job …``, ``refstep trainer …`` and ``refstep doctor``: offering jobs, looking at them, training them; this machine."""

from __future__ import annotations

import runpy
import sys
import traceback
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisection.errors import RefstepError, UsageError
from contracts.bindings import Job, Terms
from contracts.cli import acting, command, format_ether, looking
from contracts.index import Index
from contracts.settings import ETHER, ChainSettings, KeySettings, Wei, setting

if TYPE_CHECKING:
    from trainer.capture import Captured

__all__ = ["JOURNAL", "NodeSettings", "add_commands", "require_device"]

DAY = 24 * 60 * 60
MOST_URI_BYTES = 256  # what the registry keeps of an address
JOURNAL = "journal.sqlite"  # in a node's folder
ANY_HOST = ("0.0.0.0", "::")


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UsageError(f"listen must be HOST:PORT, such as 127.0.0.1:8700, not {text!r}")
    return host.strip("[]"), int(port)


def _on_chain(name: str, uri: str) -> str:
    if len(uri.encode()) > MOST_URI_BYTES:
        raise UsageError(f"{name} has more than {MOST_URI_BYTES} bytes, which is all that the registry keeps; choose a shorter one")
    return uri


# refstep job ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSettings(ChainSettings, KeySettings):
    """A job and its terms."""

    publish: str = setting("where to put program, data and initial state: a folder or an fsspec URL")
    uri: str | None = setting("where trainers find that; default: the same place", None)
    steps: int = setting("steps of training", least=1)
    segment_length: int | None = setting("steps of each posted segment; default: all", None, least=1)
    bounty: Wei = setting("what the trainer is paid, in ether")
    stake: Wei = setting("what the trainer must stake, in ether", least=1)
    training_period: int = setting("seconds from the claim to the last segment", DAY, least=1)
    challenge_window: int = setting("seconds from a segment to its finality", DAY, least=1)


@dataclass(frozen=True)
class ServeSettings:
    """What to serve, and where."""

    publish: str = setting("the folder or fsspec URL that `refstep job open` published to")
    listen: str = setting("HOST:PORT to serve at", "127.0.0.1:8600")


def _captured(path: Path) -> Captured:
    """The variable ``captured`` that the requester's own Python file defines. It can import what lies beside it."""
    from trainer.capture import Captured

    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a Python file that sets `captured = trainer.capture(...)`")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        found = runpy.run_path(str(path)).get("captured")
    except RefstepError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f" in line {lines[-1]}" if lines else ""
        raise UsageError(f"{path} failed{place}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(found, Captured):
        raise UsageError(f"{path} does not set `captured = trainer.capture(...)`")
    return found


def _open(settings: OpenSettings, arguments: Namespace) -> None:
    from trainer.package import publish
    from trainer.store import Store

    segment_length = settings.segment_length or settings.steps
    if segment_length > settings.steps:
        raise UsageError(f"a segment_length of {segment_length} is more than the {settings.steps} steps of the whole job")
    remote = "://" in settings.publish
    place = settings.publish if remote else str(Path(settings.publish).expanduser().resolve())
    uri = _on_chain("uri", settings.uri or place)
    deployment, _ = acting(settings, settings)
    captured = _captured(arguments.file)
    roots = publish(Store(place), captured.program, captured.state, captured.data)
    spec = roots.spec(settings.steps, segment_length)
    terms = Terms(settings.stake, settings.training_period, settings.challenge_window)
    job = deployment.registry.open_job(spec, terms, uri, settings.bounty)
    print(f"job {job} is open: {settings.steps} steps for {format_ether(settings.bounty)} ETH, job hash {spec.job_hash.hex()}")


def _serve(settings: ServeSettings, arguments: Namespace) -> None:
    from trainer.runtime import stop_signals
    from trainer.service import Catalogue, ServiceThread, application
    from trainer.store import Store

    app = application(Catalogue(Store(settings.publish)))
    with stop_signals() as stop, ServiceThread(app, *_host_and_port(settings.listen)) as url:
        print(f"{settings.publish} is served at {url}", flush=True)
        stop.wait()


def _list(settings: ChainSettings, arguments: Namespace) -> None:
    registry = looking(settings).registry
    print(f"{'job':>5}  {'status':<12} {'steps':>8} {'posted':>6} {'games':>5}  {'bounty':>8} {'stake':>8}  trainer")
    for number in range(1, registry.job_count() + 1):
        job = registry.job(number)
        claimed = job.trainer if job.deadline else "-"
        print(
            f"{number:>5}  {job.status.name.lower():<12} {job.spec.steps:>8} {job.posted:>6} {job.live_games:>5}  "
            f"{format_ether(job.bounty):>8} {format_ether(job.terms.stake):>8}  {claimed}"
        )


def _show(settings: ChainSettings, arguments: Namespace) -> None:
    deployment = looking(settings)
    registry = deployment.registry
    if not 1 <= arguments.job <= registry.job_count():
        raise UsageError(f"there is no job {arguments.job}; `refstep job list` shows all {registry.job_count()}")
    job: Job = registry.job(arguments.job)
    index = Index(registry.web3, deployment.book)
    index.update()
    rows: list[tuple[str, Any]] = [
        ("status", job.status.name.lower()),
        ("requester", job.requester),
        ("trainer", job.trainer if job.deadline else "-"),
        ("bounty", f"{format_ether(job.bounty)} ETH"),
        ("stake", f"{format_ether(job.terms.stake)} ETH"),
        ("deadline", _moment(job.deadline) if job.deadline else "-"),
        ("challenge window", f"{job.terms.challenge_window} s"),
        ("live games", job.live_games),
        ("job hash", job.job_hash.hex()),
        ("program root", job.spec.program_root.hex()),
        ("data root", job.spec.data_root.hex()),
        ("initial state", job.spec.initial_state.hex()),
        ("last state", job.state.hex()),
        ("steps", f"{job.spec.steps} in segments of {job.spec.segment_length}"),
        ("numerics version", job.spec.numerics_version),
        ("material", _harmless(index.job_uris.get(arguments.job, "-"))),
        ("data service", _harmless(index.service_uris.get(arguments.job, "-"))),
    ]
    for name, value in rows:
        print(f"{name:<17} {value}")
    for number in range(job.posted):
        segment = registry.segment(arguments.job, number)
        span = f"steps {segment.first_step} to {segment.first_step + segment.steps}"
        print(f"segment {number:<9} {span}, window ends {_moment(segment.window_end)}")
    for game in index.games[arguments.job]:
        view = deployment.game.game(game)
        print(f"game {game:<12} segment {view.segment}, {view.phase.name.lower()}, step {view.step if view.shown else '?'}")


def _moment(timestamp: int) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _harmless(text: str) -> str:
    """A stranger's text, without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


# refstep trainer run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeSettings(ChainSettings):
    """What both nodes need."""

    folder: Path = setting("where the node keeps its store and recordings")
    poll_seconds: float = setting("how often to look at the chain, in seconds", 2.0, least=0.1)
    confirmations: int = setting("how many blocks must hold a transaction", 1, least=1)
    device: str = setting("the torch device to run steps on", "cpu")
    checkpoint_every: int = setting("steps between checkpoints", 50, least=1)
    keep_checkpoints: int = setting("how many checkpoints stay, besides the newest two", 32, least=1)


@dataclass(frozen=True)
class TrainerSettings(NodeSettings, KeySettings):
    """A trainer node."""

    listen: str = setting("HOST:PORT of the data service", "127.0.0.1:8700")
    public_url: str | None = setting("the data service's address as challengers see it; default: http://LISTEN", None)
    min_bounty: Wei = setting("claim no job that pays less, in ether", Wei(0))
    max_stake: Wei = setting("claim no job that asks for more, in ether", Wei(10 * ETHER))
    max_steps: int = setting("claim no job that has more steps", 1_000_000, least=1)
    max_jobs: int = setting("how many jobs, and so stakes, at once", 1, least=1)


def require_device(device: str) -> None:
    """Raises UsageError for a torch device that is not there."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None


def _run(settings: TrainerSettings, arguments: Namespace) -> None:
    from contracts.journal import Journal
    from trainer.fetch import HttpSource
    from trainer.files import KnownRoots
    from trainer.folder import node_folder
    from trainer.node import TrainerNode, TrainerPolicy
    from trainer.runtime import await_earlier_transactions, node_log, run, stop_signals
    from trainer.service import Catalogue, ServiceThread, application
    from trainer.store import Store

    host, port = _host_and_port(settings.listen)
    if settings.public_url is not None:
        HttpSource(_on_chain("public_url", settings.public_url))
    elif host in ANY_HOST:
        raise UsageError(f"public_url must be set where listen is {settings.listen}: challengers have to know which address to use")
    require_device(settings.device)
    deployment, sender = acting(settings, settings, settings.confirmations)
    with stop_signals() as stop, node_folder(settings.folder, "trainer", deployment.book) as folder:
        catalogue = Catalogue(Store(folder / "store", KnownRoots(folder / "verified.json")))
        with Journal(folder / JOURNAL) as sender.journal, ServiceThread(application(catalogue), host, port) as url:
            log, uri = node_log(), settings.public_url or url
            node = TrainerNode(
                deployment,
                sender.address,
                folder,
                uri,
                catalogue,
                policy=TrainerPolicy(settings.min_bounty, settings.max_stake, settings.max_steps, settings.max_jobs),
                device=settings.device,
                checkpoint_every=settings.checkpoint_every,
                keep_checkpoints=settings.keep_checkpoints,
                log=log,
            )
            log("trainer started", account=sender.address, service=uri, chain=deployment.book.chain_id)
            sender.recover()
            await_earlier_transactions(sender, settings.poll_seconds, log, stop)
            run(node, settings.poll_seconds, log, stop)


def _doctor(arguments: Namespace) -> None:
    from trainer import doctor

    if arguments.operators:
        doctor.show_operators()
    else:
        doctor.show(arguments.json)


def add_commands(commands: Any) -> None:
    """Add ``job``, ``trainer`` and ``doctor`` to the command line."""
    job = commands.add_parser("job", help="offer jobs and look at them").add_subparsers(required=True, metavar="COMMAND")
    opened = command(job, "open", "publish a captured model and offer its training", OpenSettings, _open)
    opened.add_argument("file", type=Path, help="a Python file that sets `captured = trainer.capture(...)`; it is run here")
    command(job, "serve", "serve what was published, so that trainers elsewhere can fetch it", ServeSettings, _serve)
    command(job, "list", "all jobs", ChainSettings, _list)
    shown = command(job, "show", "one job, its segments and games", ChainSettings, _show)
    shown.add_argument("job", type=int, help="its number")
    trainer = commands.add_parser("trainer", help="run a trainer node").add_subparsers(required=True, metavar="COMMAND")
    command(trainer, "run", "claim jobs, train them, serve and defend what was trained", TrainerSettings, _run)
    says = "what this machine trains with and why, and whether it computes rightly"
    doctor = commands.add_parser("doctor", help=says, description=f"Shows {says}. Exits 0 only if it does.")
    shown = doctor.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object instead")
    shown.add_argument("--operators", action="store_true", help="list the supported operators and functions instead")
    doctor.set_defaults(start=_doctor)
