"""The command line: what it shows, and that whatever is wrong ends in one clear line and a number, with nothing lost or sent."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from eth_account import Account

from bisection.errors import (
    ChainMismatch,
    KeyfileError,
    RefstepError,
    UnavailableError,
    UnsupportedOperator,
    UsageError,
)
from contracts.deploy import AddressBook
from refstep import main
from tests.support.market import Market
from tests.support.rpc import chain_answers, http_server
from trainer.cli import _captured
from trainer.folder import node_folder

NOWHERE = "http://127.0.0.1:1"
CAPTURED = """
import torch
import trainer

model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = {"x": torch.ones(8, 3), "y": torch.zeros(8, 2)}


def loss(model, batch):
    return ((LOSS) ** 2).mean()


captured = trainer.capture(model, loss, optimizer, data, 4)
"""


@dataclass
class Office:
    """A chain with the contracts, reached over HTTP, and a folder with an address book, a key and a password."""

    market: Market
    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return self.path(name)

    def book(self, name: str, book: AddressBook) -> str:
        return self.write(name, json.dumps(asdict(book)))

    @property
    def chain(self) -> list[str]:
        """The flags of a command that looks."""
        return ["--rpc-url", self.url, "--contracts", self.path("book.json")]

    @property
    def key(self) -> list[str]:
        """The flags of a key."""
        return ["--keystore", self.path("key.json"), "--password-file", self.path("password")]

    @property
    def acting(self) -> list[str]:
        """The flags of a command that acts."""
        return [*self.chain, *self.key]

    @property
    def opening(self) -> list[str]:
        """The flags of a job that would be good."""
        terms = ["--steps", "4", "--bounty", "1", "--stake", "1"]
        return ["job", "open", self.path("job.py"), *self.acting, *terms, "--publish", self.path("published")]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    market, folder, asked = Market(), tmp_path_factory.mktemp("office"), list[str]()
    with http_server(chain_answers(market.chain.provider, asked)) as url:
        office = Office(market, url, folder, asked)
        office.book("book.json", market.book)
        office.write("password", "secret\n")
        key = Account.encrypt(b"\x11" * 32, "secret", iterations=2)  # as weak as can be: opening it takes no time
        office.write("key.json", json.dumps(key))
        (folder / "key.json").chmod(0o600)
        office.write("job.py", CAPTURED.replace("LOSS", 'model(batch["x"]) - batch["y"]'))
        yield office


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REFSTEP_CONFIG", "REFSTEP_RPC_URL", "REFSTEP_CONTRACTS"):
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], office: Office, arguments: list[str], error: type[RefstepError]) -> str:
    """The one line in which a command ends that must fail, with this error's number and nothing sent."""
    office.asked.clear()
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    assert end.value.code == error.exit_code, err
    assert err.startswith("refstep: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert out == ""
    assert not {"eth_sendRawTransaction", "eth_estimateGas"} & set(office.asked)
    return err


# What it shows ----------------------------------------------------------------------------------------------------------


def test_settings_are_printed_and_can_be_read_back(capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path) -> None:
    main(["trainer", "run", *office.acting, "--max-stake", "2.5", "--print-config"])
    printed = capsys.readouterr().out
    assert 'max_stake = "2.5"  # --max-stake' in printed
    assert "# folder must be set" in printed
    assert "secret" not in printed
    (tmp_path / "it.toml").write_text(printed + '\nfolder = "here"\n')
    main(["trainer", "run", "--config", "it.toml", "--print-config"])
    assert 'folder = "here"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [[], ["key", "new"], ["chain", "deploy"], ["chain", "show"], ["chain", "watch"], ["chain", "pause"], ["chain", "unpause"],
     ["chain", "transfer-ownership"], ["chain", "accept-ownership"], ["chain", "withdraw"], ["chain", "approve"], ["chain", "burn"],
     ["job", "open"], ["job", "serve"], ["job", "cancel"], ["job", "expire"], ["job", "demand"],
     ["job", "give-up"],
     ["trainer", "run"], ["challenger", "run"]],
)  # fmt: skip
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: refstep" in capsys.readouterr().out


