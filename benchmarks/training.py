"""Training steps with the reference's bits against plain PyTorch: time, memory, first step, growth, other instruction sets.

python -m benchmarks.training                                                     all tables, into benchmarks/results
python -m benchmarks.training --only gpt --bits 8 --threads 1 --repeats 5         a part, printed
python -m benchmarks.training --profile gpt --bits 8                              where a step's time goes

Every ratio compares two contenders of one process that took turns (benchmarks/_timing.py), and is the median over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks._models import TASKS
from benchmarks._profile import profile
from benchmarks._timing import COMMITTED, COMPILED, DETERMINISTIC, EAGER, ask
from benchmarks.disputes import table
from trainer.kernels.hashing import backends
from trainer.kernels.toolchain import toolchain

RESULTS = Path(__file__).parent / "results"
MODELS = ("mlp", "resnet", "gpt")
GROWTH = ("gpt-1m", "gpt", "gpt-30m")
BITS = (8, 15, 20)
FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vbmi", "avx512_vnni", "avx512_bf16", "amx_int8", "sha_ni")
ONLY_AVX2 = {"REFSTEP_ISA": "haswell"}
TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
NO_COMPILER = {"REFSTEP_CXX": "none"}

Environment = dict[str, str] | None


@dataclass(frozen=True)
class Found:
    """What a process found of one task's contenders. ``of`` is the kind of time: "wall" or "cpu"."""

    answer: dict[str, Any]

    def ratio(self, contender: str, to: str = EAGER, of: str = "wall") -> float:
        """How many times as long a step takes."""
        taken = self.answer["taken"]
        return median(a / b for a, b in zip(taken[contender][of], taken[to][of], strict=True))

    def milliseconds(self, contender: str, of: str = "wall") -> float:
        """A step's time."""
        return 1e3 * median(self.answer["taken"][contender][of])

    @property
    def fastest(self) -> str:
        """The faster of eager and compiled float32."""
        return min((c for c in (EAGER, COMPILED) if c in self.answer["taken"]), key=self.milliseconds)

    def overhead(self, bits: int, of: str = "wall") -> str:
        """By how many per cent commitments make a step longer."""
        return f"{100 * (self.ratio(f'{bits}{COMMITTED}', str(bits), of) - 1):+.0f} %"


