"""``refstep doctor``: what this machine does, and why; and whether it computes rightly."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markdown import Markdown

from bisection import reference
from bisection.boundary import Array
from bisection.errors import RefstepError
from bisection.merkle import blob_root
from bisection.nodes import Dot, Input, Map, Node, Output, Read, Ref
from bisection.program import Program, TensorSpec
from bisection.scalar import INSTRUCTIONS, Op, ScalarProgram
from trainer.executor import Executor, compiled_route
from trainer.kernels import dot
from trainer.kernels.hashing import backends, root_of, why_hashlib
from trainer.kernels.toolchain import Toolchain, toolchain
from trainer.lowering.listing import page
from trainer.torch_route import LibraryRoute

__all__ = ["examine", "show", "show_operators"]

FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "sha_ni", "asimddp", "sha2")
"""What the kernels make use of, by Linux's names."""
HASHED = 4 << 20  # bytes at a time
SECONDS = 0.05  # of hashing


def examine() -> dict[str, Any]:
    """What this machine has and does. ``wrong`` lists what it computes wrongly; it is empty where all is well."""
    chain, compiled = toolchain(), compiled_route()
    return {
        "versions": {"refstep": version("refstep"), "python": platform.python_version()}
        | {"torch": torch.__version__, "numpy": np.__version__},
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "compiler": {"path": chain.compiler, "version": chain.version} if isinstance(chain, Toolchain) else {"none": chain},
        "instruction_set": chain.isa if isinstance(chain, Toolchain) else None,
        "route": {"name": "compiled"} if isinstance(compiled, Toolchain) else {"name": "library", "reason": compiled},
        "kernel_cache": _cache(chain) if isinstance(chain, Toolchain) else None,
        "hashing": _hashing(),
        "cuda": _cuda(),
        "wrong": list(_wrong(chain)),
    }


def show(as_json: bool) -> None:
    """Print what ``examine`` finds. Raises RefstepError where something is computed wrongly."""
    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in _rows(found):
            print(f"{name:<17} {value}")
    if found["wrong"]:
        raise RefstepError(f"this machine computes wrongly: {'; '.join(found['wrong'])}")


def show_operators() -> None:
    """Print what can be lowered (docs/operators.md): laid out on a terminal, elsewhere as the page is."""
    console = Console()
    if console.is_terminal:
        console.print(Markdown(page()))
    else:
        print(page(), end="")


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from found["versions"].items()
    processor, compiler, cache, hashing, cuda = (found[k] for k in ("processor", "compiler", "kernel_cache", "hashing", "cuda"))
    yield "processor", f"{processor['model']} ({processor['machine']}), {processor['cores']} cores for this process"
    yield "features", " ".join(processor["features"]) or "none that kernels make use of"
    yield "threads", found["threads"]
    yield "compiler", f"none: {compiler['none']}" if "none" in compiler else f"{compiler['path']}, {compiler['version']}"
    if cache is not None:
        yield "instruction set", found["instruction_set"]
        yield "kernel cache", f"{cache['folder']}, {cache['libraries']} libraries, {cache['bytes'] / 1e6:.1f} MB"
    reason = found["route"].get("reason")
    yield "route", found["route"]["name"] + (f": {reason}" if reason else "")
    yield (
        "hashing",
        f"{hashing['backend']}, about {hashing['mb_per_second']:,} MB/s on one thread"
        + (f": {hashing['reason']}" if hashing["reason"] else ""),
    )
    yield "cuda", ", ".join(cuda["devices"]) or f"none: {cuda['reason']}"
    yield "probes", "; ".join(found["wrong"]) or "every instruction, product and hash has the right bits"


# What is there ----------------------------------------------------------------------------------------------------------


def _processor() -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    rows = [line.partition(":") for line in path.read_text().splitlines()] if path.exists() else []
    said = {key.strip().lower(): value.strip() for key, _, value in reversed(rows)}
    has = set(said.get("flags", said.get("features", "")).split())
    return {
        "model": said.get("model name") or platform.processor() or "unknown",
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "features": [name for name in FEATURES if name in has],
    }


def _cache(chain: Toolchain) -> dict[str, Any]:
    sizes = [path.stat().st_size for path in chain.folder.glob("*.so")]
    return {"folder": str(chain.folder), "libraries": len(sizes), "bytes": sum(sizes)}


def _hashing() -> dict[str, Any]:
    blob = np.random.default_rng(0).bytes(HASHED)
    root_of(blob)
    begun, turns = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        root_of(blob)
        turns += 1
    speed = round(turns * HASHED / (time.perf_counter() - begun) / 1e6)
    return {"backend": backends()[0], "all": list(backends()), "mb_per_second": speed, "reason": why_hashlib()}


