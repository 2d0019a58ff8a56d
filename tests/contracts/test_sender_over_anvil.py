"""Sending over HTTP, with blocks when the test says so: many at once, faults, reorganisations, processes that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import RPCEndpoint

from bisection.errors import TransactionFailed, UnavailableError
from contracts.build import artifact
from contracts.client import NodeProvider, Patience, connect, development_accounts
from contracts.events import Rewound
from contracts.journal import Journal, State
from contracts.reader import Cursor, EventReader
from contracts.sender import Call, Pending, TransactionSender
from tests.e2e.anvil import require_anvil, running_anvil
from tests.support.killed import MOMENTS, MOVE
from tests.support.rpc import Proxy, Response, error_answer, http_server

pytestmark = [pytest.mark.xdist_group("anvil"), pytest.mark.timeout(120)]

GAMES = 50
ETHER = 10**18


class Scene:
    """An anvil that mines when it is told to, and a fresh account with money."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.web3 = connect(url)
        self.account: LocalAccount = Account.create()
        self.beneficiary = Account.create().address
        self.rpc("anvil_setBalance", self.account.address, hex(100 * ETHER))
        self.rpc("evm_setAutomine", False)
        self.mine()  # no reorganisation takes the money back

    def rpc(self, method: str, *params: Any) -> Any:
        answer = self.web3.provider.make_request(RPCEndpoint(method), list(params))
        assert "error" not in answer, answer
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.rpc("evm_mine")

    @contextmanager
    def mining(self, seconds: float = 0.05) -> Iterator[None]:
        """Blocks that come by themselves."""
        stop = threading.Event()

        def mine() -> None:
            while not stop.wait(seconds):
                self.mine()

        thread = threading.Thread(target=mine)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def sender(self, url: str | None = None, **settings: Any) -> TransactionSender:
        web3 = self.web3 if url is None else connect(url, patience=Patience(first=0.001, longest=0.05))
        return TransactionSender(web3, self.account, **({"poll": 0.02, "resend_after": 0.5} | settings))

    def gift(self, game: int, **changes: Any) -> Call:
        """A move in a game: one wei more for somebody."""
        return replace(Call("gift", self.beneficiary, b"", 1, f"game {game}: answer to aa"), **changes)

    @property
    def nonce(self) -> int:
        return self.web3.eth.get_transaction_count(self.account.address)

    @property
    def given(self) -> int:
        return self.web3.eth.get_balance(self.beneficiary)

    def block_of(self, pending: Pending) -> int:
        assert pending.receipt is not None
        return pending.receipt["blockNumber"]


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    require_anvil()
    with running_anvil() as url:
        yield url


@pytest.fixture
def scene(node: str) -> Scene:
    return Scene(node)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


# Many at once


def test_the_moves_of_many_games_are_in_one_block(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal, resend_after=60.0)
    pendings = [sender.submit(scene.gift(game)) for game in range(GAMES)]
    assert scene.nonce == 0 and [pending.nonce for pending in pendings] == list(range(GAMES))
    scene.mine()
    for pending in pendings:
        sender.settle(pending)
    assert len({scene.block_of(pending) for pending in pendings}) == 1
    assert scene.given == GAMES and journal.sent() == []


def test_threads_do_not_wait_for_each_others_blocks(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal, resend_after=60.0)
    with scene.mining(0.5), ThreadPoolExecutor(GAMES) as pool:
        receipts = list(pool.map(lambda game: sender.send(scene.gift(game)), range(GAMES)))
    assert scene.nonce == scene.given == GAMES
    assert len({receipt["blockNumber"] for receipt in receipts}) < GAMES // 4


def test_a_move_that_would_fail_leaves_no_gap(scene: Scene) -> None:
    sender = scene.sender()
    poor = scene.gift(0, value=10**30)
    pendings = []
    for game in range(3):
        pendings.append(sender.submit(scene.gift(game)))
        with pytest.raises(TransactionFailed):
            sender.submit(poor)
    assert [pending.nonce for pending in pendings] == [0, 1, 2]
    scene.mine()
    for pending in pendings:
        sender.settle(pending)
    assert scene.given == 3


