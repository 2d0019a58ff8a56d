"""The nodes as an operator runs them: processes with keys, files and signals, on a real JSON-RPC node."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
from eth_account import Account
from web3 import Web3

from contracts.bindings import GameView, Phase, Tree
from contracts.client import connect, development_accounts, pass_time
from contracts.deploy import AddressBook, Deployment, attach
from contracts.jobs import JobStatus
from contracts.sender import Call, TransactionSender
from refstep import main
from tests.e2e.anvil import require_anvil, running_anvil
from tests.e2e.processes import Process, wait_until
from trainer.work import recording_folder

pytestmark = [pytest.mark.xdist_group("anvil"), pytest.mark.timeout(300)]

ETHER = 10**18
DAY = 24 * 60 * 60
STEPS, SEGMENT_LENGTH = 160, 100
DEPTH = 7  # of a segment's history, which takes two reveals
LIE = 67
BESIDE = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}  # for programs that lie among the tests
REQUESTER = ["--keystore", "requester.json", "--password-file", "password"]
JOB = """
import torch
import trainer

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
data = {"x": torch.randn(64, 8), "y": torch.randint(3, (64,))}


def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])


captured = trainer.capture(model, loss, optimizer, data, 16)
"""


@dataclass
class Town:
    """A chain with the contracts, people with funded keys, and a folder for all their files."""

    folder: Path
    url: str
    web3: Web3
    looking: Deployment
    addresses: dict[str, str]

    def on_chain(self, *arguments: str) -> str:
        """What a command on the contracts prints that ends well."""
        return refstep(self.folder, *arguments, "--rpc-url", self.url, "--contracts", "book.json")

    def job(self, name: str) -> list[str]:
        """The command that offers the job, with its material published under this name."""
        terms = ["--steps", str(STEPS), "--segment-length", str(SEGMENT_LENGTH), "--bounty", "1", "--stake", "2"]
        return ["job", "open", "job.py", *REQUESTER, *terms, "--publish", name]

    def node(self, role: str, *flags: str) -> Process:
        """A node, with a TOML file of which the environment overrides one half, and flags."""
        (self.folder / f"{role}.toml").write_text(
            f'rpc_url = "http://127.0.0.1:1"\ncontracts = "book.json"\nfolder = "{role}"\nkeystore = "{role}.json"\n'
            f'password_file = "password"\ncheckpoint_every = 20\npoll_seconds = 5\n'
        )
        environment = {"REFSTEP_RPC_URL": self.url, "REFSTEP_POLL_SECONDS": "0.2", "OMP_NUM_THREADS": "1"}
        return Process(self.folder / f"{role}.log", "refstep", role, "run", "--config", f"{role}.toml", *flags, **environment)

    def strange_job(self, like: int) -> int:
        """A job that only somebody else may claim; its number."""
        job, sender = self.looking.registry.job(like), TransactionSender(self.web3, development_accounts(1)[0], poll=0.02)
        registry = attach(self.web3, self.looking.book, sender).registry
        return registry.open_job(job.spec, replace(job.terms, trainer=sender.address), "published", ETHER)

    def recorded(self, name: str, job: int) -> int:
        """How many states a node's recording of a job holds."""
        history = recording_folder(self.folder / name, job, self.looking.registry.job(job)) / "history"
        return history.stat().st_size // 32 if history.exists() else 0

    def await_status(self, job: int, status: JobStatus) -> None:
        """Wait until a job has come so far."""
        wait_until(lambda: self.looking.registry.job(job).status == status, f"job {job} is {status.name}")

    def await_balance(self, role: str, least: int) -> None:
        """Wait until somebody has so much money."""
        wait_until(lambda: self.web3.eth.get_balance(self.addresses[role]) >= least, f"{role} has {least} wei")  # type: ignore[arg-type]


def refstep(folder: Path, *arguments: str) -> str:
    """What a command prints that ends well. It runs in this process: importing torch takes longer than all of its work."""
    with chdir(folder), redirect_stdout(StringIO()) as out:
        main(arguments)
    return out.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    require_anvil()
    folder = tmp_path_factory.mktemp("town")
    (folder / "password").write_text("correct horse battery staple\n")
    (folder / "job.py").write_text(JOB)
    with running_anvil() as url:
        printed = refstep(folder, "key", "new", *REQUESTER)
        addresses = {"requester": printed.split()[1]}
        for role in ("trainer", "dishonest", "challenger", "mistaken"):
            account = Account.create()
            # As weak as can be, so that the test does not spend its time on opening it.
            document = account.encrypt("correct horse battery staple", iterations=2)
            (folder / f"{role}.json").write_text(json.dumps(document))
            (folder / f"{role}.json").chmod(0o600)
            addresses[role] = account.address
        web3 = connect(url)
        bank = TransactionSender(web3, development_accounts(1)[0], poll=0.02)
        for role, address in addresses.items():
            bank.send(Call(f"fund {role}", Web3.to_checksum_address(address), b"", 10 * ETHER))
        clocks = ["--trainer-clock", "3600", "--challenger-clock", "3600"]
        deployed = refstep(folder, "chain", "deploy", "--rpc-url", url, "--contracts", "book.json", *REQUESTER, *clocks)
        book = AddressBook.load(folder / "book.json")
        assert book.registry in deployed
        yield Town(folder, url, web3, attach(web3, book), addresses)


