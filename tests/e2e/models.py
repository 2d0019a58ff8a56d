"""Two training jobs that disputes are about, a convolutional network and a GPT, and where in their programs things are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn
from torch.optim import lr_scheduler

from bisection.boundary import state_tensors
from bisection.nodes import Dot, Gather, Input, Map, Node, Reduce, Ref
from bisection.program import Program
from bisection.scalar import BY_CODE
from sims.digits import digits
from tests.zoo.data import sequences
from trainer.capture import Captured, capture
from trainer.lowering.step import BUFFER, RATE

__all__ = ["JOBS", "PLACES"]

BATCH = {"cnn": 16, "gpt": 4}
LENGTH, HEADS, HEAD, VOCABULARY = 24, 2, 16, 128  # of the GPT, whose other sizes differ from these
SCHEDULED = 8  # steps


class LeNet(nn.Module):
    """Convolutions, batch norm, max pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 12, 3)
        self.dropout, self.hidden, self.out = nn.Dropout(0.25), nn.Linear(48, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        x = F.relu(self.second(x))
        return self.out(F.relu(self.hidden(self.dropout(x.flatten(1)))))


def cnn(learning_rate: float = 0.05) -> Captured:
    """Momentum SGD on digits, with clipping and a schedule."""
    torch.manual_seed(0)
    model, examples = LeNet(), digits()[0]
    data = {"images": examples["images"].reshape(-1, 1, 8, 8), "labels": examples["labels"]}
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4)
    schedule = lr_scheduler.StepLR(optimizer, 3, 0.5)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["images"]), batch["labels"])

    return capture(model, loss, optimizer, data, BATCH["cnn"], schedule=schedule, steps=SCHEDULED, clip_norm=0.5)


