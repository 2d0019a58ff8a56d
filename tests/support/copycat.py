"""An opponent that reads the pool, and sends everything that it sees there itself, for higher fees."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import decode
from eth_utils.abi import function_abi_to_4byte_selector
from hexbytes import HexBytes
from web3.types import Nonce, TxParams, Wei

from contracts.bindings import BLIND, step_commitment
from contracts.build import artifact
from tests.support.arena import ETHER, Party

__all__ = ["Copycat"]

GAS = 4_000_000
SALT = bytes(32)
OPENINGS = {"open_step": 7, "open_blind": 3}  # by name, the number of the word with the salt
NAMES = (
    *("commit", *OPENINGS, "show_step", "pick", "demand_trace", "demand_state", "demand_tensor", "demand_run", "refute"),
    *("conclude_boundary", "conclude_element", "conclude_run", "conclude_part", "post_trace", "reveal"),
)
FUNCTIONS = [entry for entry in artifact("DisputeGame").abi if entry["type"] == "function" and entry["name"] in NAMES]
SELECTORS = {entry["name"]: function_abi_to_4byte_selector(entry) for entry in FUNCTIONS}
BY_SELECTOR = {selector: name for name, selector in SELECTORS.items()}


class Copycat(Party):
    """Copies what ``victim`` does, trainer or challenger: openings in its own name, moves in its own games and in the victim's.

    It acts after the victim and before the block. ``copied`` counts what it sent, by function.
    """

    victim: str

    def start(self) -> None:
        super().start()
        self.copied: dict[str, int] = {}
        self._revealed: list[tuple[str, bytes]] = []  # openings to repeat once the commitment is a block old

    def act(self) -> None:
        self._nonce = self.arena.web3.eth.get_transaction_count(self._account.address)
        for name, data in self._revealed:
            self._send(name, data, self.deployment.game.bond)
        self._revealed.clear()
        pool: Any = self.arena.rpc("txpool_content")["pending"]
        theirs = next((sent for sender, sent in pool.items() if sender.lower() == self.victim.lower()), {})
        for transaction in theirs.values():
            data = bytes(HexBytes(transaction["input"]))
            if transaction["to"].lower() == self.arena.book.game.lower() and data[:4] in BY_SELECTOR:
                self._copy(BY_SELECTOR[data[:4]], data, int(transaction["value"], 16))

    def _copy(self, name: str, data: bytes, value: int) -> None:
        if name in ("commit", *OPENINGS):
            self._send(name, data, value)
            if name in OPENINGS:
                self._commit(name, data)
            return
        (game,) = decode(["uint256"], data[4:36])
        self._send(name, data, value)  # in the victim's game
        seen = self.chain.view(game)
        for mine in self.index.games[seen.job]:
            if self.index.segments[mine] == seen.segment and self.chain.view(mine).challenger == self.address:
                self._send(name, data[:4] + mine.to_bytes(32, "big") + data[36:], value)

    def _commit(self, name: str, data: bytes) -> None:
        """Commit to the opening that has just been seen, with a salt of one's own."""
        job, segment, step = decode(["uint256"] * 3, data[4:100])
        commitment = step_commitment(self.address, job, segment, BLIND if name == "open_blind" else step, SALT)
        self._send("commit", SELECTORS["commit"] + commitment, 0)
        at = 4 + OPENINGS[name] * 32
        self._revealed.append((name, data[:at] + SALT + data[at + 32 :]))

    def _send(self, name: str, data: bytes, value: int) -> None:
        draft: TxParams = {
            "to": self.deployment.game.address,
            "data": HexBytes(data),
            "value": Wei(value),
            "gas": GAS,
            "nonce": Nonce(self._nonce),
            "chainId": self.arena.web3.eth.chain_id,
            "maxPriorityFeePerGas": Wei(ETHER // 10**7),
            "maxFeePerGas": Wei(ETHER // 10**6),
        }
        self.arena.web3.eth.send_raw_transaction(self._account.sign_transaction(dict(draft)).raw_transaction)
        self._nonce += 1
        self.copied[name] = self.copied.get(name, 0) + 1
