"""The C++ compiler of this machine and the shared libraries it made, cached on disk by their content.

Three environment variables steer it: ``REFSTEP_CXX`` names the compiler (``none``: work without one), ``REFSTEP_ISA`` the
instruction set that kernels may use (gcc's ``-march``; default ``native``), ``REFSTEP_KERNELS`` the folder of the cache. None of
them can change a bit of a result: kernels are exact, and tests compare their bits across instruction sets.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from bisection.errors import UnavailableError, UsageError

__all__ = ["FLAGS", "KERNELS", "KERNEL_FLAGS", "Toolchain", "toolchain"]

KERNELS = Path(__file__).parent
"""Where the C++ sources lie."""

_IEEE = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")  # nothing contracted or reordered; errno and traps unseen
_STRAIGHT = (
    "-fno-thread-jumps",
    "-fno-tree-sink",
    "-fno-split-paths",
    "-fno-tree-pre",
    "-fno-code-hoisting",
    "-fno-unswitch-loops",
)
FLAGS = ("-std=c++17", "-O3", *_IEEE, "-fPIC", "-shared", "-pthread", "-w")
KERNEL_FLAGS = _STRAIGHT
"""For generated loops: choices stay choices, as a branch keeps a loop from becoming vectors."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler, what it says it is, the instruction set it targets, and the folder where libraries are kept."""

    compiler: str
    version: str
    isa: str
    folder: Path

    def build(self, sources: Sequence[str | Path], flags: Sequence[str] | None = None, extra: Sequence[str] = ()) -> ctypes.CDLL:
        """The shared library of ``sources`` (paths in trainer/kernels, or C++ text), compiled now unless the cache holds it.

        ``flags`` replace ``-march``, ``extra`` ones are added. Sources are compiled into one library, each as a unit of its own;
        the headers that they include count as part of the content. Raises UnavailableError when the compiler or the cache fails,
        UsageError for a cache that others can write to.
        """
        texts = {f"{i}.cpp": s.read_text() if isinstance(s, Path) else s for i, s in enumerate(sources)}
        chosen = (*(self.target if flags is None else flags), *extra)
        path = self.folder / f"{self._key(texts, chosen)}.so"
        self._secure_folder()
        if not _is_whole(path):
            self._compile(texts, chosen, path)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise UnavailableError(f"the compiled kernels {path} cannot be loaded: {error}") from None

    @property
    def target(self) -> tuple[str, ...]:
        """The flags that choose the instruction set. Vectors are as wide as it has them."""
        return (f"-march={self.isa}", "-mprefer-vector-width=512") if _is_x86() else (f"-mcpu={self.isa}",)

    def _key(self, texts: Mapping[str, str], flags: Sequence[str]) -> str:
        content = sha256()
        headers = _included(texts.values())
        cpu = _cpu() if "native" in " ".join(flags) else ""
        for part in [self.version, cpu, *FLAGS, *flags, *texts.values(), *headers, *headers.values()]:
            content.update(f"{len(part)}:{part}".encode())
        return content.hexdigest()[:32]

    def _secure_folder(self) -> None:
        """Make the cache. What lies there is run, so only its owner may write to it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = self.folder.stat()
        except OSError as error:
            raise self._unusable(error) from None
        if found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
            raise UsageError(f"the kernel cache {self.folder} is not yours alone: set REFSTEP_KERNELS to a folder that is")

    def _unusable(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"kernels cannot be compiled into {self.folder}: {error.strerror or error}")

    def _compile(self, texts: Mapping[str, str], flags: Sequence[str], path: Path) -> None:
        try:
            with TemporaryDirectory(dir=self.folder) as work:
                for name, text in texts.items():
                    (Path(work) / name).write_text(text)
                built = Path(work) / "kernels.so"
                inputs = [str(Path(work) / name) for name in texts]
                command = [self.compiler, *FLAGS, *flags, f"-I{KERNELS}", "-o", str(built), *inputs]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise UnavailableError(f"{self.compiler} cannot compile a kernel: {_complaint(done.stderr)}")
                content = built.read_bytes()
                built.write_bytes(content + sha256(content).digest())  # loaders ignore what follows a library
                built.replace(path)  # at once, so that no other process sees half of it
        except OSError as error:
            raise self._unusable(error) from None


@cache
def toolchain() -> Toolchain | str:
    """This machine's toolchain, or the reason why it has none."""
    if sys.byteorder != "little":
        return "this machine is big-endian"  # kernels read tensors as they are committed to
    wanted = os.environ.get("REFSTEP_CXX")
    if wanted == "none":
        return "REFSTEP_CXX is none"
    names = [wanted] if wanted else ["g++", "clang++", "c++"]
    compiler = next((found for name in names if (found := shutil.which(name))), None)
    if compiler is None:
        return f"no C++ compiler was found (looked for {', '.join(names)})"
    try:
        said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return f"{compiler} does not answer --version"
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("REFSTEP_KERNELS") or cache_home / "refstep" / "kernels").expanduser()
    chain = Toolchain(compiler, said, os.environ.get("REFSTEP_ISA", "native"), folder)
    try:
        can_run = chain.build([KERNELS / "processor.cpp"]).refstep_can_run()
    except (UnavailableError, UsageError) as error:
        return str(error)
    return chain if can_run else f"this processor lacks the instruction set that REFSTEP_ISA names, {chain.isa}"


def _is_whole(path: Path) -> bool:
    """Whether there is a library as it was written: loading half of one would end the process."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return sha256(content[: -sha256().digest_size]).digest() == content[-sha256().digest_size :]


def _complaint(said: str) -> str:
    """The line of a compiler's errors that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "it does not say why")[:300]


def _included(texts: Iterable[str]) -> dict[str, str]:
    """The headers beside the sources that ``texts`` include, directly or not, by name."""
    found: dict[str, str] = {}
    waiting = list(texts)
    while waiting:
        for name in re.findall(r'^#include "(.*)"', waiting.pop(), re.MULTILINE):
            if name not in found:
                found[name] = (KERNELS / name).read_text()
                waiting.append(found[name])
    return found


@cache
def _cpu() -> str:
    """What ``native`` means here: the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return " ".join(os.uname())
    return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags", "Features"))


def _is_x86() -> bool:
    return os.uname().machine in ("x86_64", "i686", "AMD64")
