"""Optimizers as part of the step: their state tensors and the ``map`` that updates each parameter.

``RULES`` maps exact optimizer classes to rules. Hyperparameters become binary32 constants of the program. The bias corrections
1 - β^t of Adam are state tensors, in 32-bit fixed point, advanced by c ← c·β + (1 - β): no power function, nothing that drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bisection.errors import UnsupportedOperator, UsageError
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.views import expand

__all__ = ["OPTIMIZERS", "Group", "Tensors", "Update", "groups_of", "next_correction", "state_of", "update"]

IMPLEMENTATION_OPTIONS = ("foreach", "fused", "capturable")  # how PyTorch computes the update, not what it is


@dataclass(frozen=True, slots=True)
class Group:
    """One parameter group: the optimizer's name, its hyperparameters and the names of its parameters."""

    optimizer: str
    number: int
    options: Mapping[str, Any]
    parameters: tuple[str, ...]

    def scalar(self, name: str) -> str:
        """The name of a scalar state tensor of this group."""
        return name if self.number == 0 else f"{name}.{self.number}"


Tensors = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Update:
    """What an update may read: the state at the start of the step, and the gradients that exist."""

    builder: Builder
    step: Value
    state: Mapping[str, Value]
    gradients: Mapping[str, Value]
    new: dict[str, Value] = field(default_factory=dict)


