"""The cache of compiled libraries, and what happens where something is amiss: one clear reason, and the library route."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bisection.errors import UnavailableError, UsageError
from trainer.executor import compiled_route
from trainer.kernels import toolchain as module
from trainer.kernels.toolchain import KERNELS, Toolchain, toolchain

CHAIN = toolchain()
PROCESSOR = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
SEVEN = 'extern "C" int seven() { return 7; }'

needs_compiler = pytest.mark.skipif(isinstance(CHAIN, str), reason=str(CHAIN))


@pytest.fixture
def chain(tmp_path: Path) -> Toolchain:
    """This machine's compiler with a cache of its own."""
    assert isinstance(CHAIN, Toolchain)
    return replace(CHAIN, folder=tmp_path / "deep" / "cache")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is remembered about this machine, before and after."""
    toolchain.cache_clear()
    compiled_route.cache_clear()
    yield
    toolchain.cache_clear()
    compiled_route.cache_clear()


def without_compiler(chain: Toolchain) -> Toolchain:
    return replace(chain, compiler="/nowhere/c++")


@needs_compiler
def test_what_is_cached_is_not_compiled_again(chain: Toolchain) -> None:
    assert chain.build([SEVEN]).seven() == 7
    assert without_compiler(chain).build([SEVEN]).seven() == 7
    with pytest.raises(UnavailableError, match="cannot be compiled into"):
        without_compiler(chain).build([SEVEN.replace("7", "8")])


@needs_compiler
def test_everything_that_could_change_code_is_in_the_key(chain: Toolchain) -> None:
    other = 'extern "C" int seven() { return 8; }'
    ways = [
        chain.build([SEVEN]),
        chain.build([SEVEN], flags=[]),
        chain.build([SEVEN], extra=["-DX"]),
        chain.build([SEVEN, "int x;"]),
        chain.build([other]),
        replace(chain, isa="x86-64").build([SEVEN]) if module._is_x86() else chain.build([SEVEN], extra=["-DY"]),
        replace(chain, version="another").build([SEVEN]),
    ]
    assert [way.seven() for way in ways] == [7, 7, 7, 7, 8, 7, 7]
    assert len(list(chain.folder.glob("*.so"))) == len(ways)
    assert not [path for path in chain.folder.iterdir() if path.suffix != ".so"]


@needs_compiler
def test_headers_are_in_the_key(chain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that headers include."""
    sources = tmp_path / "sources"
    sources.mkdir()
    monkeypatch.setattr(module, "KERNELS", sources)
    (sources / "outer.hpp").write_text('#include "inner.hpp"\n')
    for value in (7, 8):
        (sources / "inner.hpp").write_text(f"#define VALUE {value}\n")
        assert chain.build(['#include "outer.hpp"\nextern "C" int seven() { return VALUE; }']).seven() == value


@needs_compiler
def test_a_damaged_library_is_compiled_again(chain: Toolchain) -> None:
    """Loading half of one would end the process."""
    chain.build([SEVEN])
    (path,) = chain.folder.iterdir()
    whole = path.read_bytes()
    damaged = [whole[:kept] for kept in (0, 1, 40, 1000, 5000, -1000, -1)]
    for number, content in enumerate([*damaged, whole[:3000] + bytes(500) + whole[3500:], bytes(len(whole))]):
        another = replace(chain, version=str(number))  # a path that this process has not loaded yet
        place = chain.folder / f"{another._key({'0.cpp': SEVEN}, chain.target)}.so"
        place.write_bytes(content)
        assert another.build([SEVEN]).seven() == 7
        assert place.read_bytes() == whole


@needs_compiler
def test_a_folder_that_cannot_be_made_is_one_clear_error(chain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"^kernels cannot be compiled into .*file/cache: Not a directory$"):
        replace(chain, folder=tmp_path / "file" / "cache").build([SEVEN])


@needs_compiler
@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_one_clear_error(chain: Toolchain) -> None:
    chain.folder.mkdir(parents=True, mode=0o500)
    with pytest.raises(UnavailableError, match="Permission denied"):
        chain.build([SEVEN])


