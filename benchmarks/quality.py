"""What a model learns at 8, 15 and 20 operand bits, next to plain PyTorch in float32 and with bfloat16 autocast (docs/quality.md).

python -m benchmarks.quality

A GPT on English text and a small ResNet on handwritten digits. For each seed all variants start from the same weights and see the
same examples in the same order, that of the program. Then the gradients of every model in tests/zoo against binary64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import mean, stdev
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._world import machine
from benchmarks.disputes import table
from benchmarks.text import corpus, windows
from sims.digits import digits
from tests.support.lowering import Workbench
from tests.zoo.catalogue import JOBS
from tests.zoo.eager import compare
from tests.zoo.images import ResNet, classify
from tests.zoo.language import GPT, GPTConfig, next_token
from trainer import schedules
from trainer.capture import capture
from trainer.executor import Executor
from trainer.lowering.order import batch_indices

SEEDS = (1, 2, 3)
VARIANTS = {"float32": None, "bfloat16 autocast": None, "8 bits": 8, "15 bits": 15, "20 bits": 20}
"""How products are computed: the operand bits of a program; None: by PyTorch."""

LENGTH = 64
"""Characters that the GPT sees before it names the next one."""


@dataclass(frozen=True)
class Study:
    """A model, how it is trained, and the figure that says what it has learnt, larger or smaller being better."""

    title: str
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    data: dict[str, Tensor]
    batch_size: int
    steps: int
    learning_rate: float
    score: Callable[[nn.Module], float]
    form: str

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW, for any variant."""
        return torch.optim.AdamW(model.parameters(), lr=self.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)

    @property
    def schedule(self) -> list[float]:
        """The factor of the learning rate at every step."""
        return schedules.cosine(self.steps, warmup=self.steps // 10, floor=0.1)


def main() -> None:
    """Train every variant of both studies, as many at once as there are cores, and print their tables."""
    started = perf_counter()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        running = {
            name: {variant: [pool.submit(trained, name, variant, seed) for seed in SEEDS] for variant in VARIANTS}
            for name in STUDIES
        }
        for name, variants in running.items():
            study = STUDIES[name]()
            parameters = sum(p.numel() for p in study.model().parameters())
            scores = {variant: [run.result() for run in runs] for variant, runs in variants.items()}
            print(f"{name}, {study.title}: {parameters:,} parameters, {study.steps} steps of {study.batch_size} examples\n")
            seeds = [f"seed {seed}" for seed in SEEDS]
            header = ("variant", "mean", "standard deviation", *seeds, "farthest from float32", "on average")
            print(table(header, _rows(study, scores)), end="\n\n", flush=True)
        print("Worst relative error of a parameter's gradient\n")
        print(
            table(("model", "parameters", "bfloat16 autocast", "15 bits", "20 bits"), pool.map(gradient_errors, JOBS)), end="\n\n"
        )
    print(f"{machine()}; {perf_counter() - started:.0f} s")


def trained(name: str, variant: str, seed: int) -> float:
    """The score of the study ``name`` after training."""
    torch.set_num_threads(1)
    study, operand_bits = STUDIES[name](), VARIANTS[variant]
    torch.manual_seed(seed)
    model = study.model()
    if operand_bits is None:
        _train_eagerly(study, model, seed, bfloat16=variant != "float32")
    else:
        _train_exactly(study, model, seed, operand_bits)
    model.eval()
    with torch.no_grad():
        return study.score(model)  # in float32 and PyTorch for every variant


def gradient_errors(name: str) -> tuple[str, ...]:
    """The row of a model of the zoo: its name, how many parameters it has, and errors. Gradients that cancel are left out."""
    torch.set_num_threads(1)
    captured = JOBS[name].few.capture
    found = [comparison for comparison in compare(captured, 15, 20) if not comparison.cancelled]
    worst = [max(c.bfloat16 for c in found), *(max(c.error for c in found if c.operand_bits == bits) for bits in (15, 20))]
    return name, f"{sum(p.numel() for p in captured.model.parameters()):,}", *(f"{error:.1e}" for error in worst)


def gpt() -> Study:
    """Four layers, 128 wide; the score is the loss on the last tenth of the text."""
    text = corpus()
    cut = len(text) * 9 // 10
    validation = windows(text[cut:], LENGTH)[::3]
    config = GPTConfig(block_size=LENGTH, n_layer=4, n_head=4, n_embd=128)

    def score(model: nn.Module) -> float:
        return mean(float(next_token(model, {"text": part})) for part in validation.split(32))

    data = {"text": windows(text[:cut], LENGTH)}
    return Study("validation loss", lambda: GPT(config), next_token, data, 8, 250, 2e-3, score, ".4f")


def cnn() -> Study:
    """The zoo's ResNet; the score is the percentage of 297 test digits that it gets right."""
    training, test = ({"image": d["images"].reshape(-1, 1, 8, 8), "label": d["labels"]} for d in digits())

    def score(model: nn.Module) -> float:
        return 100 * float((model(test["image"]).argmax(1) == test["label"]).double().mean())

    return Study("test accuracy in %", lambda: ResNet(16), classify, training, 32, 300, 3e-3, score, ".2f")


STUDIES = {"GPT": gpt, "CNN": cnn}


def _train_eagerly(study: Study, model: nn.Module, seed: int, bfloat16: bool) -> None:
    """The usual training loop."""
    optimizer = study.optimizer(model)
    order = _order(study, seed)
    for factor in study.schedule:
        examples = next(order)
        optimizer.param_groups[0]["lr"] = study.learning_rate * factor
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = study.loss(model, {name: tensor[examples] for name, tensor in study.data.items()})
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _train_exactly(study: Study, model: nn.Module, seed: int, operand_bits: int) -> None:
    """The captured program."""
    settings: Mapping[str, Any] = {"operand_bits": operand_bits, "seed": seed, "schedule": study.schedule, "clip_norm": 1.0}
    captured = capture(model, study.loss, study.optimizer(model), study.data, study.batch_size, **settings)
    executor = Executor(captured.program, captured.data)
    state = captured.state
    for _ in range(study.steps):
        state, _ = executor.step(state)
    captured.load_into(model, state)


def _order(study: Study, seed: int) -> Iterator[Tensor]:
    """The examples of each step, as the program computes them."""
    bench = Workbench()
    count = len(next(iter(study.data.values())))
    bench.compile(batch_indices(bench.builder, bench.step, study.batch_size, count, seed))
    for step in range(study.steps):
        yield torch.from_numpy(bench.results(step)[0])


def _rows(study: Study, scores: Mapping[str, list[float]]) -> Iterator[tuple[str, ...]]:
    """Differences are taken seed by seed."""
    plain = scores["float32"]
    for variant, found in scores.items():
        differences = [a - b for a, b in zip(found, plain, strict=True)]
        shown = [format(figure, study.form) for figure in (mean(found), stdev(found), *found, max(map(abs, differences)))]
        yield variant, *shown, format(mean(differences), "+" + study.form)


if __name__ == "__main__":
    main()