class Bench:
    """The tables, as asked for on the command line. Answers are kept: the same question is asked once."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.answers: dict[str, Any] = {}
        self.tasks = asked.only or MODELS

    def ask(self, question: str, task: str, setting: str = "", environment: Environment = None, **options: Any) -> Any:
        """The answer of a process of its own under an environment that ``setting`` names."""
        key = json.dumps([question, task, setting, options])
        if key not in self.answers:
            print(f"{time.strftime('%H:%M:%S')} {key}", file=sys.stderr, flush=True)
            self.answers[key] = ask(question, task, environment, **options)
        return self.answers[key]

    def found(
        self, task: str, threads: int, bits: Sequence[int], compiled: bool, setting: str = "", environment: Environment = None
    ) -> Found:
        """Times of steps."""
        limits = {"repeats": self.asked.repeats, "seconds": self.asked.seconds}
        options = {"bits": list(bits), "threads": threads, "compiled": compiled, **limits}
        return Found(self.ask("steps", task, setting, environment, **options))

    # Sections: (title, table) ---------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[tuple[str, str]]:
        """Every contender against eager float32."""
        for task in self.tasks:
            for threads in self.asked.threads:
                found = self.found(task, threads, self.asked.bits, self.asked.compile)
                rows = [self._plain_row(found, name) for name in (EAGER, DETERMINISTIC, COMPILED) if name in found.answer["taken"]]
                rows += [self._exact_row(found, bits) for bits in self.asked.bits]
                size = f"{found.answer['parameters'] / 1e6:.1f} million parameters, {found.answer['state'] / 1e6:.0f} MB of state"
                header = ("step", "time", "processor time", "of the faster float32", "with commitments", "processor time", "more")
                yield f"{TASKS[task].what} ({size}), {_count(threads)}", table(header, rows)

    def _plain_row(self, found: Found, name: str) -> tuple[str, ...]:
        times = f"{found.milliseconds(name):,.1f} ms" if name == EAGER else _ratio(found.ratio(name))
        processor = f"{found.milliseconds(name, 'cpu'):,.1f} ms" if name == EAGER else _ratio(found.ratio(name, of="cpu"))
        return name, times, processor, _ratio(found.ratio(name, found.fastest)), "", "", ""

    def _exact_row(self, found: Found, bits: int) -> tuple[str, ...]:
        plain, committed = str(bits), f"{bits}{COMMITTED}"
        alone = [_ratio(found.ratio(plain)), _ratio(found.ratio(plain, of="cpu")), _ratio(found.ratio(plain, found.fastest))]
        beside = [_ratio(found.ratio(committed, found.fastest)), _ratio(found.ratio(committed, of="cpu"))]
        return f"{bits} bits", *alone, *beside, found.overhead(bits)

    def memory(self) -> Iterator[tuple[str, str]]:
        """Peaks above a process that has imported everything and has no model yet."""
        rows = []
        for task in self.tasks:
            peaks = {c: self.ask("memory", task, contender=c)["bytes"] for c in self._remembered()}
            rows.append((task, f"{peaks[EAGER] / 1e6:,.0f} MB", *(_ratio(peaks[c] / peaks[EAGER]) for c in self._remembered()[1:])))
        header = ("task", EAGER, *(c.replace(COMMITTED, " bits, committed") for c in self._remembered()[1:]))
        yield "Peak memory, times that of eager float32", table(header, rows)

    def _remembered(self) -> list[str]:
        return [EAGER, *(f"{bits}{COMMITTED}" for bits in self.asked.bits)]

    def first(self) -> Iterator[tuple[str, str]]:
        """Before the first step has ended."""
        rows = []
        for task in self.tasks:
            for bits in self.asked.bits:
                with TemporaryDirectory(prefix="refstep-kernels-") as folder:
                    kernels = {"REFSTEP_KERNELS": folder}
                    cold, warm = (self.ask("first", task, setting, kernels, bits=bits) for setting in ("no kernels", "kernels"))
                rows.append((f"{task}, {bits} bits", *(f"{x:.1f}" for x in (warm["capture"], cold["first"], warm["first"]))))
        header = ("task", "capture, s", "first step, no kernels cached, s", "kernels cached, s")
        yield "Capture, and from there to the end of the first step", table(header, rows)

    def growth(self) -> Iterator[tuple[str, str]]:
        """The same GPT, smaller and larger, and with more tokens a step."""
        threads = max(self.asked.threads)
        rows = []
        for task in (*GROWTH, "gpt-16k"):
            bits = self.asked.bits if task in self.tasks else [min(self.asked.bits)]
            compiled = task in self.tasks and self.asked.compile
            found = self.found(task, threads, bits, compiled)
            least, answer = min(bits), found.answer
            hashing = f"{100 * answer['hashing'] / found.milliseconds(str(least), 'cpu') * 1e3:.1f} %"
            ratios = (found.ratio(str(least)), found.ratio(f"{least}{COMMITTED}"))
            what = (TASKS[task].what, f"{answer['parameters'] / 1e6:.1f}", f"{found.milliseconds(EAGER):,.0f}")
            rows.append((*what, *map(_ratio, ratios), found.overhead(least), found.overhead(least, "cpu"), hashing))
        bits = f"{min(self.asked.bits)} bits"
        header = (
            "task",
            "million parameters",
            "eager float32, ms",
            bits,
            "committed",
            "more",
            "more processor time",
            "hashing alone",
        )
        yield f"Growth, {_count(threads)}, times eager float32", table(header, rows)

    def settings(self) -> Iterator[tuple[str, str]]:
        """Other instruction sets, and no compiler."""
        bits = min(self.asked.bits)
        rows = []
        for setting, task, environment in (
            ("no VNNI, torch with all that there is", "gpt", ONLY_AVX2),
            ("no VNNI, torch with AVX2 as well", "gpt", {**ONLY_AVX2, **TORCH_AVX2}),
            ("no C++ compiler: library route", "mlp", NO_COMPILER),
        ):
            found = self.found(task, 1, [bits], False, setting, environment)
            ratios = [found.ratio(name, of=of) for name in (str(bits), f"{bits}{COMMITTED}") for of in ("wall", "cpu")]
            rows.append((setting, task, f"{found.milliseconds(EAGER):,.0f}", *map(_ratio, ratios)))
        header = ("setting", "task", "eager float32, ms", "time", "processor time", "with commitments", "processor time")
        yield f"Other settings, {bits} bits, {_count(1)}, times eager float32", table(header, rows)


SECTIONS: dict[str, Callable[[Bench], Iterator[tuple[str, str]]]] = {
    "steps": Bench.steps,
    "memory": Bench.memory,
    "first": Bench.first,
    "growth": Bench.growth,
    "settings": Bench.settings,
}


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _count(threads: int) -> str:
    return f"{threads} thread" + "s" * (threads > 1)


def machine() -> str:
    """What this runs on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    said = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in cpuinfo) if colon}
    flags = [flag for flag in FLAGS if flag in said.get("flags", "").split()]
    chain = toolchain()
    compiler = chain if isinstance(chain, str) else f"{chain.version}, -march={chain.isa}"
    processor = f"{said.get('model name', platform.processor())}, {os.cpu_count()} cores, {' '.join(flags)}"
    software = f"{platform.system()}; Python {platform.python_version()}; torch {torch.__version__}; {compiler}"
    return f"{processor}; {software}; SHA-256 by {backends()[0]}. Load before: {os.getloadavg()[0]:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TASKS, metavar="TASK", help=f"tasks of {', '.join(TASKS)}")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="default: all, or steps with --only")
    parser.add_argument("--bits", nargs="+", type=int, default=BITS, help="operand bits")
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--repeats", type=int, default=9, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=60, help="after which no repeat but the first three begins")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave out torch.compile")
    parser.add_argument("--save", action="store_true", help="also where it is not the whole")
    parser.add_argument("--profile", choices=TASKS, metavar="TASK", help="only print where the time of its step goes")
    parser.add_argument("--most", type=int, default=20, help="operations in a profile")
    return parser.parse_args()


def main() -> None:
    """Print the tables, or a profile."""
    asked = _arguments()
    if asked.profile:
        for bits in asked.bits:
            print(f"{TASKS[asked.profile].what}, {bits} bits, {_count(asked.threads[0])}\n")
            print(profile(TASKS[asked.profile], bits, asked.threads[0], asked.most), "\n")
        return
    bench, parts = Bench(asked), [machine()]
    print(parts[0], flush=True)
    saves = asked.save or not (asked.only or asked.sections)
    for name in asked.sections or (["steps"] if asked.only else SECTIONS):
        for title, made in SECTIONS[name](bench):
            parts.append(f"**{title}**\n\n{made}")
            print(f"\n{parts[-1]}", flush=True)
            if saves:
                _save(parts, bench.answers)


def _save(parts: list[str], answers: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.md").write_text("\n\n".join(parts) + "\n")
    (RESULTS / "training.json").write_text(json.dumps({"machine": parts[0], "answers": answers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