def test_a_key_is_made_for_its_owner_alone_and_never_twice(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path
) -> None:
    flags = ["--keystore", "new.json", "--password-file", office.path("password")]
    main(["key", "new", *flags])
    assert capsys.readouterr().out.startswith("address 0x")
    assert (tmp_path / "new.json").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "new.json").read_bytes()
    assert "never overwritten" in refused(capsys, office, ["key", "new", *flags], KeyfileError)
    assert (tmp_path / "new.json").read_bytes() == before


# Chains and contracts ---------------------------------------------------------------------------------------------------


def test_another_chain_is_refused(capsys: pytest.CaptureFixture[str], office: Office) -> None:
    line = refused(capsys, office, ["chain", "show", *office.chain, "--chain-id", "1"], ChainMismatch)
    assert "chain 31337, not on chain 1" in line
    book = office.book("elsewhere.json", replace(office.market.book, chain_id=5))
    line = refused(capsys, office, ["chain", "show", "--rpc-url", office.url, "--contracts", book], ChainMismatch)
    assert "not on chain 5" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"registry": "0x" + 40 * "9"}, "no contract at"),
        ({"registry": "game", "game": "registry"}, "joined otherwise"),
        ({"registry": "referee"}, "joined otherwise"),
        ({"block": 0, "parameters": {"bond": 7}}, "joined otherwise"),
    ],
)
def test_another_deployments_address_book_is_refused(
    capsys: pytest.CaptureFixture[str], office: Office, changes: dict[str, object], words: str
) -> None:
    book = asdict(office.market.book)
    for name, value in changes.items():
        if isinstance(value, dict):
            book[name] |= value
        else:
            book[name] = asdict(office.market.book).get(str(value), value)
    path = office.write("foreign.json", json.dumps(book))
    assert words in refused(capsys, office, ["chain", "show", "--rpc-url", office.url, "--contracts", path], ChainMismatch)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("{", "no address book"), ("[]", "no address book"), ('{"chain_id": 1}', "no address book")],
)
def test_what_is_no_address_book_is_refused(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "some.json").write_text(text)
    assert words in refused(capsys, office, ["chain", "show", "--rpc-url", office.url, "--contracts", "some.json"], UsageError)


def test_a_book_with_a_mangled_address_is_refused(capsys: pytest.CaptureFixture[str], office: Office) -> None:
    book = office.book("mangled.json", replace(office.market.book, game="0x123"))
    assert "in place of an address" in refused(capsys, office, ["chain", "show", "--contracts", book], UsageError)


@pytest.mark.parametrize("url", [NOWHERE, "localhost:8545", "ws://127.0.0.1:1", "http://", "nonsense"])
def test_an_unreachable_node_is_said_to_be_one(capsys: pytest.CaptureFixture[str], office: Office, url: str) -> None:
    refused(capsys, office, ["chain", "show", *office.chain, "--rpc-url", url], UnavailableError)


def test_a_url_with_a_token_is_not_repeated(capsys: pytest.CaptureFixture[str], office: Office) -> None:
    line = refused(capsys, office, ["chain", "show", *office.chain, "--rpc-url", "http://127.0.0.1:1/v3/t0ken"], UnavailableError)
    assert "t0ken" not in line


@pytest.mark.parametrize(
    "body",
    [b"<html>hello</html>", b"", b"{}", b"[]", b"5", b'{"hello": 1}', b'{"jsonrpc": "2.0", "id": 0, "result": "soon"}',
     b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32601, "message": "what?"}}'],
)  # fmt: skip
def test_a_server_that_is_no_ethereum_node_is_said_to_be_none(
    capsys: pytest.CaptureFixture[str], office: Office, body: bytes
) -> None:
    with http_server(lambda request: body) as url:
        refused(capsys, office, ["chain", "show", *office.chain, "--rpc-url", url], UnavailableError)


def test_a_node_that_refuses_later_requests_ends_in_one_line_too(
    capsys: pytest.CaptureFixture[str], office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contracts.client.time.sleep", lambda seconds: None)
    honest, limited = (
        chain_answers(office.market.chain.provider, []),
        b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32005, "message": "limit"}}',
    )
    with http_server(lambda request: honest(request) if request["method"] == "eth_chainId" else limited) as url:
        assert "limit" in refused(capsys, office, ["chain", "show", *office.chain, "--rpc-url", url], UnavailableError)


