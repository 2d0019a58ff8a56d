"""A contract on an EVM in this process: fast enough to compare every instruction on thousands of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, is_dataclass
from typing import Any

import pyrevm
from eth_abi import decode, encode
from eth_utils import function_signature_to_4byte_selector

from contracts.build import artifact

__all__ = ["BLOCK_GAS", "Contract", "Reverted", "abi_types", "calldata_gas"]

CALLER = "0x" + "11" * 20
BLOCK_GAS = 30_000_000
TRANSACTION_GAS = 21_000
FLOOR_PER_TOKEN = 10  # EIP-7623; a zero byte is one token, any other four


class Reverted(Exception):
    """The call reverted; the message is the reason, empty where the compiler gives none."""


class Contract:
    """One deployed contract without constructor arguments."""

    def __init__(self, name: str) -> None:
        built = artifact(name)
        self.functions = {entry["name"]: entry for entry in built.abi if entry["type"] == "function"}
        """The ABI's entry of each function."""
        self._evm = pyrevm.EVM(gas_limit=1 << 40)
        self._evm.set_balance(CALLER, 10**24)
        self.address = self._evm.deploy(CALLER, built.bytecode)
        self.executed = 0
        """What the last call, refused or not, would have cost as a transaction, were there no floor under its calldata."""
        self.computed = 0
        """The same without what a transaction pays for itself and its calldata."""
        self.gas = 0
        """What it would have cost with that floor, if it was not refused."""

    def call(self, function: str, *arguments: Any, gas: int = BLOCK_GAS) -> Any:
        """The result: a value, a tuple of several, or None. Dataclasses stand for structs. Raises Reverted."""
        entry = self.functions[function]
        data = self._selector(entry) + encode(abi_types(entry["inputs"]), [_plain(x) for x in arguments])
        return self.results(function, self.send(data, gas))

    def results(self, function: str, returned: bytes) -> Any:
        """What ``returned`` of a function is: a value, a tuple of several, or None."""
        results = decode(abi_types(self.functions[function]["outputs"]), returned)
        return results[0] if len(results) == 1 else results or None

    def selector(self, function: str) -> bytes:
        """The four bytes that calldata for ``function`` begins with."""
        return self._selector(self.functions[function])

    def send(self, data: bytes, gas: int = BLOCK_GAS) -> bytes:
        """What the contract returns on calldata ``data``. Raises Reverted, and AssertionError when the gas runs out."""
        try:
            returned = self._evm.message_call(CALLER, self.address, calldata=data, gas=gas)
        except RuntimeError as error:
            raise _reverted(error) from None
        finally:
            self.executed = self._evm.result.gas_used
            self.computed = self.executed - calldata_gas(data)
        self.gas = max(self.executed, TRANSACTION_GAS + FLOOR_PER_TOKEN * sum(4 if byte else 1 for byte in data))
        return bytes(returned)

    @staticmethod
    def _selector(entry: dict[str, Any]) -> bytes:
        return function_signature_to_4byte_selector(f"{entry['name']}({','.join(abi_types(entry['inputs']))})")


def calldata_gas(data: bytes) -> int:
    """What a transaction with this calldata costs before anything is computed."""
    return TRANSACTION_GAS + sum(16 if byte else 4 for byte in data)


def abi_types(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The canonical types of ABI entries."""
    return [_abi_type(row) for row in rows]


def _abi_type(row: dict[str, Any]) -> str:
    """The canonical type of an ABI entry; a struct is written as the tuple of its fields."""
    kind: str = row["type"]
    return kind.replace("tuple", f"({','.join(map(_abi_type, row['components']))})") if "components" in row else kind


def _plain(value: Any) -> Any:
    """Tuples in the place of dataclasses, at any depth."""
    if is_dataclass(value) and not isinstance(value, type):
        return astuple(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_plain(item) for item in value)
    return value


def _reverted(error: RuntimeError) -> Exception:
    """The reason in what the EVM reports of a failed call: Error(string), Panic or nothing."""
    text = str(error)
    if not text.startswith("Revert"):
        return AssertionError(f"the call did not end in a revert: {text[:200]}")
    output = bytes.fromhex(text.partition("output: 0x")[2].partition(" ")[0])
    return Reverted(decode(["string"], output[4:])[0] if output[:4] == bytes.fromhex("08c379a0") else "")
