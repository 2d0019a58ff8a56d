"""Exchanges between workers over torch.distributed: all of one round together, in as few messages as their types allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from bisection.errors import UnavailableError
from bisection.nodes import DTYPES
from trainer.faces import TORCH_TYPES
from trainer.parallel.mesh import Mesh
from trainer.parallel.plan import Collect, Combine, Round

__all__ = ["Exchange"]

ALIGNMENT = 8  # bytes: each worker's message is padded to this, so that any element type can be seen in it


class Exchange:
    """What the workers of ``group`` say to each other. Raises UnavailableError from every method when a worker is gone."""

    def __init__(self, group: dist.ProcessGroup | None, device: torch.device) -> None:
        self._group, self._device = group, device
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)

    def run(self, work: Round, mesh: Mesh, tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The targets of a round's exchanges, by number, from the flat tensors that the round has left."""
        found: dict[int, Tensor] = {}
        if work.collects:
            found.update(self._collect(work.collects, mesh, tensors))
        for op, wire in dict.fromkeys((combine.op, _added_as(combine.wire)) for combine in work.combines):
            alike = [c for c in work.combines if (c.op, _added_as(c.wire)) == (op, wire)]
            found.update(self._combine(op, wire, alike, tensors))
        return found

    def _collect(self, collects: Sequence[Collect], mesh: Mesh, tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        collects = sorted(collects, key=lambda collect: -DTYPES[collect.wire].size)  # the widest first: then all are aligned
        sent = [tensors[c.source.tensor].to(self._device, TORCH_TYPES[c.wire]).view(torch.uint8) for c in collects]
        padding = -sum(len(part) for part in sent) % ALIGNMENT
        message = torch.cat([*sent, torch.zeros(padding, dtype=torch.uint8, device=self._device)])
        rows = torch.empty(self.world, len(message), dtype=torch.uint8, device=self._device)
        self._call("collect", lambda: dist.all_gather(list(rows), message, group=self._group))
        found, start = {}, 0
        for collect, part in zip(collects, sent, strict=True):
            pieces = torch.cat([row[start : start + len(part)] for row in rows]).view(TORCH_TYPES[collect.wire])
            found[collect.target.tensor] = _joined(pieces, collect, mesh).to(TORCH_TYPES[collect.target.dtype])
            start += len(part)
        return found

    def _combine(self, op: str, wire: torch.dtype, combines: Sequence[Combine], tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        parts = []
        for combine in combines:
            part = tensors[combine.source.tensor].to(self._device)
            parts.append(part.view(wire) if combine.wire == "f32" else part.to(wire))
        message = torch.cat(parts)
        how = dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX
        self._call("combine", lambda: dist.all_reduce(message, op=how, group=self._group))
        results = torch.split(message, [len(part) for part in parts])
        return {
            c.target.tensor: result.view(torch.float32) if c.wire == "f32" else result.to(TORCH_TYPES[c.target.dtype])
            for c, result in zip(combines, results, strict=True)
        }

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Worker 0's ``tensor``, on every worker; the others give one of the same type and size."""
        message = tensor.to(self._device).reshape(-1).view(torch.uint8).clone()
        self._call("broadcast", lambda: dist.broadcast(message, group=self._group, group_src=0))
        return message.view(tensor.dtype).reshape(tensor.shape)

    def agree(self, value: bytes) -> bool:
        """Whether every worker gives the same ``value``, of a size known to all."""
        message = torch.frombuffer(bytearray(value), dtype=torch.uint8).to(self._device)
        rows = torch.empty(self.world, len(message), dtype=torch.uint8, device=self._device)
        self._call("compare", lambda: dist.all_gather(list(rows), message, group=self._group))
        return bool((rows == rows[0]).all())

    def _call(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UnavailableError(
                f"worker {self.rank} of {self.world} could not {what} tensors with the others: one of them is gone or late; "
                f"start all workers again and they go on from the last checkpoint ({reason})"
            ) from None


def _added_as(wire: str) -> torch.dtype:
    return torch.int32 if wire == "f32" else TORCH_TYPES[wire]


def _joined(pieces: Tensor, collect: Collect, mesh: Mesh) -> Tensor:
    """The whole tensor from all workers' parts, one after the other."""
    layout = mesh.layout(collect.target.count, collect.cuts)
    free = [i for i, dimension in enumerate(layout) if dimension.axis is None]
    view = pieces.view(*mesh.sizes, *(layout[i].size for i in free))
    order = [len(mesh.sizes) + free.index(i) if d.axis is None else d.axis for i, d in enumerate(layout)]
    return view.permute(order).reshape(-1)
