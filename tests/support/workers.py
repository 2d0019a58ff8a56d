"""Workers for tests: plans run together in one process, on the reference and with exchanges by numpy; or real processes."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bisection import reference
from bisection.boundary import Array, bind
from bisection.errors import RefstepError
from bisection.program import Program
from trainer.parallel import run_worker
from trainer.parallel.mesh import Held, Mesh
from trainer.parallel.plan import Plan


def sent(part: Array, wire: str) -> Array:
    """``part`` as it goes over the wire, where it must fit."""
    narrow = part.astype(reference.NUMPY_TYPES[wire])
    assert narrow.astype(part.dtype).tobytes() == part.tobytes()
    return narrow


def places(count: int, cuts: Held, mesh: Mesh, rank: int) -> Array:
    """The addresses that ``rank`` holds of a tensor of ``count`` elements."""
    address = np.arange(count)
    at = mesh.coordinates(rank)
    inside = np.ones(count, bool)
    for size, block, own in zip(mesh.sizes, cuts or (), at, strict=bool(cuts)):
        inside &= address // block % size == own
    return address[inside]


def assembled(parts: Sequence[Array], cuts: Held, mesh: Mesh) -> Array:
    """The whole tensor from every worker's part. Whole tensors must be equal."""
    if cuts is None:
        assert all(part.tobytes() == parts[0].tobytes() for part in parts)
        return parts[0]
    whole = np.zeros(sum(part.size for part in parts), parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[places(whole.size, cuts, mesh, rank)] = part
    return whole


def run(plans: Sequence[Plan], given: Sequence[dict[int, Array]]) -> list[dict[int, Array]]:
    """Every worker's tensors after all rounds, from its tensors before."""
    tensors = [dict(own) for own in given]
    for number in range(len(plans[0].rounds)):
        for plan, own in zip(plans, tensors, strict=True):
            for node in plan.rounds[number].nodes:
                outputs = reference.run_node(node, [own[ref.tensor] for ref in node.inputs])
                own.update({ref.tensor: output for ref, output in zip(node.outputs, outputs, strict=True)})
        exchange = plans[0].rounds[number]
        for collect in exchange.collects:
            whole = assembled([sent(own[collect.source.tensor], collect.wire) for own in tensors], collect.cuts, plans[0].mesh)
            whole = whole.astype(reference.NUMPY_TYPES[collect.target.dtype])
            for own in tensors:
                own[collect.target.tensor] = whole
        for combine in exchange.combines:
            stacked = np.stack([sent(own[combine.source.tensor], combine.wire) for own in tensors])
            bits = stacked.view(np.int32) if combine.wire == "f32" else stacked
            total = (bits.sum(0, dtype=bits.dtype) if combine.op == "sum" else bits.max(0)).view(stacked.dtype)
            total = total.astype(reference.NUMPY_TYPES[combine.target.dtype])
            for own in tensors:
                own[combine.target.tensor] = total
    return tensors


def simulate(plans: Sequence[Plan], program: Program, state: Mapping[str, Array], data: Mapping[str, Array]) -> list[Array]:
    """The trace of one step as the workers compute it: every tensor of the program, put together."""
    boundary = bind(program, state, data)
    given = {ref.tensor: boundary[source][index].reshape(-1) for ref, source, index in plans[0].boundary}
    tensors = run(plans, [given] * len(plans))
    return [
        assembled(
            [own[plan.held[i][0].tensor] for plan, own in zip(plans, tensors, strict=True)], plans[0].held[i][1], plans[0].mesh
        )
        for i in range(len(program.tensors))
    ]


# Real processes

Job = tuple[Program, Mapping[str, Array], Mapping[str, Array]]
"""A program, its first state and its data."""


@dataclass(frozen=True)
class Run:
    """A job that ``world`` workers run together, recorded in ``folder``. They meet at ``port``. Others than worker 0 are given
    ``others`` instead, if there is such a job."""

    world: int
    job: Job
    folder: Path
    port: int
    others: Job | None = None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def take_part(rank: int, runs: Sequence[Run], until: int, results: SimpleQueue[Any]) -> None:
    """Process ``rank``, a worker in all runs of more than ``rank`` workers. Puts (folder, rank, history root or error) for each."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
    for run in runs:
        if rank >= run.world:
            continue
        os.environ |= {"WORLD_SIZE": str(run.world), "MASTER_PORT": str(run.port)}

        try:
            job = run.others if rank and run.others else run.job
            told = partial(_tell, run.folder.with_suffix(".steps"))
            results.put((run.folder, rank, run_worker(run.folder, *job, until, timeout=60, progress=told)))
        except RefstepError as error:
            results.put((run.folder, rank, error))


def _tell(file: Path, step: int, metrics: Mapping[str, float]) -> None:
    file.write_text(str(step))


def start_workers(runs: Sequence[Run], until: int) -> tuple[list[Any], SimpleQueue[Any]]:
    """Processes, as many as the largest of ``runs`` needs, and the queue of their results."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    ranks = range(max(run.world for run in runs))
    processes = [context.Process(target=take_part, args=(rank, runs, until, results)) for rank in ranks]
    for process in processes:
        process.start()
    return processes, results


def gather(processes: Sequence[Any], results: SimpleQueue[Any], number: int) -> list[Any]:
    """The results that processes put until there are ``number``, or nobody is left to put any. Then the processes are ended."""
    found: list[Any] = []
    deadline = time.monotonic() + 300
    try:
        while len(found) < number and time.monotonic() < deadline:
            working = any(process.is_alive() for process in processes)
            while not results.empty():
                found.append(results.get())
            if not working:
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return found
