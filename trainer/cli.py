"""``refstep job …``, ``refstep trainer …`` and ``refstep doctor``: offering jobs, training them; this machine."""

from __future__ import annotations

import runpy
import sys
import traceback
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from eth_typing import ChecksumAddress
from web3 import Web3

from bisection.errors import RefstepError, UsageError
from contracts.cli import acting, command, format_ether
from contracts.jobs import NOBODY, Terms
from contracts.settings import ETHER, ChainSettings, KeySettings, Wei, setting
from contracts.token import Token
from contracts.words import moment

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
    bounty: Wei = setting("what the trainer is paid, in ether or whole tokens")
    stake: Wei = setting("what the trainer must stake, in ether or whole tokens", least=1)
    token: str | None = setting("the ERC-20 token of bounty and stake; default: ether", None)
    trainer: str | None = setting("the only address that may claim the job; default: anybody", None)
    attempts: int = setting("how many trainers may try, one after the other", 1, least=1)
    segment_period: int = setting("seconds from the claim, or from a segment, to the next segment", DAY, least=1)
    challenge_window: int = setting("seconds from a segment to its finality", DAY, least=1)
    retained_share: int = setting("basis points of the bounty that are paid only after the delivery period", 0, least=0)
    delivery_period: int = setting("seconds after completion in which leaves of the result can be demanded", 0, least=0)
    parent: int = setting("the completed job whose result this one starts from; 0: none", 0, least=0)


@dataclass(frozen=True)
class ActSettings(ChainSettings, KeySettings):
    """Who acts, and where."""


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
    named = {name: _address(name, getattr(settings, name)) for name in ("token", "trainer")}
    if (settings.retained_share == 0) != (settings.delivery_period == 0):
        raise UsageError("retained_share and delivery_period go together: set both, or none")
    deployment, sender = acting(settings, settings)
    web3, book = deployment.registry.web3, deployment.book
    token = None if settings.token is None else Token(web3, named["token"], sender)
    bounty, stake = (amount if token is None else token.units(amount) for amount in (settings.bounty, settings.stake))
    captured = _captured(arguments.file)
    roots = publish(Store(place), captured.program, captured.state, captured.data)
    spec = roots.spec(settings.steps, segment_length)
    terms = Terms(
        **named,
        stake=stake,
        game=cast(ChecksumAddress, book.game),
        attempts=settings.attempts,
        segment_period=settings.segment_period,
        challenge_window=settings.challenge_window,
        retained_share=settings.retained_share,
        delivery_period=settings.delivery_period,
    )
    if token is not None:
        token.allow(sender.address, book.registry, bounty)
    job = deployment.registry.open_job(spec, terms, uri, bounty, settings.parent)
    unit = "ETH" if token is None else f"of the token {token.address}"
    print(f"job {job} is open: {settings.steps} steps for {format_ether(settings.bounty)} {unit}, job hash {spec.job_hash.hex()}")


def _address(name: str, text: str | None) -> ChecksumAddress:
    if text is None:
        return NOBODY
    if not Web3.is_address(text):
        raise UsageError(f"{name} must be an address (0x and 40 hexadecimal digits), not {text!r}")
    return Web3.to_checksum_address(text)


def _cancel(settings: ActSettings, arguments: Namespace) -> None:
    acting(settings, settings)[0].registry.cancel(arguments.job)
    print(f"job {arguments.job} is cancelled; `refstep chain withdraw` pays the rest of its bounty")


def _expire(settings: ActSettings, arguments: Namespace) -> None:
    acting(settings, settings)[0].registry.expire(arguments.job)
    print(f"the trainer of job {arguments.job} has missed its deadline, and lost its stake")


def _demand(settings: ActSettings, arguments: Namespace) -> None:
    delivery = acting(settings, settings)[0].delivery
    number = delivery.demand(arguments.job, arguments.component)
    answer_by = moment(delivery.demand_of(number).answer_by)
    print(f"demand {number}: a leaf of component {arguments.component} must be shown until {answer_by}")


def _give_up(settings: ActSettings, arguments: Namespace) -> None:
    acting(settings, settings)[0].delivery.give_up(arguments.demand)
    print(f"demand {arguments.demand} was not answered: what was retained goes back to the requester, the bond to whoever demanded")


def _serve(settings: ServeSettings, arguments: Namespace) -> None:
    from trainer.runtime import stop_signals
    from trainer.service import Catalogue, ServiceThread, application
    from trainer.store import Store

    app = application(Catalogue(Store(settings.publish)))
    with stop_signals() as stop, ServiceThread(app, *_host_and_port(settings.listen)) as url:
        print(f"{settings.publish} is served at {url}", flush=True)
        stop.wait()


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
    tokens: str | None = setting("claim jobs in these ERC-20 tokens too: addresses separated by commas", None)


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
    tokens = frozenset(_address("tokens", text.strip()) for text in (settings.tokens or "").split(",") if text.strip())
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
                policy=TrainerPolicy(settings.min_bounty, settings.max_stake, settings.max_steps, settings.max_jobs, tokens),
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
    job = commands.add_parser("job", help="offer and end jobs, demand results").add_subparsers(required=True, metavar="COMMAND")
    opened = command(job, "open", "publish a captured model and offer its training", OpenSettings, _open)
    opened.add_argument("file", type=Path, help="a Python file that sets `captured = trainer.capture(...)`; it is run here")
    command(job, "serve", "serve what was published, so that trainers elsewhere can fetch it", ServeSettings, _serve)
    ended = command(job, "cancel", "take back what is left of the bounty of a job that nobody works on", ActSettings, _cancel)
    ended.add_argument("job", type=int, help="its number")
    late = command(job, "expire", "end an attempt whose deadline has passed", ActSettings, _expire)
    late.add_argument("job", type=int, help="its number")
    asked = command(job, "demand", "demand a random leaf of a completed job's result, against a bond", ActSettings, _demand)
    asked.add_argument("job", type=int, help="its number")
    asked.add_argument("component", type=int, help="which tensor of the state, counted from 0")
    unanswered = command(job, "give-up", "note that a demanded leaf was not shown in time", ActSettings, _give_up)
    unanswered.add_argument("demand", type=int, help="the number of the demand")
    trainer = commands.add_parser("trainer", help="run a trainer node").add_subparsers(required=True, metavar="COMMAND")
    command(trainer, "run", "claim jobs, train them, serve and defend what was trained", TrainerSettings, _run)
    says = "what this machine trains with and why, and whether it computes rightly"
    doctor = commands.add_parser("doctor", help=says, description=f"Shows {says}. Exits 0 only if it does.")
    shown = doctor.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object instead")
    shown.add_argument("--operators", action="store_true", help="list the supported operators and functions instead")
    doctor.set_defaults(start=_doctor)