def test_a_move_that_fails_in_its_block_does_not_hold_up_the_others(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    with scene.mining():
        wallet = sender.send(Call("deploy", None, artifact("wallet_mock").bytecode))["contractAddress"]
    doomed, other = [sender.submit(call) for call in (scene.gift(0, to=wallet), scene.gift(1))]
    scene.rpc("anvil_setCode", wallet, "0x60006000fd")  # it takes no more gifts
    scene.mine()
    sender.settle(other)
    with pytest.raises(TransactionFailed, match=r"^gift: "):
        sender.settle(doomed)
    assert not sender.answered("game 0: answer to aa") and sender.answered("game 1: answer to aa")


# Pools that forget, fees that rise


def test_what_the_pool_forgets_is_handed_to_it_again(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    pendings = [sender.submit(scene.gift(game)) for game in range(3)]
    scene.rpc("anvil_dropTransaction", Web3.to_hex(pendings[0].hashes[0]))
    scene.rpc("anvil_dropTransaction", Web3.to_hex(pendings[2].hashes[0]))
    with scene.mining():
        for pending in pendings:
            sender.settle(pending)
    assert scene.given == scene.nonce == 3


def test_when_the_base_fee_rises_everything_on_its_way_bids_more(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    pendings = [sender.submit(scene.gift(game)) for game in range(5)]
    scene.rpc("anvil_setNextBlockBaseFeePerGas", hex(3 * pendings[0].cap))
    with scene.mining():
        for pending in pendings:
            sender.settle(pending)
    assert scene.given == scene.nonce == 5
    assert all(len(pending.hashes) > 1 for pending in pendings)
    states = [[version.state for version in journal.versions(entry)] for entry in journal.mined(0)]
    assert len(states) == 5
    assert all(row.count(State.MINED) == 1 and row.count(State.REPLACED) == len(row) - 1 for row in states)


# Faults


def test_a_node_that_fails_a_fifth_of_its_calls_is_not_noticed(scene: Scene, journal: Journal) -> None:
    proxy = Proxy(scene.url, rate=0.2, seed=7)
    with http_server(proxy) as url, scene.mining(), ThreadPoolExecutor(8) as pool:
        sender = scene.sender(url, journal=journal, resend_after=10.0)
        list(pool.map(lambda game: sender.send(scene.gift(game)), range(GAMES)))
        reader = EventReader(sender.web3, [scene.beneficiary], 0)
        reader.poll()
    assert scene.nonce == scene.given == GAMES == len(sender.sent)
    assert len(journal.mined(0)) == GAMES
    assert proxy.failed["eth_sendRawTransaction"] > 0 and proxy.failed["eth_estimateGas"] > 0
    assert proxy.failed.total() > 0.15 * proxy.asked.total()


def test_a_rate_limit_is_kept_to(scene: Scene) -> None:
    proxy, times = Proxy(scene.url), []

    def limit(request: dict[str, Any]) -> Response | None:
        times.append(time.monotonic())
        recent = sum(times[-1] - 0.1 < moment for moment in times)
        return error_answer(-32005, "rate limited")(request) if recent > 20 else None

    proxy.instead = limit
    with http_server(proxy) as url, scene.mining(), ThreadPoolExecutor(8) as pool:
        sender = scene.sender(url, resend_after=10.0)
        list(pool.map(lambda game: sender.send(scene.gift(game)), range(16)))
    assert scene.given == 16


def number_of(block: int) -> Response:
    return Response(b'{"jsonrpc": "2.0", "id": 0, "result": "%s"}' % hex(block).encode())


def test_a_node_that_falls_behind_is_waited_for(scene: Scene) -> None:
    proxy = Proxy(scene.url)
    scene.mine()
    with http_server(proxy) as url:
        sender = scene.sender(url)
        pending = sender.submit(scene.gift(0))
        scene.mine()
        sender.settle(pending)
        behind = iter([scene.web3.eth.block_number - 1] * 3)
        stale: list[int] = []

        def instead(request: dict[str, Any]) -> Response | None:
            if request["method"] == "eth_sendRawTransaction":
                assert next(behind, None) is None, "it acted on what is past"
            if request["method"] == "eth_blockNumber" and (block := next(behind, None)) is not None:
                stale.append(block)
                return number_of(block)
            return None

        proxy.instead = instead
        pending = sender.submit(scene.gift(1))
        scene.mine()
        sender.settle(pending)
    assert len(stale) == 3 and scene.given == 2


def test_a_node_that_stays_behind_is_not_acted_on(scene: Scene) -> None:
    proxy = Proxy(scene.url)
    scene.mine()
    with http_server(proxy) as url:
        sender = scene.sender(url)
        pending = sender.submit(scene.gift(0))
        scene.mine()
        sender.settle(pending)
        old = scene.web3.eth.block_number - 1
        proxy.instead = lambda request: number_of(old) if request["method"] == "eth_blockNumber" else None
        sent = proxy.asked["eth_sendRawTransaction"]
        with pytest.raises(UnavailableError, match=f"is at block {old} and has shown block {old + 1}"):
            sender.send(scene.gift(1))
        assert proxy.asked["eth_sendRawTransaction"] == sent
    assert scene.given == 1


# Reorganisations


def test_a_reorganisation_of_five_blocks_loses_no_move(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    pendings = []
    for game in range(5):
        pendings.append(sender.submit(scene.gift(game)))
        scene.mine()
        sender.settle(pendings[-1])
    scene.rpc("anvil_reorg", 5, [])
    assert scene.nonce == 0
    with scene.mining():
        sender.send(scene.gift(5))
        assert scene.nonce == scene.given == 6
        for game in range(5):
            assert sender.send(scene.gift(game))["transactionHash"] == pendings[game].hashes[0]
            with pytest.raises(TransactionFailed, match="nothing is answered twice"):
                sender.send(scene.gift(game, value=2))
    assert scene.nonce == 6


def test_a_reorganisation_while_one_waits_is_seen_through(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal, confirmations=6)
    pendings = [sender.submit(scene.gift(game)) for game in range(3)]
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(sender.settle, pending) for pending in pendings]
        scene.mine(4)
        while not all(pending.seen for pending in pendings):
            time.sleep(0.01)
        scene.rpc("anvil_reorg", 5, [])
        with scene.mining():
            receipts = [future.result() for future in waiting]
    for pending, receipt in zip(pendings, receipts, strict=True):
        assert scene.web3.eth.get_transaction_receipt(pending.hashes[-1])["blockHash"] == receipt["blockHash"]
    assert scene.given == 3


def test_a_reader_follows_a_reorganisation_of_five_blocks(scene: Scene) -> None:
    scene.mine(30)
    sender = scene.sender()
    for game in range(5):
        sender.submit(scene.gift(game))
        scene.mine()
    reader = EventReader(scene.web3, [scene.beneficiary], 0)
    reader.poll()
    head = scene.web3.eth.block_number
    assert reader.position == head
    scene.rpc("anvil_reorg", 5, [])
    scene.mine()
    assert reader.poll() == [Rewound(head - 5)]
    assert reader.position == scene.web3.eth.block_number
    assert EventReader(scene.web3, [scene.beneficiary], 0, cursor=Cursor(reader.cursor.blocks)).poll() == []


def test_logs_that_a_node_does_not_have_yet_are_not_taken_for_none(scene: Scene) -> None:
    """One node behind the address knows the block, and another one is asked what happened in it."""
    proxy = Proxy(scene.url)
    asked: list[dict[str, Any]] = []

    def instead(request: dict[str, Any]) -> Response | None:
        if request["method"] == "eth_getLogs":
            asked.append(request["params"][0])
        return None

    proxy.instead = instead
    scene.mine(3)
    head = scene.web3.eth.block_number
    with http_server(proxy) as url:
        EventReader(connect(url), [scene.beneficiary], head - 2).poll()
    hashes = [Web3.to_hex(scene.web3.eth.get_block(number)["hash"]) for number in range(head - 2, head + 1)]
    assert [query.get("blockHash") for query in asked] == hashes


# Processes that are killed


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("mined", [False, True])
def test_a_killed_process_leaves_no_second_and_no_other_answer(node: str, tmp_path: Path, moment: str, mined: bool) -> None:
    path = tmp_path / "journal.sqlite"
    scene = Scene(node)
    scene.account = development_accounts(1)[0]
    before, given = scene.nonce, scene.web3.eth.get_balance(MOVE.to)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "tests.support.killed", node, str(path), moment]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    if mined:
        scene.mine()
    with Journal(path) as journal, scene.mining():
        journal.enter(scene.account.address, scene.web3.eth.chain_id, bytes(scene.web3.eth.get_block(0)["hash"]))
        kept = [entry.hash for entry in journal.sent()]
        assert len(kept) == (moment != "before the record")
        sender = scene.sender(journal=journal)
        if kept:
            with pytest.raises(TransactionFailed, match="nothing is answered twice"):
                sender.send(replace(MOVE, value=6))
        receipt = sender.send(MOVE)
        assert [receipt["transactionHash"]] == kept or not kept
        assert sender.send(MOVE) == receipt
    assert scene.nonce == before + 1
    assert scene.web3.eth.get_balance(MOVE.to) == given + 5  # type: ignore[arg-type]


def test_a_process_with_the_same_key_is_noticed_and_does_not_cost_a_move(scene: Scene, journal: Journal) -> None:
    sender, stranger = scene.sender(journal=journal), scene.sender()
    pending = sender.submit(scene.gift(0))
    scene.rpc("anvil_dropTransaction", Web3.to_hex(pending.hashes[0]))
    other = stranger.submit(scene.gift(0, value=10, place=None))
    scene.mine()
    stranger.settle(other)
    with pytest.raises(TransactionFailed, match="another process uses the key"):
        sender.settle(pending)
    assert not sender.answered("game 0: answer to aa")
    with scene.mining():
        sender.send(scene.gift(0))
    assert scene.given == 11


def test_requests_are_repeated_in_the_provider_alone(scene: Scene) -> None:
    assert isinstance(scene.web3.provider, NodeProvider)
    assert scene.web3.provider.patience == Patience()