def _cuda() -> dict[str, Any]:
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    reason = "torch was built without CUDA" if torch.version.cuda is None else "torch finds no device"
    return {"devices": devices, "reason": None if devices else reason}


# Whether it computes rightly --------------------------------------------------------------------------------------------


def _wrong(chain: Toolchain | str) -> Iterator[str]:
    """What is computed wrongly, on values at the edges of every type."""
    blob = bytes(range(256)) * 33 + b"end"
    yield from (f"hashing by {name}" for name in backends() if root_of(blob, backend=name) != blob_root(blob))
    if isinstance(chain, Toolchain):
        yield from dot.probe(dot.load(chain))
    program, names, data = _probe()
    state = {"step": np.zeros((), np.int64)}
    expected = reference.trace(program, state, data)

    def differing(route: str, found: list[Array]) -> Iterator[str]:
        for number, (a, b) in enumerate(zip(expected, found, strict=True)):
            if a.tobytes() != b.tobytes():
                yield f"{names[number]} on the {route}"

    flat = [data[spec.name] for spec in program.data]
    yield from differing("library route", LibraryRoute(program, flat, torch.device("cpu")).trace([state["step"].reshape(1)]))
    if isinstance(compiled_route(), Toolchain):
        yield from differing("compiled route", Executor(program, data).trace(state))
    for i in range(len(_cuda()["devices"])):
        yield from differing(f"device cuda:{i}", Executor(program, data, f"cuda:{i}").trace(state))


_FLOATS = (
    *(0x0, 0x1, 0x7FFFFF, 0x800000, 0x33800001, 0x3F000000, 0x3F7FFFFF, 0x3F97868C, 0x40200000, 0x4B7FFFFF, 0x4EFFFFFF, 0x4F000000),
    *(0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000),
)
_INTEGERS = (0, 1, 2, 3, 23, 31, 32, 63, 64, 127, 149, 1 << 16, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 53) + 1, (1 << 63) - 1)
_TOGETHER = 8  # instructions in a map, which has as many outputs


def _probe() -> tuple[Program, dict[int, str], dict[str, Array]]:
    """(a program that runs every instruction and a product of every type, what each of its tensors holds, data for it)."""
    registers = [*_FLOATS, *(x - (1 << 31) for x in _FLOATS), *_INTEGERS, *(-x for x in _INTEGERS), -(1 << 63)]
    a, b = (x.reshape(-1) for x in np.meshgrid(np.array(registers), np.array(registers)))
    worst = np.array([-128, 127, 127, -128, 1], np.int8)
    data: dict[str, Array] = {"a": a, "b": b, "c": np.roll(a, 7)}
    data |= {f"i{bits}": np.resize(worst.astype(f"<i{bits // 8}") << (bits - 8), 5 * 64) for bits in (8, 16, 32)}
    specs = [TensorSpec(name, {1: "i8", 2: "i16", 4: "i32", 8: "i64"}[x.itemsize], (x.size,)) for name, x in data.items()]
    nodes: list[Node] = [Input((), (Ref(0, "i64", 1),), "state", 0)]
    nodes += [Input((), (Ref(1 + i, spec.dtype, spec.count),), "data", i) for i, spec in enumerate(specs)]
    refs = [node.outputs[0] for node in nodes[1:]]
    names: dict[int, str] = dict.fromkeys(range(len(nodes)), "an input")
    for first in range(0, len(INSTRUCTIONS), _TOGETHER):
        rows = INSTRUCTIONS[first : first + _TOGETHER]
        scalar = ScalarProgram(3, 1, (), tuple(Op(x.code, *range(len(x.operands))) for x in rows), tuple(range(4, 4 + len(rows))))
        outputs = tuple(Ref(len(names) + i, "i64", a.size) for i in range(len(rows)))
        nodes.append(Map(tuple(refs[:3]), outputs, (a.size,), (Read(0, (1,)),) * 3, scalar))
        names |= {ref.tensor: row.name for ref, row in zip(outputs, rows, strict=True)}
    for ref in refs[3:]:
        nodes.append(Dot((ref, ref), (Ref(len(names), "i64", 25),), 5, 5, 64))
        names[len(names)] = f"the product of {ref.dtype}"
    nodes.append(Output((Ref(0, "i64", 1),), (), 0))
    return Program(tuple(nodes), (TensorSpec("step", "i64", ()),), tuple(specs)), names, data
