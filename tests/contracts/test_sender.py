"""Sending transactions through nodes that refuse, forget, lose answers, or want more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.types import RPCEndpoint, RPCResponse

from bisection.errors import TransactionFailed, UnavailableError
from contracts.build import artifact
from contracts.client import Fault, LocalChain, LocalProvider, Patience, local_chain, persist
from contracts.journal import Journal, State
from contracts.sender import Call, TransactionSender, simulate


class Node(LocalProvider):
    """A node between the sender and the chain, with the faults of nodes, asked as patiently as one over HTTP.

    It keeps transactions that bid too little.
    """

    patience = Patience(retries=3, first=0.001)

    def __init__(self, chain: LocalChain) -> None:
        super().__init__(chain.tester)
        self.asked: list[str] = []
        self.raw: list[bytes] = []
        self.pool: dict[int, int] = {}  # nonce -> what is bid
        self.least = 0
        self.away = 0
        self.lost_answers = 0
        self.refusal: str | None = None
        self.before: dict[str, Callable[[], object]] = {}

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        return persist(lambda: self.hear(method, params), self.patience)

    def hear(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        self.asked.append(method)
        if self.away:
            self.away -= 1
            raise Fault("the node is away")
        self.before.get(method, lambda: None)()
        if method != "eth_sendRawTransaction":
            return super().make_request(method, params)
        return self.take(method, params)

    def take(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        raw = bytes(HexBytes(params[0]))
        self.raw.append(raw)
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        nonce, bid = fields["nonce"], fields["maxFeePerGas"]
        if self.refusal:
            return refusal(self.refusal)
        if bid * 10 < self.pool.get(nonce, 0) * 11:
            return refusal("replacement transaction underpriced")
        self.pool[nonce] = bid
        if bid < self.least:
            return {"jsonrpc": "2.0", "id": 1, "result": HexBytes(Web3.keccak(raw))}  # type: ignore[typeddict-item]
        del self.pool[nonce]
        answer = super().make_request(method, params)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Fault("the connection broke")
        return answer

    def once(self, method: str, action: Callable[[], object]) -> None:
        """Have something happen before the next request of this kind."""

        def act() -> None:
            del self.before[method]
            action()

        self.before[method] = act

    def bids(self) -> list[int]:
        return [TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["maxFeePerGas"] for raw in self.raw]


def refusal(message: str) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": message}}


@dataclass
class Scene:
    """A chain, a node of it, and an account."""

    chain: LocalChain = field(default_factory=lambda: local_chain(3))

    def __post_init__(self) -> None:
        self.node = Node(self.chain)
        self.web3 = Web3(self.node)
        self.account = self.chain.accounts[1]

    def sender(self, **settings: Any) -> TransactionSender:
        quick = {"poll": 0.001, "resend_after": 0.01}
        return TransactionSender(self.web3, self.account, **(quick | settings))

    def nonce(self) -> int:
        return self.web3.eth.get_transaction_count(self.account.address)


@pytest.fixture
def scene() -> Scene:
    return Scene()


GIFT = Call("gift", Web3.to_checksum_address("0x" + 40 * "7"), b"", 5)


def registry_code(burn_share: int) -> bytes:
    built = artifact("TaskRegistry")
    factory = Web3().eth.contract(abi=built.abi, bytecode=built.bytecode)
    return bytes.fromhex(factory.constructor(burn_share, 0).data_in_transaction[2:])


# The plain case


def test_a_transaction_is_sent_once_and_its_cost_recorded(scene: Scene) -> None:
    sender = scene.sender()
    before = sender.balance()
    receipts = [sender.send(GIFT), sender.send(GIFT)]
    assert scene.web3.eth.get_balance(GIFT.to) == 10  # type: ignore[arg-type]
    assert [(sent.name, sent.nonce, sent.broadcasts, sent.gas_used) for sent in sender.sent] == [
        ("gift", 0, 1, 21_000),
        ("gift", 1, 1, 21_000),
    ]
    assert [sent.block for sent in sender.sent] == [receipt["blockNumber"] for receipt in receipts]
    assert before - sender.balance() == 10 + sum(sent.fee for sent in sender.sent)


def test_a_call_to_nothing_deploys(scene: Scene) -> None:
    address = scene.sender().send(Call("deploy", None, registry_code(100)))["contractAddress"]
    assert scene.web3.eth.get_code(address)  # type: ignore[arg-type]


def test_a_transaction_that_would_revert_is_not_sent_and_says_why(scene: Scene) -> None:
    with pytest.raises(TransactionFailed, match=r"^deploy: registry: shares above 100%$"):
        scene.sender().send(Call("deploy", None, registry_code(10_001)))
    assert scene.node.raw == [] and scene.nonce() == 0


def test_a_simulation_returns_what_the_call_would_and_sends_nothing(scene: Scene) -> None:
    sender = scene.sender()
    registry = Web3.to_checksum_address(sender.send(Call("deploy", None, registry_code(100)))["contractAddress"])  # type: ignore[arg-type]
    burn_share = Call("burn_share", registry, Web3.keccak(text="burn_share()")[:4])
    assert int.from_bytes(simulate(scene.web3, burn_share), "big") == 100
    withdraw = Call("withdraw", registry, Web3.keccak(text="withdraw(address)")[:4] + bytes(32))
    with pytest.raises(TransactionFailed, match=r"^withdraw: ledger: nothing to withdraw$"):
        simulate(scene.web3, withdraw, sender.address)
    assert len(scene.node.raw) == 1


def test_a_transaction_that_reverts_when_it_is_mined_says_why(scene: Scene) -> None:
    """Its last second passes between the estimate and the block."""
    sender = scene.sender()
    wallet = sender.send(Call("deploy", None, artifact("wallet_mock").bytecode))["contractAddress"]
    code = Web3.keccak(text="behave(bool,bytes)")[:4]
    refuse = code + bytes(31) + b"\1" + bytes(31) + b"\x40" + bytes(32)
    call = Call("gift", Web3.to_checksum_address(wallet), b"", 1)  # type: ignore[arg-type]
    rival = TransactionSender(scene.chain.web3, scene.chain.accounts[2])
    scene.node.once("eth_sendRawTransaction", lambda: rival.send(Call("behave", call.to, refuse)))
    with pytest.raises(TransactionFailed, match=r"^gift: wallet: refused$"):
        sender.send(call)
    assert sender.sent[-1].name == "gift" and sender.sent[-1].gas_used > 21_000
    sender.send(GIFT)


def test_an_account_without_money_is_told_so(scene: Scene) -> None:
    with pytest.raises(TransactionFailed, match="does not have enough balance"):
        scene.sender().send(Call("gift", GIFT.to, b"", 10**30))


# Fees


def test_fees_rise_until_a_block_takes_the_transaction(scene: Scene) -> None:
    sender = scene.sender()
    sender.send(GIFT)
    scene.node.least = scene.node.bids()[0] * 3
    sender.send(GIFT)
    bids = scene.node.bids()[1:]
    assert bids[-1] >= scene.node.least > bids[-2]
    assert all(later * 10 >= earlier * 11 for earlier, later in pairwise(bids))
    assert sender.sent[-1].broadcasts == len(bids)
    assert scene.nonce() == 2 and scene.web3.eth.get_balance(GIFT.to) == 10  # type: ignore[arg-type]


def test_an_underpriced_replacement_is_raised_at_once(scene: Scene) -> None:
    sender = scene.sender(resend_after=1e9)
    scene.node.pool[0] = 4 * sender._offer()[2]  # left over from a run that crashed
    sender.send(GIFT)
    assert sender.sent[-1].broadcasts > 5


def test_a_sender_gives_up_after_so_many_broadcasts(scene: Scene) -> None:
    scene.node.least = 1 << 100
    with pytest.raises(TransactionFailed, match="gift: no block took it in 4 broadcasts"):
        scene.sender(max_broadcasts=4).send(GIFT)
    assert len(scene.node.raw) == 4 and len(set(scene.node.raw)) == 4


def test_what_the_node_has_against_a_replacement_does_not_end_the_wait_for_the_first(scene: Scene) -> None:
    sender = scene.sender(max_broadcasts=50)
    scene.node.least = 1 << 100

    def mine_the_first() -> None:
        if len(scene.node.raw) == 3 and scene.chain.web3.eth.get_transaction_count(scene.account.address) == 0:
            scene.chain.web3.eth.send_raw_transaction(scene.node.raw[0])

    def refuse_the_second() -> None:
        scene.node.refusal = "insufficient funds for gas * price + value" if scene.node.raw else None

    scene.node.before = {"eth_sendRawTransaction": refuse_the_second, "eth_blockNumber": mine_the_first}
    sender.send(GIFT)
    assert sender.sent[0].transaction == Web3.keccak(scene.node.raw[0])


# Connections


def test_a_node_that_is_away_for_a_while_is_asked_again(scene: Scene) -> None:
    scene.node.away = 3
    scene.sender().send(GIFT)
    assert scene.nonce() == 1


def test_a_node_that_stays_away_is_reported(scene: Scene) -> None:
    scene.node.away = 1_000
    with pytest.raises(UnavailableError):
        scene.sender().send(GIFT)


def test_a_lost_answer_sends_nothing_twice(scene: Scene) -> None:
    scene.node.lost_answers = 2
    scene.sender().send(GIFT)
    assert len(set(scene.node.raw)) == 1
    assert scene.nonce() == 1 and scene.web3.eth.get_balance(GIFT.to) == 5  # type: ignore[arg-type]


# Confirmations and reorganisations


def test_a_receipt_is_given_out_when_enough_blocks_hold_it(scene: Scene) -> None:
    scene.node.before["eth_blockNumber"] = lambda: scene.chain.advance(1)
    receipt = scene.sender(confirmations=5, resend_after=1e9).send(GIFT)
    assert scene.web3.eth.block_number - receipt["blockNumber"] + 1 >= 5
    assert len(scene.node.raw) == 1


def test_a_transaction_that_a_reorganisation_drops_is_sent_again(scene: Scene) -> None:
    mark = scene.chain.snapshot()
    scene.node.before["eth_blockNumber"] = lambda: scene.chain.advance(1)
    # The first look at a receipt is the last that anybody has of it.
    scene.node.once("eth_getTransactionReceipt", lambda: scene.chain.restore(mark))
    receipt = scene.sender(confirmations=4, resend_after=0.05).send(GIFT)
    assert len(scene.node.raw) == 2
    assert scene.chain.web3.eth.get_transaction_receipt(receipt["transactionHash"])["blockHash"] == receipt["blockHash"]
    assert scene.web3.eth.get_balance(GIFT.to) == 5  # type: ignore[arg-type]


def test_the_next_nonce_follows_a_reorganisation(scene: Scene) -> None:
    sender, mark = scene.sender(), scene.chain.snapshot()
    sender.send(GIFT)
    scene.chain.restore(mark)
    sender.send(GIFT)
    assert [sent.nonce for sent in sender.sent] == [0, 0]


# Who uses a key


def test_another_process_with_the_same_key_is_noticed(scene: Scene) -> None:
    other = TransactionSender(scene.chain.web3, scene.account)
    scene.node.once("eth_sendRawTransaction", lambda: other.send(replace(GIFT, value=6)))
    with pytest.raises(TransactionFailed, match="another process uses the key of 0x"):
        scene.sender(resend_after=0.05).send(GIFT)


def test_several_threads_take_turns(scene: Scene) -> None:
    sender = scene.sender()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sender.send(GIFT), range(8)))
    assert [sent.nonce for sent in sender.sent] == list(range(8))
    assert threading.active_count() < 10


# The journal


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(record: Path) -> Iterator[Journal]:
    with Journal(record) as journal:
        yield journal


MOVE = replace(GIFT, place="game 12: answer to aa")
CONTRADICTION = replace(MOVE, name="timeout", value=6)


def test_every_broadcast_is_recorded_before_it_happens(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    recorded: list[bool] = []

    def look() -> None:
        (entry,) = journal.sent()
        recorded.append(entry.digest == MOVE.digest and entry.raw not in scene.node.raw)

    scene.node.before["eth_sendRawTransaction"] = look
    scene.node.least = 2 * sender._offer()[2]
    sender.send(MOVE)
    assert recorded == [True] * len(scene.node.raw) and len(recorded) > 1
    assert journal.sent() == []
    (entry,) = journal.mined(0)
    assert (entry.hash, entry.block) == (sender.sent[0].transaction, sender.sent[0].block)
    assert [version.raw for version in journal.versions(entry)] == scene.node.raw


def test_a_place_is_not_answered_twice(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    assert not sender.answered(MOVE.place or "")
    receipt = sender.send(MOVE)
    assert sender.answered(MOVE.place or "")
    assert sender.send(MOVE) == receipt and sender.send(replace(GIFT, place=MOVE.place)) == receipt
    assert len(scene.node.raw) == 1 and len(sender.sent) == 1


def test_a_place_is_not_answered_in_another_way(scene: Scene, journal: Journal, record: Path) -> None:
    scene.sender(journal=journal).send(MOVE)
    refused = "timeout: refused, because game 12: answer to aa is answered already, by gift in transaction 0x"
    with pytest.raises(TransactionFailed, match=refused):
        scene.sender(journal=journal).send(CONTRADICTION)
    journal.close()
    with Journal(record) as later, pytest.raises(TransactionFailed, match=refused):
        scene.sender(journal=later).send(CONTRADICTION)
    assert len(scene.node.raw) == 1


def test_threads_that_answer_the_same_place_answer_it_once(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda _: sender.send(MOVE), range(8)))
    assert len(scene.node.raw) == 1 and all(receipt == receipts[0] for receipt in receipts)


def test_what_failed_has_answered_nothing(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    scene.node.refusal = "insufficient funds"
    with pytest.raises(TransactionFailed, match="insufficient funds"):
        sender.send(MOVE)
    scene.node.refusal = None
    assert sender.send(CONTRADICTION)["status"] == 1
    assert scene.nonce() == 1


def test_a_journal_that_cannot_be_written_keeps_the_transaction_from_being_sent(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    deploy = Call("deploy", None, registry_code(100))
    with pytest.raises(UnavailableError, match="nothing is sent"):
        sender.send(deploy)
    assert scene.node.raw == []
    journal._database.execute("PRAGMA max_page_count = 100000")
    sender.send(deploy)
    assert scene.nonce() == 1


class Killed(BaseException):
    """The process ends here."""


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("broadcast", [False, True])
def test_after_a_restart_the_same_bytes_are_sent_and_the_place_stays_answered(scene: Scene, record: Path, broadcast: bool) -> None:
    with Journal(record) as journal:
        sender = scene.sender(journal=journal)
        scene.node.least = 1 << 100
        sender.submit(replace(GIFT, value=1))
        if broadcast:
            sender.submit(MOVE)
        else:
            scene.node.once("eth_sendRawTransaction", kill)
            with pytest.raises(Killed):
                sender.submit(MOVE)
        kept = {entry.nonce: entry.raw for entry in journal.sent()}
    scene.node.raw.clear()
    scene.node.pool.clear()
    scene.node.least = 0
    with Journal(record) as journal:
        sender = scene.sender(journal=journal)
        with pytest.raises(TransactionFailed, match="nothing is answered twice"):
            sender.send(CONTRADICTION)
        receipt = sender.send(MOVE)
        assert scene.node.raw[: len(kept)] == [kept[nonce] for nonce in sorted(kept)]
        sender.send(GIFT)
    assert receipt["transactionHash"] == Web3.keccak(kept[1])
    assert scene.web3.eth.get_balance(GIFT.to) == 11  # type: ignore[arg-type]


def test_a_node_that_stays_away_in_mid_send_does_not_lead_to_a_second_transaction(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    scene.node.lost_answers = 1_000  # it hears the transaction, and is not heard
    scene.node.patience = Patience(retries=0)
    with pytest.raises(UnavailableError):
        sender.send(MOVE)
    scene.node.lost_answers = 0
    sender.send(MOVE)
    assert len(set(scene.node.raw)) == 1 and scene.nonce() == 1


def test_a_call_without_a_place_is_looked_at_once_all_is_mined_that_it_could_be(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal, resend_after=1e9)
    scene.node.least = 1 << 100
    forgotten = sender.submit(replace(GIFT, value=1))
    scene.node.before["eth_getTransactionCount"] = kill
    with pytest.raises(Killed):
        sender.settle(forgotten)
    scene.node.before.clear()
    assert sender.submit(MOVE).nonce == 1  # it has a place, so that nothing needs to be known of the other
    asked = len(scene.node.asked)
    scene.node.least = 0
    scene.node.pool.clear()
    sender.submit(GIFT)
    assert forgotten.receipt is not None
    after = scene.node.asked[asked:]
    assert after.index("eth_getTransactionReceipt") < after.index("eth_estimateGas")


def test_what_a_reorganisation_drops_after_its_receipt_was_given_out_is_sent_again(scene: Scene, journal: Journal) -> None:
    sender = scene.sender(journal=journal)
    mark = scene.chain.snapshot()
    sender.send(MOVE)
    sender.send(replace(GIFT, value=1))
    sent = list(scene.node.raw)
    scene.chain.restore(mark)
    sender.send(replace(GIFT, value=2))
    assert scene.node.raw[2:4] == sent
    assert scene.nonce() == 3 and scene.web3.eth.get_balance(GIFT.to) == 8  # type: ignore[arg-type]
    with pytest.raises(TransactionFailed, match="nothing is answered twice"):
        sender.send(CONTRADICTION)


def test_another_process_that_takes_the_nonce_frees_the_place(scene: Scene, journal: Journal) -> None:
    other = TransactionSender(scene.chain.web3, scene.account)
    scene.node.once("eth_sendRawTransaction", lambda: other.send(replace(GIFT, value=6)))
    sender = scene.sender(journal=journal, resend_after=0.05)
    with pytest.raises(TransactionFailed, match="another process uses the key"):
        sender.send(MOVE)
    assert [entry.state for entry in journal._select("nonce = ?", 0)] == [State.DROPPED]
    sender.send(MOVE)
    assert scene.web3.eth.get_balance(GIFT.to) == 11  # type: ignore[arg-type]


def test_the_key_is_in_no_message_and_no_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sender = scene.sender()
    sender.send(GIFT)
    key = scene.account.key.hex()
    assert key not in caplog.text + repr(sender) + repr(sender.sent) and str(int(key, 16)) not in caplog.text
    assert sender.address in repr(sender)
