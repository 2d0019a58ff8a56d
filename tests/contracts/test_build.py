"""Compiled contracts come from the cache when nothing changed, and from the compiler when anything did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from bisection.errors import UsageError
from contracts import build
from contracts.build import Artifact, artifact, names

SMALL = "merkle_mock"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache on disk, and nothing remembered in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    artifact.cache_clear()
    yield tmp_path / "refstep" / "contracts"
    artifact.cache_clear()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the contracts that a test may change, away from any checkout as in an installed package."""
    copytree(build.ROOT, tmp_path / "installed", ignore=lambda _, found: [n for n in found if n == "__pycache__"])
    monkeypatch.setattr(build, "ROOT", tmp_path / "installed")
    return tmp_path / "installed"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what the compiler was asked for."""
    seen: list[str] = []
    compile_source = build._compile

    def counted(source: Path) -> dict[str, str]:
        seen.append(source.stem)
        return compile_source(source)

    monkeypatch.setattr(build, "_compile", counted)
    return seen


def again() -> Artifact:
    """The artifact as a new process would get it."""
    artifact.cache_clear()
    return artifact(SMALL)


def test_a_second_process_does_not_compile(cache: Path, compilations: list[str]) -> None:
    first = artifact(SMALL)
    assert again() == first
    assert compilations == [SMALL]
    assert [path.name.split("-")[0] for path in cache.iterdir()] == [SMALL], "no temporary file stays behind"


def test_an_artifact_is_code_and_interface(cache: Path) -> None:
    built = artifact(SMALL)
    assert {entry["name"] for entry in built.abi} >= {"parent", "fold", "depth_of"}
    assert built.runtime in built.bytecode
    assert 0 < built.runtime_size == len(built.runtime) < len(built.bytecode)


def test_a_corrupt_entry_is_compiled_anew(cache: Path, compilations: list[str]) -> None:
    first = artifact(SMALL)
    (entry,) = cache.iterdir()
    code = first.bytecode.hex()
    another_digit = entry.read_text().replace(code, code[:-1] + ("0" if code[-1] != "0" else "1"))
    another_key = entry.read_text().replace('"abi"', '"ABI"')
    for damage in ("", "{", "[]", another_key, another_digit):
        entry.write_text(damage)
        assert again() == first
    assert len(compilations) == 6


def test_a_changed_source_or_module_is_compiled(cache: Path, sources: Path, compilations: list[str]) -> None:
    first = artifact(SMALL)
    for path in (sources / "mocks" / f"{SMALL}.vy", sources / "modules" / "merkle.vy"):
        path.write_text(path.read_text() + "\n# changed\n")
        again()
    module = sources / "modules" / "merkle.vy"
    module.write_text(module.read_text().replace("INNER: constant(bytes1) = 0x01", "INNER: constant(bytes1) = 0x02"))
    assert again().runtime != first.runtime
    assert len(compilations) == 4


def test_a_contract_that_does_not_exist_is_named_with_those_that_do(cache: Path) -> None:
    with pytest.raises(UsageError, match=r"'Refree'.*Referee"):
        artifact("Refree")
    assert {"DisputeGame", "Referee", "TaskRegistry"} <= set(names())


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        artifact(SMALL)