def test_an_honest_job_is_completed_and_paid_though_its_trainer_is_killed(town: Town) -> None:
    damaged = int(town.on_chain(*town.job("damaged")).split()[1])
    blob = max(
        (path for path in (town.folder / "damaged" / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    blob.write_bytes(bytes(blob.stat().st_size))
    strange = town.strange_job(damaged)
    (town.folder / "requester.toml").write_text(f'rpc_url = "{town.url}"\ncontracts = "book.json"\nstake = 1\n')
    command = [sys.executable, "-P", "-m", "refstep", *town.job("published"), "--config", "requester.toml"]
    opened = subprocess.run(command, cwd=town.folder, capture_output=True, text=True, check=True).stdout
    job, port = int(opened.split()[1]), free_port()
    with town.node("challenger") as challenger:
        with town.node("trainer", "--listen", f"127.0.0.1:{port}") as trainer:
            wait_until(lambda: town.recorded("trainer", job) > 30, "training is under way")
            trainer.kill()
            assert town.looking.registry.job(job).posted < 2
        assert 30 < town.recorded("trainer", job) <= STEPS
        with town.node("trainer", "--listen", f"127.0.0.1:{port}") as trainer:
            town.await_status(job, JobStatus.VERIFICATION)
            for segment in range(2):
                # The challenger's own replay is what tells that the history is the one of an undisturbed run.
                challenger.await_event("segment audited", job=job, segment=segment, verdict="valid")
            pass_time(town.web3, DAY + 1)
            town.await_status(job, JobStatus.COMPLETED)
            town.await_balance("trainer", 11 * ETHER - ETHER // 20)
            assert "is damaged" in trainer.await_event("job refused", job=damaged)["reason"]
            assert "alone" in trainer.await_event("job refused", job=strange)["reason"]
            assert trainer.end() == 0
        assert challenger.end() == 0
    assert [town.looking.registry.job(refused).status for refused in (damaged, strange)] == [JobStatus.OPEN] * 2
    # Its material is not missed any more by a trainer that has trained on the same: nobody else shall meet it.
    town.on_chain("job", "cancel", str(damaged), *REQUESTER)
    assert any(line.split()[:2] == [str(job), "completed"] for line in town.on_chain("chain", "show").splitlines())
    assert f"http://127.0.0.1:{port}" in town.on_chain("chain", "show", str(job))
    progress = trainer.events("progress")
    assert len(progress) < 20 and progress[-1]["step"] == STEPS


def test_a_lie_is_convicted_though_its_challenger_is_killed(town: Town) -> None:
    job, game = int(town.on_chain(*town.job("published")).split()[1]), town.looking.game.game_count() + 1
    arguments = [town.url, "book.json", "dishonest.json", "password", "dishonest", f"127.0.0.1:{free_port()}", str(LIE)]
    with Process(town.folder / "dishonest.log", "tests.e2e.dishonest", *arguments, **BESIDE) as dishonest:
        with town.node("challenger") as challenger:
            wait_until(lambda: town.looking.game.game_count() == game, "a game is opened")
            wait_until(lambda: Tree.TRACE in town.looking.game.game(game).descended, "the game has come to the trace")
            challenger.kill()
        assert town.looking.game.game(game).phase.live
        with town.node("challenger") as challenger:
            town.await_status(job, JobStatus.SLASHED)
            challenger.await_event("withdrawn", contract="TaskRegistry", amount=2 * ETHER * 4 // 10)
            assert challenger.end() == 0
        assert dishonest.end() == 0
    assert town.looking.game.game_count() == game
    assert town.looking.game.game(game).step == LIE
    town.await_balance("challenger", 10 * ETHER + 2 * ETHER * 4 // 10 - ETHER // 20)
    assert f"game {game}" in town.on_chain("chain", "show", str(job))


def test_a_false_challenge_is_acquitted_though_both_sides_are_killed_in_mid_dispute(town: Town) -> None:
    """The trainer is down whenever it is its turn: what it has answered stands, and a new process goes on from there."""
    job, game = int(town.on_chain(*town.job("published")).split()[1]), town.looking.game.game_count() + 1
    before, port = town.web3.eth.get_balance(town.addresses["trainer"]), free_port()  # type: ignore[arg-type]
    arguments = [town.url, "book.json", "mistaken.json", "password", "mistaken", str(LIE)]

    def seen() -> GameView:
        return town.looking.game.game(game)

    def answers_until(reached: Callable[[], bool], what: str) -> None:
        with town.node("trainer", "--listen", f"127.0.0.1:{port}") as trainer:
            wait_until(reached, what)
            trainer.kill()

    answers_until(lambda: town.looking.registry.job(job).status == JobStatus.VERIFICATION, "all segments are posted")
    with Process(town.folder / "mistaken.log", "tests.e2e.mistaken", *arguments, **BESIDE) as challenger:
        wait_until(lambda: town.looking.game.game_count() == game, "a game is opened")
        assert seen().phase == Phase.CHILDREN, "it was opened blindly, while nobody served the history"
        challenger.kill()
    with Process(town.folder / "mistaken.log", "tests.e2e.mistaken", *arguments, **BESIDE):
        for reached, what in (
            (lambda: seen().phase == Phase.CHALLENGER or seen().descent.height < DEPTH, "the history's first half is revealed"),
            (lambda: seen().shown, "the rest of it is revealed, and the step shown"),
            (lambda: seen().trace_root != bytes(32), "the trace root is posted"),
        ):
            answers_until(reached, what)
            wait_until(lambda: seen().phase != Phase.CHALLENGER, "it is not the challenger's turn")
        with town.node("trainer", "--listen", f"127.0.0.1:{port}") as trainer:
            wait_until(lambda: seen().phase == Phase.ACQUITTED, "the trainer is acquitted")
            pass_time(town.web3, DAY + 1)
            town.await_status(job, JobStatus.COMPLETED)
            town.await_balance("trainer", before + ETHER + town.looking.game.bond - ETHER // 20)
            assert trainer.end() == 0
    assert (town.looking.game.game_count(), seen().step) == (game, LIE)