def test_a_job_that_does_not_exist(capsys: pytest.CaptureFixture[str], office: Office) -> None:
    assert "there is no job 99" in refused(capsys, office, ["chain", "show", "99", *office.chain], UsageError)


# Keys -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "password", "words"),
    [
        (None, "secret", "key.json cannot be read"),
        ("good", None, "password cannot be read"),
        ("good", "wrong", "does not open"),
        ("good", "", "is empty"),
        ("open", "secret", "chmod 600"),
        ("0x" + 64 * "1", "secret", "not an encrypted key file"),
        ("{}", "secret", "not an encrypted key file"),
    ],
)
def test_a_key_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path, key: str | None, password: str | None, words: str
) -> None:
    if key is not None:
        (tmp_path / "key.json").write_text((office.folder / "key.json").read_text() if key in ("good", "open") else key)
        (tmp_path / "key.json").chmod(0o644 if key == "open" else 0o600)
    if password is not None:
        (tmp_path / "password").write_text(password)
    flags = ["--keystore", "key.json", "--password-file", "password", "--folder", "node"]
    line = refused(capsys, office, ["trainer", "run", *office.chain, *flags], KeyfileError)
    assert words in line
    assert 64 * "1" not in line
    assert office.asked == []
    assert not (tmp_path / "node").exists()


# Settings ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "toml", "words"),
    [
        ("trainer run", 'fodler = "x"', "unknown setting fodler"),
        ("trainer run", "folder = 5", "folder must be a path"),
        ("trainer run", "", "keystore and password_file and folder must be set"),
        ("trainer run", "poll_seconds = 0", "poll_seconds must be a number, 0.1 or more"),
        ("trainer run", 'max_stake = "lots"', "max_stake must be an amount of ether"),
        ("challenger run", "max_jobs = 0", "max_jobs must be a whole number, 1 or more"),
        ("chain deploy", "bond = -1", "bond must be an amount of ether"),
    ],
)
def test_settings_that_cannot_be(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path, command: str, toml: str, words: str
) -> None:
    (tmp_path / "it.toml").write_text(toml)
    assert words in refused(capsys, office, [*command.split(), "--config", "it.toml"], UsageError)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--listen", "here"], "HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "HOST:PORT"),
        (["--listen", "127.0.0.1:0"], "HOST:PORT"),
        (["--listen", "0.0.0.0:8700"], "public_url must be set"),
        (["--listen", "[::]:8700"], "public_url must be set"),
        (["--public-url", "ftp://me"], "no address of a data service"),
        (["--public-url", "http://me/" + 300 * "x"], "more than 256 bytes"),
        (["--device", "warp:9"], "device 'warp:9'"),
        (["--folder", "/dev/null/x"], "cannot be written to"),
    ],
)
def test_a_trainer_that_cannot_start(capsys: pytest.CaptureFixture[str], office: Office, flags: list[str], words: str) -> None:
    error = UnavailableError if "--folder" in flags else UsageError
    assert words in refused(capsys, office, ["trainer", "run", *office.acting, "--folder", "node", *flags], error)


def test_a_port_in_use(capsys: pytest.CaptureFixture[str], office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(capsys, office, ["trainer", "run", *office.acting, "--folder", "node", "--listen", listen], UsageError)
    assert f"nothing can be served at {listen}" in line


@pytest.mark.parametrize("command", ["trainer", "challenger"])
def test_a_folder_in_use_or_of_another_node(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path, command: str
) -> None:
    run = [command, "run", *office.acting, "--folder", "node"]
    with node_folder(tmp_path / "node", command, office.market.book):
        assert "another process works in" in refused(capsys, office, run, UsageError)
    with node_folder(tmp_path / "other", "somebody else", office.market.book):
        pass
    assert "folder of another node" in refused(capsys, office, [*run, "--folder", "other"], UsageError)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mode", "spy"], "mode must be"),
        (["--max-bond", "0.01"], "more than max_bond allows"),
        (["--keystore", ""], "keystore must be a path"),
    ],
)
def test_a_challenger_that_cannot_start(capsys: pytest.CaptureFixture[str], office: Office, flags: list[str], words: str) -> None:
    assert words in refused(capsys, office, ["challenger", "run", *office.acting, "--folder", "node", *flags], UsageError)