@needs_compiler
def test_a_folder_that_others_can_write_to_is_refused_even_for_what_is_cached(
    chain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.build([SEVEN])
    chain.folder.chmod(0o777)
    with pytest.raises(UsageError, match="is not yours alone: set REFSTEP_KERNELS"):
        chain.build([SEVEN])
    chain.folder.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: chain.folder.stat().st_uid + 1)
    with pytest.raises(UsageError, match="is not yours alone"):
        chain.build([SEVEN])


@needs_compiler
def test_what_the_compiler_refuses_is_one_line(chain: Toolchain) -> None:
    with pytest.raises(UnavailableError, match=r"cannot compile a kernel: .*error") as refused:
        chain.build(["int x = ;\nint y = ;"])
    assert len(str(refused.value).splitlines()) == 1
    assert list(chain.folder.iterdir()) == []


@needs_compiler
def test_many_threads_and_processes_compile_the_same_at_once(chain: Toolchain) -> None:
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                os._exit(chain.build([SEVEN]).seven())
            finally:
                os._exit(1)
    with ThreadPoolExecutor(3) as pool:
        libraries = list(pool.map(lambda _: chain.build([SEVEN]), range(3)))
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7, 7, 7]
    assert [library.seven() for library in libraries] == [7, 7, 7]
    assert len(list(chain.folder.iterdir())) == 1


# The reasons ------------------------------------------------------------------------------------------------------------


def script(folder: Path, text: str) -> str:
    path = folder / "compiler"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("none", "REFSTEP_CXX is none"),
        ("no-such-compiler", r"no C\+\+ compiler was found \(looked for no-such-compiler\)"),
        ("#!/bin/sh\nexit 3\n", "does not answer --version"),
        ("#!/bin/sh\n", "does not answer --version"),
        ("#!/nowhere/interpreter\n", "does not answer --version"),
        (
            "#!/bin/sh\n[ $1 = --version ] && echo odd 1.0 && exit\necho first: error: out of registers >&2\nexit 1\n",
            "out of registers",
        ),
        ("#!/bin/sh\n[ $1 = --version ] && echo odd 1.0 && exit\nexit 1\n", "it does not say why"),
        ("#!/bin/sh\necho odd 1.0\n", "cannot be compiled into"),
    ],
)
def test_a_machine_without_a_working_compiler_has_a_reason(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str, reason: str
) -> None:
    monkeypatch.setenv("REFSTEP_CXX", script(tmp_path, compiler) if compiler.startswith("#!") else compiler)
    monkeypatch.setenv("REFSTEP_KERNELS", str(tmp_path / "kernels"))
    found = compiled_route()
    assert isinstance(found, str) and len(found.splitlines()) == 1
    assert re.search(reason, found)


@needs_compiler
def test_an_unknown_instruction_set_has_a_reason(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFSTEP_ISA", "abacus")
    monkeypatch.setenv("REFSTEP_KERNELS", str(tmp_path))
    assert "abacus" in str(compiled_route())


@needs_compiler
@pytest.mark.skipif(os.uname().machine != "x86_64" or "avx_vnni" in PROCESSOR, reason="this processor has all that is asked for")
def test_an_instruction_set_that_the_processor_lacks_has_a_reason(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFSTEP_ISA", "alderlake")  # the first with AVX-VNNI
    monkeypatch.setenv("REFSTEP_KERNELS", str(tmp_path))
    assert compiled_route() == "this processor lacks the instruction set that REFSTEP_ISA names, alderlake"


@needs_compiler
def test_the_folder_is_the_one_that_is_set(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFSTEP_KERNELS", str(tmp_path / "a"))
    assert isinstance(toolchain(), Toolchain) and len(list((tmp_path / "a").glob("*.so"))) == 1
    toolchain.cache_clear()
    monkeypatch.delenv("REFSTEP_KERNELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = toolchain()
    assert isinstance(found, Toolchain) and found.folder == tmp_path / "refstep" / "kernels"


@needs_compiler
def test_every_header_is_found(chain: Toolchain) -> None:
    """Sources include by name what lies beside them."""
    for path in KERNELS.glob("*.cpp"):
        assert all((KERNELS / name).is_file() for name in module._included([path.read_text()]))
