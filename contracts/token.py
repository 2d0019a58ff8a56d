"""ERC-20 tokens, as far as bounties and stakes need them (EIP-20)."""

from __future__ import annotations

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak
from web3 import Web3

from bisection.errors import TransactionFailed, UsageError
from contracts.contract import Sender
from contracts.sender import Call, simulate

__all__ = ["Token"]

MOST_DECIMALS = 77  # those of the largest amount


class Token:
    """A token at an address. Without a sender it can only be looked at. Raises UsageError where it does not answer like one."""

    def __init__(self, web3: Web3, address: str, sender: Sender | None = None) -> None:
        self.web3 = web3
        self.address = Web3.to_checksum_address(address)
        self._sender = sender

    def balance(self, account: str) -> int:
        """What an account has, in the token's smallest units."""
        return self._number("balanceOf(address)", ["address"], account)

    def allowance(self, account: str, spender: str) -> int:
        """What ``spender`` may take from an account."""
        return self._number("allowance(address,address)", ["address", "address"], account, spender)

    def decimals(self) -> int:
        """How many decimal places people write an amount with, as the token says."""
        places = self._number("decimals()", [])
        if places > MOST_DECIMALS:
            raise UsageError(f"the token {self.address} says that it has {places} decimal places; no amount of it can be written")
        return places

    def allow(self, account: str, spender: str, amount: int) -> None:
        """Let ``spender`` take at least ``amount`` from the sender, whose address is ``account``."""
        if self.allowance(account, spender) < amount:
            self.set_allowance(account, spender, amount)

    def set_allowance(self, account: str, spender: str, amount: int) -> None:
        """Let ``spender`` take exactly ``amount`` from the sender, whose address is ``account``."""
        allowed = self.allowance(account, spender)
        if allowed and amount:
            self._approve(spender, 0)  # some tokens refuse to change an allowance otherwise
        if allowed != amount:
            self._approve(spender, amount)

    def units(self, amount: int) -> int:
        """An amount that people wrote with 18 decimal places, in the token's. Raises UsageError where it has fewer."""
        units, rest = divmod(amount * int(10 ** self.decimals()), 10**18)
        if rest:
            raise UsageError(f"the token {self.address} has only {self.decimals()} decimal places; round the amount")
        return units

    def _approve(self, spender: str, amount: int) -> None:
        if self._sender is None:
            raise UsageError("an allowance needs a key; give the token a sender")
        self._sender.send(self._call("approve(address,uint256)", ["address", "uint256"], spender, amount))

    def _number(self, signature: str, types: list[str], *args: object) -> int:
        try:
            (number,) = decode(["uint256"], simulate(self.web3, self._call(signature, types, *args)))
        except (TransactionFailed, DecodingError):
            raise UsageError(f"there is no ERC-20 token at {self.address}; check the address") from None
        return int(number)

    def _call(self, signature: str, types: list[str], *args: object) -> Call:
        name = signature.partition("(")[0]
        return Call(name, self.address, keccak(text=signature)[:4] + encode(types, args))