def test_who_challenges_needs_a_key(capsys: pytest.CaptureFixture[str], office: Office) -> None:
    line = refused(capsys, office, ["challenger", "run", *office.chain, "--folder", "node"], UsageError)
    assert "--mode watch needs neither" in line


# What a requester can get wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        (["--segment-length", "5"], UsageError, "more than the 4 steps"),
        (["--steps", "0"], UsageError, "steps must be"),
        (["--stake", "0"], UsageError, "0.000000000000000001 or more"),
        (["--uri", "http://me/" + 300 * "x"], UsageError, "more than 256 bytes"),
        (["--publish", "/dev/null/here"], UnavailableError, "cannot be written to"),
        (["--publish", "gopher://here"], UsageError, "no store can be opened"),
    ],
)
def test_a_job_that_cannot_be(
    capsys: pytest.CaptureFixture[str], office: Office, flags: list[str], error: type[RefstepError], words: str
) -> None:
    assert words in refused(capsys, office, [*office.opening, *flags], error)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, UsageError, "there is no file"),
        ("x = 1", UsageError, "does not set"),
        ("captured = 5", UsageError, "does not set"),
        ("\nimport nothing_at_all", UsageError, "failed in line 2: ModuleNotFoundError"),
        ("def", UsageError, "SyntaxError"),
        (CAPTURED.replace("LOSS", 'torch.linalg.svdvals(model(batch["x"]))'), UnsupportedOperator, "svd"),
    ],
)
def test_a_file_that_captures_nothing(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path, text: str | None, error: type[RefstepError], words: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    arguments = ["mine.py" if argument == office.path("job.py") else argument for argument in office.opening]
    assert words in refused(capsys, office, arguments, error)


# What a deployer can get wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--contracts", "/dev/null/book.json"], "cannot be written to"),
        (["--contracts", "there.json"], "is there already"),
        (["--burn-share", "10001"], "burn share of 10001"),
        (["--bond", "0"], "bond is at least"),
        (["--trainer-clock", "0"], "clock holds at least"),
    ],
)
def test_a_deployment_that_cannot_be(
    capsys: pytest.CaptureFixture[str], office: Office, tmp_path: Path, flags: list[str], words: str
) -> None:
    (tmp_path / "there.json").write_text("precious")
    deploy = ["chain", "deploy", "--rpc-url", office.url, *office.key, "--contracts", "new.json"]
    assert words in refused(capsys, office, [*deploy, *flags], UsageError)
    assert (tmp_path / "there.json").read_text() == "precious"
    assert not (tmp_path / "new.json").exists()


# The operator's guide ---------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs"


def test_the_guide_lists_every_exit_code() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| `(\w+)` ", (DOCS / "operating.md").read_text(), re.MULTILINE))
    errors = {RefstepError, *RefstepError.__subclasses__()}
    assert rows == {str(error.exit_code): error.__name__ for error in errors}


@pytest.mark.parametrize("role", ["trainer", "challenger"])
def test_the_guides_examples_hold_settings_of_their_command(capsys: pytest.CaptureFixture[str], role: str) -> None:
    main([role, "run", "--config", str(DOCS / "examples" / f"{role}.toml"), "--print-config"])
    printed = capsys.readouterr().out
    assert "must be set" not in printed
    assert f'folder = "{role}-data"' in printed


def test_every_command_in_the_guide_exists_with_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "operating.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^    (refstep .*)$", text, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        main([*shlex.split(command)[1:], *([] if "--config" not in command else ["--config", ""]), "--print-config"])
    capsys.readouterr()


def test_the_guides_job_is_one() -> None:
    captured = _captured(DOCS / "examples" / "digits_job.py")
    assert {spec.name: spec.shape for spec in captured.program.data} == {"images": (1500, 64), "labels": (1500,)}
