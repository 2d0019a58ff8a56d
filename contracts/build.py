"""Compiles the Vyper contracts and keeps the results in the user's cache.

``artifact("Referee")`` is all that the rest of the system knows about the compiler. A cache entry is named after everything that
determines it: the compiler's version, the contract's own source, and every module and interface beside it.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bisection.errors import UsageError

__all__ = ["Artifact", "artifact", "names"]

ROOT = Path(__file__).resolve().parent
EVM_VERSION = "cancun"  # the oldest rules that have MCOPY and transient storage


@dataclass(frozen=True)
class Artifact:
    """A compiled contract: its ABI, the code that a deployment sends, and the code that then lives on chain (immutables apart)."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime: bytes

    @property
    def runtime_size(self) -> int:
        """Bytes of code on chain, of at most 24,576 (EIP-170)."""
        return len(self.runtime)


def names() -> list[str]:
    """The contracts that can be deployed, without mocks."""
    return sorted(path.stem for path in ROOT.glob("*.vy"))


@cache
def artifact(name: str) -> Artifact:
    """The compiled contract ``contracts/<name>.vy`` or ``contracts/mocks/<name>.vy``.

    Raises UsageError when there is no such contract or the cache cannot be written, and Vyper's own exceptions for a faulty source.
    """
    source = _source(name)
    entry = _cache_folder() / f"{name}-{_fingerprint(source)}.json"
    stored = _load(entry)
    if stored is None:
        stored = _compile(source)
        _save(entry, stored)
    return Artifact(name, json.loads(stored["abi"]), bytes.fromhex(stored["bytecode"]), bytes.fromhex(stored["runtime"]))


def _source(name: str) -> Path:
    for folder in (ROOT, ROOT / "mocks"):
        path = folder / f"{name}.vy"
        if path.is_file():
            return path
    raise UsageError(f"there is no contract {name!r}; the contracts are {', '.join(names())}")


def _fingerprint(source: Path) -> str:
    """The hash of all that determines what ``source`` compiles to."""
    state = sha256(f"vyper {version('vyper')} {EVM_VERSION}".encode())
    for path in [source, *sorted(ROOT.glob("modules/*.vy")), *sorted(ROOT.glob("interfaces/*.vyi"))]:
        data = path.read_bytes()
        state.update(f"\n{path.name} {len(data)}\n".encode() + data)
    return state.hexdigest()[:32]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refstep" / "contracts"


def _compile(source: Path) -> dict[str, str]:
    # Importing the compiler takes a second, which a cached artifact need not pay.
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.compiler.settings import Settings

    bundle = FilesystemInputBundle([ROOT])
    outputs = compile_from_file_input(
        bundle.load_file(source),
        input_bundle=bundle,
        settings=Settings(evm_version=EVM_VERSION),
        output_formats=["abi", "bytecode", "bytecode_runtime"],
    )
    return {
        "abi": json.dumps(outputs["abi"]),
        "bytecode": outputs["bytecode"].removeprefix("0x"),
        "runtime": outputs["bytecode_runtime"].removeprefix("0x"),
    }


def _checksum(stored: dict[str, str]) -> str:
    return sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def _load(entry: Path) -> dict[str, str] | None:
    """The cached compilation, or None where there is none that can be read whole."""
    try:
        document = json.loads(entry.read_bytes())
        stored = document["stored"]
        return stored if document["sha256"] == _checksum(stored) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(entry: Path, stored: dict[str, str]) -> None:
    """Write through a temporary file, so that a reader or a crash never meets half an entry."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False) as out:
            json.dump({"sha256": _checksum(stored), "stored": stored}, out)
        Path(out.name).replace(entry)
    except OSError as error:
        raise UsageError(f"the compiled contract cannot be kept in {entry.parent} ({error}); set XDG_CACHE_HOME") from None