class Block(nn.Module):
    """Causal attention and an MLP, each behind a layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.heads(self.before(x)).split(width, 2)
        q, k, v = (part.view(batch, length, HEADS, HEAD).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mixed(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.between(x))


class GPT(nn.Module):
    """Two blocks; the embedding is the output layer as well."""

    def __init__(self) -> None:
        super().__init__()
        width = HEADS * HEAD
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        self.dropout, self.norm = nn.Dropout(0.1), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.out = nn.Linear(width, VOCABULARY, bias=False)
        self.out.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.1)

    def forward(self, text: Tensor) -> Tensor:
        x = self.dropout(self.tokens(text) + self.places(torch.arange(LENGTH)))
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


def gpt(learning_rate: float = 3e-3) -> Captured:
    """AdamW on text, with clipping and a schedule."""
    torch.manual_seed(0)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, SCHEDULED)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        text = batch["text"]
        return F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    return capture(model, loss, optimizer, sequences(LENGTH), BATCH["gpt"], schedule=schedule, steps=SCHEDULED, clip_norm=1.0)


JOBS: dict[str, Callable[..., Captured]] = {"cnn": cnn, "gpt": gpt}


# Places: the number of a tensor of the trace ----------------------------------------------------------------------------


def _dots(program: Program, m: int, n: int, k: int) -> Iterator[Dot]:
    return (node for node in program.nodes if isinstance(node, Dot) and (node.m, node.n, node.k) == (m, n, k))


def _next_state(program: Program, name: str) -> int:
    return next(tensor for tensor, spec in zip(state_tensors(program), program.state, strict=True) if spec.name == name)


def _looked_up(program: Program, scheduled: bool) -> Gather:
    """The first gather of a learning rate, or of examples."""

    def table(node: Gather) -> str | None:
        source = program.nodes[program.producer[node.inputs[0].tensor]]
        return program.data[source.index].name if isinstance(source, Input) and source.source == "data" else None

    gathers = ((table(node), node) for node in program.nodes if isinstance(node, Gather))
    return next(node for name, node in gathers if name is not None and name.startswith(RATE) == scheduled)


def _first_reader(program: Program, tensor: int) -> Node:
    return next(node for node in program.nodes if tensor in [ref.tensor for ref in node.inputs])


def _clipped(program: Program) -> int:
    """It is written beside the norm of all gradients."""
    norm = program.metrics["grad_norm"]
    return next(ref.tensor for ref in program.nodes[program.producer[norm]].outputs if ref.tensor != norm)


def _mask(program: Program, count: int) -> int:
    """The first draw of ``count`` elements: only the generator and the order of the data use exclusive or."""
    maps = (node for node in program.nodes if isinstance(node, Map) and node.outputs[0].count == count)
    return next(node.outputs[0].tensor for node in maps if any(BY_CODE[op.code].name == "xor64" for op in node.scalar.ops))


def _softmax(program: Program, kind: str) -> int:
    """The last tensor by a map, or by a reduce that sums, from the first scores to the product with the values."""
    scores = next(_dots(program, LENGTH, LENGTH, HEAD)).outputs[0].tensor
    product = next(_dots(program, LENGTH, HEAD, LENGTH))
    behind = {scores}
    for node in program.nodes:
        if any(ref.tensor in behind for ref in node.inputs):
            behind |= {ref.tensor for ref in node.outputs}
    ahead = {ref.tensor for ref in product.inputs}
    for node in reversed(program.nodes):
        if any(ref.tensor in ahead for ref in node.outputs):
            ahead |= {ref.tensor for ref in node.inputs}
    nodes = {tensor: program.nodes[program.producer[tensor]] for tensor in behind & ahead}
    return max(t for t, node in nodes.items() if (node.op if isinstance(node, Reduce) else node.NAME) == kind)


def _pooled(program: Program) -> Ref:
    """Where the largest elements of the windows were: the pooling writes them beside the elements."""
    count = BATCH["cnn"] * 6 * 4 * 4
    pairs = [("f32", count), ("i64", count)]
    return next(node.outputs[1] for node in program.nodes if [(ref.dtype, ref.count) for ref in node.outputs] == pairs)


PLACES: dict[str, dict[str, Callable[[Program], int]]] = {
    "gpt": {
        "attention: product of queries and keys": lambda p: next(_dots(p, LENGTH, LENGTH, HEAD)).outputs[0].tensor,
        "attention: sum of the softmax": lambda p: _softmax(p, "sum"),
        "attention: softmax, quantised": lambda p: _softmax(p, "map"),
        "attention: product with the values": lambda p: next(_dots(p, LENGTH, HEAD, LENGTH)).outputs[0].tensor,
        "optimizer: second moment": lambda p: _next_state(p, "exp_avg_sq.blocks.1.heads.weight"),
        "optimizer: parameter": lambda p: _next_state(p, "blocks.0.mixed.weight"),
        "optimizer: tied parameter": lambda p: _next_state(p, "tokens.weight"),
        "data order": lambda p: _looked_up(p, scheduled=False).inputs[1].tensor,
        "learning rate": lambda p: _looked_up(p, scheduled=True).outputs[0].tensor,
        "share of the gradients that clipping leaves": _clipped,
        "dropout": lambda p: _mask(p, BATCH["gpt"] * LENGTH * HEADS * HEAD),
    },
    "cnn": {
        "convolution: windows": lambda p: next(_dots(p, 64, 12, 54)).inputs[0].tensor,
        "convolution: product": lambda p: next(_dots(p, 64, 12, 54)).outputs[0].tensor,
        "max pooling: places": lambda p: _pooled(p).tensor,
        "max pooling, backward": lambda p: _first_reader(p, _pooled(p).tensor).outputs[0].tensor,
        "batch norm: running variance": lambda p: _next_state(p, BUFFER + "norm.running_var"),
        "optimizer: momentum": lambda p: _next_state(p, "momentum_buffer.second.weight"),
        "optimizer: parameter": lambda p: _next_state(p, "hidden.weight"),
        "data order": lambda p: _looked_up(p, scheduled=False).inputs[1].tensor,
        "learning rate": lambda p: _looked_up(p, scheduled=True).outputs[0].tensor,
        "share of the gradients that clipping leaves": _clipped,
        "dropout": lambda p: _mask(p, BATCH["cnn"] * 48),
    },
}
"""By job, what can be corrupted there."""