def groups_of(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> tuple[Group, ...]:
    """The parameter groups of ``optimizer``, given the name of each parameter by id.

    Raises UnsupportedOperator for a class or an option without a lowering, UsageError for a parameter that is not the model's.
    """
    rule = RULES.get(type(optimizer))
    if rule is None:
        raise UnsupportedOperator(
            f"the optimizer {type(optimizer).__name__} has no lowering; supported are {', '.join(OPTIMIZERS)}"
        )
    if optimizer.state:
        raise UsageError("the optimizer has already taken steps: capture it before its first step")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise UnsupportedOperator("an optimizer with step hooks has no lowering: remove the hooks")
    groups = []
    for number, group in enumerate(optimizer.param_groups):
        options = {name: _plain(value) for name, value in group.items() if name not in ("params", *IMPLEMENTATION_OPTIONS)}
        for name, value in options.items():
            if name not in rule.options and value not in (False, None):
                raise UnsupportedOperator(f"the option {name}={value!r} of {type(optimizer).__name__} has no lowering")
        if any(id(p) not in names for p in group["params"]):
            raise UsageError("the optimizer updates a tensor that is no parameter of the model: build it over model.parameters()")
        chosen = {name: options[name] for name in rule.options if name in options}
        groups.append(Group(type(optimizer).__name__, number, chosen, tuple(names[id(p)] for p in group["params"])))
    return tuple(groups)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return float(value)
    return [_plain(x) for x in value] if isinstance(value, tuple | list) else value


def state_of(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """The state tensors of ``group`` before the first step, for the parameters whose ``shapes`` are given."""
    return _RULE[group.optimizer].state(group, {name: shapes[name] for name in group.parameters if name in shapes})


def update(group: Group, at: Update) -> None:
    """Put the next value of every state tensor of ``group`` into ``at.new``."""
    _RULE[group.optimizer].update(group, at)


# Stochastic gradient descent


def _sgd_state(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    if not group.options["momentum"]:
        return {}
    return {f"momentum_buffer.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}


def _sgd(group: Group, at: Update) -> None:
    o = group.options
    for name in group.parameters:
        if name not in at.gradients:
            continue
        p = at.state[name]
        g = _decayed(_ascending(at.gradients[name].expr, o), p.expr, o["weight_decay"])
        values = {}
        if o["momentum"]:
            buffer = at.state[f"momentum_buffer.{name}"].expr
            added: Expr = g
            if o["dampening"]:
                first = apply("eq64", expand(at.builder, at.step, p.shape).expr, 0)
                added = apply("fmul", g, apply("select32", first, real(1.0), real(1.0 - o["dampening"])))
            buffer = apply("fadd", apply("fmul", buffer, real(o["momentum"])), added)
            values[f"momentum_buffer.{name}"] = buffer
            g = apply("fadd", g, apply("fmul", buffer, real(o["momentum"]))) if o["nesterov"] else buffer
        values[name] = apply("fsub", p.expr, apply("fmul", g, real(o["lr"])))
        _write(at, p.shape, values)


# Adam and AdamW

_ONE = 1 << 32  # fixed point of the bias corrections


def _adam_state(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    corrections: Tensors = {group.scalar(f"bias_correction{i}"): np.zeros((), np.int64) for i in (1, 2)}
    moments = {
        f"{kind}.{name}": np.zeros(shape, np.float32) for kind in ("exp_avg", "exp_avg_sq") for name, shape in shapes.items()
    }
    return corrections | moments


def _adam(decoupled: bool) -> Callable[[Group, Update], None]:
    def lower(group: Group, at: Update) -> None:
        o = group.options
        beta1, beta2 = o["betas"]
        names = [group.scalar(f"bias_correction{i}") for i in (1, 2)]
        corrections = [next_correction(at.state[name].expr, beta) for name, beta in zip(names, (beta1, beta2), strict=True)]
        one, two = (apply("scaled", c, -32) for c in corrections)
        scalars = [
            *(Value((), "i64", c) for c in corrections),
            Value((), "f32", apply("fdiv", real(o["lr"]), one)),
            Value((), "f32", apply("fsqrt", two)),
        ]
        *advanced, step_size, root = at.builder.materialise(scalars)
        at.new.update(zip(names, advanced, strict=True))
        for name in group.parameters:
            if name not in at.gradients:
                continue
            p = at.state[name]
            m, v = (at.state[f"{kind}.{name}"].expr for kind in ("exp_avg", "exp_avg_sq"))
            size, scale = (expand(at.builder, x, p.shape).expr for x in (step_size, root))
            g, kept = _ascending(at.gradients[name].expr, o), p.expr
            if decoupled and o["weight_decay"]:
                kept = apply("fmul", kept, real(1.0 - o["lr"] * o["weight_decay"]))
            elif o["weight_decay"]:
                g = _decayed(g, p.expr, o["weight_decay"])
            m = apply("fadd", m, apply("fmul", apply("fsub", g, m), real(1.0 - beta1)))
            v = apply("fadd", apply("fmul", v, real(beta2)), apply("fmul", apply("fmul", g, g), real(1.0 - beta2)))
            bound = apply("fadd", apply("fdiv", apply("fsqrt", v), scale), real(o["eps"]))
            kept = apply("fsub", kept, apply("fmul", size, apply("fdiv", m, bound)))
            _write(at, p.shape, {name: kept, f"exp_avg.{name}": m, f"exp_avg_sq.{name}": v})

    return lower


def next_correction(c: Expr, beta: float) -> Expr:
    """c·β + (1 - β) with c and β in fixed point (32 and 31 bits), rounded to nearest."""
    if not 0 <= beta <= 1 - 2.0**-20:
        raise UsageError(f"a beta of {beta} has no lowering: betas from 0 to 1 - 2^-20 have")
    fixed = round(beta * (1 << 31))
    product = apply("shr64", apply("add64", apply("mul64", c, fixed), 1 << 30), 31)
    return apply("add64", product, _ONE - 2 * fixed)


def _ascending(gradient: Expr, options: Mapping[str, Any]) -> Expr:
    return apply("xor32", gradient, -(1 << 31)) if options["maximize"] else gradient


def _decayed(gradient: Expr, parameter: Expr, weight_decay: float) -> Expr:
    """gradient + weight_decay·parameter."""
    return apply("fadd", gradient, apply("fmul", parameter, real(weight_decay))) if weight_decay else gradient


def _write(at: Update, shape: tuple[int, ...], values: Mapping[str, Expr]) -> None:
    """Compute ``values`` in one map."""
    stored = at.builder.materialise([Value(shape, "f32", expr) for expr in values.values()])
    at.new.update(zip(values, stored, strict=True))


@dataclass(frozen=True, slots=True)
class Rule:
    """How one optimizer class is lowered: the options it understands, its state, its update."""

    options: Sequence[str]
    state: Callable[[Group, Mapping[str, tuple[int, ...]]], Tensors]
    update: Callable[[Group, Update], None]


_ADAM_OPTIONS = ("lr", "betas", "eps", "weight_decay", "maximize")

RULES: dict[type, Rule] = {
    torch.optim.SGD: Rule(("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"), _sgd_state, _sgd),
    torch.optim.Adam: Rule(_ADAM_OPTIONS, _adam_state, _adam(decoupled=False)),
    torch.optim.AdamW: Rule((*_ADAM_OPTIONS, "decoupled_weight_decay"), _adam_state, _adam(decoupled=True)),
}
OPTIMIZERS: tuple[str, ...] = tuple(cls.__name__ for cls in RULES)
_RULE = {cls.__name__: rule for cls, rule in RULES.items()}
