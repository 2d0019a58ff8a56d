"""Optimizers as part of the step: their state tensors and the ``map`` that updates each parameter.

``RULES`` maps exact optimizer classes to rules. Hyperparameters become binary32 constants of the program; the learning rate may
follow a schedule (``trainer.schedules``) instead. The bias corrections 1 - β^t of Adam are state tensors, in 32-bit fixed point,
advanced by c ← c·β + (1 - β): no power function, nothing that drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bisection.errors import UnsupportedOperator, UsageError
from trainer.lowering.arithmetic import add, div, mul, root, sub
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Const, Expr, apply, real
from trainer.lowering.functions import magnitude
from trainer.lowering.views import expand

__all__ = ["OPTIMIZERS", "Group", "Tensors", "Update", "groups_of", "next_correction", "state_of", "update"]

IMPLEMENTATION_OPTIONS = ("foreach", "fused", "capturable")  # how PyTorch computes the update, not what it is
SCHEDULE_OPTIONS = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")  # a scheduler's notes for itself


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
    """What an update may read: the state at the start of the step, the gradients that exist, and the learning rate (an f32 scalar)
    of each group that follows a schedule, by the group's number."""

    builder: Builder
    step: Value
    state: Mapping[str, Value]
    gradients: Mapping[str, Value]
    rates: Mapping[int, Value] = field(default_factory=dict)
    new: dict[str, Value] = field(default_factory=dict)


def groups_of(optimizer: torch.optim.Optimizer, names: Mapping[int, str], scheduled: bool = False) -> tuple[Group, ...]:
    """The parameter groups of ``optimizer``, given the name of each parameter by id and whether a scheduler is known to drive it.

    Raises UnsupportedOperator for a class or an option without a lowering, UsageError for a parameter that is not the model's.
    """
    rule = RULES.get(type(optimizer))
    if rule is None:
        raise UnsupportedOperator(
            f"the optimizer {type(optimizer).__name__} has no lowering; supported are {', '.join(OPTIMIZERS)}"
        )
    if any(float(state.get("step", 1)) > 0 for state in optimizer.state.values()):
        raise UsageError("the optimizer has already taken steps: capture it before its first step")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise UnsupportedOperator("an optimizer with step hooks has no lowering: remove the hooks")
    groups = []
    for number, group in enumerate(optimizer.param_groups):
        if "initial_lr" in group and not scheduled:
            raise UsageError(
                "a learning-rate scheduler drives the optimizer: give it as schedule=, with the number of steps as steps="
            )
        ignored = ("params", *IMPLEMENTATION_OPTIONS, *SCHEDULE_OPTIONS)
        options = {name: _plain(value) for name, value in group.items() if name not in ignored}
        for name, value in options.items():
            if name not in (*rule.options, *rule.switches) and value not in (False, None):
                raise UnsupportedOperator(f"the option {name}={value!r} of {type(optimizer).__name__} has no lowering")
        if any(id(p) not in names for p in group["params"]):
            raise UsageError("the optimizer updates a tensor that is no parameter of the model: build it over model.parameters()")
        chosen = {name: options[name] for name in rule.options if name in options}
        chosen |= {name: True for name in rule.switches if options.get(name)}
        groups.append(Group(type(optimizer).__name__, number, chosen, tuple(names[id(p)] for p in group["params"])))
    return tuple(groups)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return float(value)
    return [_plain(x) for x in value] if isinstance(value, tuple | list) else value


def state_of(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """The state tensors of ``group`` before the first step, for the parameters whose ``shapes`` are given."""
    corrections: Tensors = {name: np.zeros((), np.int64) for name in _corrections(group)}
    kept = {
        f"{kind}.{name}": np.full(shapes[name], first, np.float32)
        for kind, first in _RULE[group.optimizer].kept(group.options).items()
        for name in group.parameters
        if name in shapes
    }
    return corrections | kept


def _corrections(group: Group) -> list[str]:
    """The names of the bias corrections of ``group``."""
    return [group.scalar(f"bias_correction{i + 1}") for i in range(_RULE[group.optimizer].corrections)]


def update(group: Group, at: Update) -> None:
    """Put the next value of every state tensor of ``group`` into ``at.new``."""
    rule, options = _RULE[group.optimizer], group.options
    scalars = _scalars(group, at)
    for name in group.parameters:
        if name not in at.gradients:
            continue
        shape = at.state[name].shape
        names = {"p": name} | {kind: f"{kind}.{name}" for kind in rule.kept(options)}
        x = {kind: at.state[place].expr for kind, place in names.items()}
        x |= {scalar: expand(at.builder, value, shape).expr for scalar, value in scalars.items()}
        x["g"] = at.gradients[name].expr
        if options["maximize"]:
            x["g"] = apply("xor32", x["g"], -(1 << 31))
        if options["weight_decay"] and not options.get("decoupled_weight_decay"):
            x["g"] = apply("fadd", x["g"], apply("fmul", x["p"], real(options["weight_decay"])))
        new = rule.update(options, x)
        stored = at.builder.materialise([Value(shape, "f32", expr) for expr in new.values()])
        at.new.update({names[kind]: value for kind, value in zip(new, stored, strict=True)})


def _scalars(group: Group, at: Update) -> dict[str, Value]:
    """The numbers that updates of ``group`` read, computed in one map with the next bias corrections."""
    rule, options = _RULE[group.optimizer], group.options
    lr = at.rates.get(group.number, Value((), "f32", real(options["lr"])))
    names = _corrections(group)
    advanced = [next_correction(at.state[name].expr, beta) for name, beta in zip(names, options.get("betas", ()), strict=False)]
    known = {"lr": lr.expr, "step": at.step.expr, "corrections": [apply("scaled", c, -32) for c in advanced]}
    numbers = {name: Value((), "f32", expr) for name, expr in rule.scalars(options, known).items()}
    computed = [name for name, value in numbers.items() if not isinstance(value.expr, Const)]
    values = [*(Value((), "i64", c) for c in advanced), *(numbers[name] for name in computed)]
    stored = at.builder.materialise(values) if values else []
    at.new.update(zip(names, stored, strict=False))
    return {"lr": lr, "step": at.step} | numbers | dict(zip(computed, stored[len(names) :], strict=True))


_ONE = 1 << 32  # fixed point of the bias corrections


def next_correction(c: Expr, beta: float) -> Expr:
    """c·β + (1 - β) with c and β in fixed point (32 and 31 bits), rounded to nearest."""
    if not 0 <= beta <= 1 - 2.0**-20:
        raise UsageError(f"a beta of {beta} has no lowering: betas from 0 to 1 - 2^-20 have")
    fixed = round(beta * (1 << 31))
    product = apply("shr64", apply("add64", apply("mul64", c, fixed), 1 << 30), 31)
    return apply("add64", product, _ONE - 2 * fixed)


# The rules. Each is PyTorch's update of one element, with its roundings where ``foreach=False`` has them.

Options = Mapping[str, Any]
Exprs = Mapping[str, Any]


def _towards(a: Expr, b: Expr, weight: float) -> Expr:
    """a + weight·(b - a)."""
    return add(a, mul(sub(b, a), real(weight)))


def _average(a: Expr, b: Expr, kept: float) -> Expr:
    """kept·a + (1 - kept)·b."""
    return add(mul(a, real(kept)), mul(b, real(1.0 - kept)))


def _larger(a: Expr, b: Expr) -> Expr:
    """The larger of two floats that are not negative, NaN if one is: their bits order as they do."""
    return apply("select32", apply("lt32", a, b), b, a)


def _sgd_kept(o: Options) -> dict[str, float]:
    return {"momentum_buffer": 0.0} if o["momentum"] else {}


def _sgd(o: Options, x: Exprs) -> dict[str, Expr]:
    new, g = {}, x["g"]
    if o["momentum"]:
        added = g
        if o["dampening"]:
            added = mul(g, apply("select32", apply("eq64", x["step"], 0), real(1.0), real(1.0 - o["dampening"])))
        buffer = new["momentum_buffer"] = add(mul(x["momentum_buffer"], real(o["momentum"])), added)
        g = add(g, mul(buffer, real(o["momentum"]))) if o["nesterov"] else buffer
    new["p"] = sub(x["p"], mul(g, x["lr"]))
    return new


def _adam_kept(o: Options) -> dict[str, float]:
    return {"exp_avg": 0.0, "exp_avg_sq": 0.0} | ({"max_exp_avg_sq": 0.0} if o.get("amsgrad") else {})


def _adam_scalars(o: Options, x: Exprs) -> dict[str, Expr]:
    one, two = x["corrections"]
    scalars = {"size": div(x["lr"], one), "scale": root(two)}
    if o.get("decoupled_weight_decay") and o["weight_decay"]:
        decay = o["weight_decay"]
        constant = isinstance(x["lr"], Const)
        scalars["kept"] = real(1.0 - o["lr"] * decay) if constant else sub(real(1.0), mul(x["lr"], real(decay)))
    return scalars


def _adam(o: Options, x: Exprs) -> dict[str, Expr]:
    g, (beta1, beta2) = x["g"], o["betas"]
    p = mul(x["p"], x["kept"]) if "kept" in x else x["p"]
    m = _towards(x["exp_avg"], g, 1.0 - beta1)
    v = _average(x["exp_avg_sq"], mul(g, g), beta2)
    new = {"p": p, "exp_avg": m, "exp_avg_sq": v}
    if o.get("amsgrad"):
        v = new["max_exp_avg_sq"] = _larger(x["max_exp_avg_sq"], v)
    bound = add(div(root(v), x["scale"]), real(o["eps"]))
    new["p"] = sub(p, mul(x["size"], div(m, bound)))
    return new


def _adamax_scalars(o: Options, x: Exprs) -> dict[str, Expr]:
    return {"size": div(x["lr"], x["corrections"][0])}


def _adamax(o: Options, x: Exprs) -> dict[str, Expr]:
    g, (beta1, beta2) = x["g"], o["betas"]
    m = _towards(x["exp_avg"], g, 1.0 - beta1)
    u = _larger(mul(x["exp_inf"], real(beta2)), add(magnitude(g), real(o["eps"])))
    return {"p": sub(x["p"], mul(x["size"], div(m, u))), "exp_avg": m, "exp_inf": u}


def _rmsprop_kept(o: Options) -> dict[str, float]:
    return {"square_avg": 0.0} | ({"grad_avg": 0.0} if o["centered"] else {}) | _sgd_kept(o)


def _rmsprop(o: Options, x: Exprs) -> dict[str, Expr]:
    g = x["g"]
    v = _average(x["square_avg"], mul(g, g), o["alpha"])
    new = {"square_avg": v}
    if o["centered"]:
        m = new["grad_avg"] = _towards(x["grad_avg"], g, 1.0 - o["alpha"])
        v = sub(v, mul(m, m))
    move = div(g, add(root(v), real(o["eps"])))
    if o["momentum"]:
        move = new["momentum_buffer"] = add(mul(x["momentum_buffer"], real(o["momentum"])), move)
    new["p"] = sub(x["p"], mul(x["lr"], move))
    return new


def _adagrad_scalars(o: Options, x: Exprs) -> dict[str, Expr]:
    if not o["lr_decay"]:
        return {}
    return {"lr": div(x["lr"], add(real(1.0), mul(apply("scaled", x["step"], 0), real(o["lr_decay"]))))}


def _adagrad(o: Options, x: Exprs) -> dict[str, Expr]:
    total = add(x["sum"], mul(x["g"], x["g"]))
    return {"p": sub(x["p"], mul(x["lr"], div(x["g"], add(root(total), real(o["eps"]))))), "sum": total}


def _adadelta(o: Options, x: Exprs) -> dict[str, Expr]:
    g, eps = x["g"], real(o["eps"])
    v = _average(x["square_avg"], mul(g, g), o["rho"])
    move = mul(div(root(add(x["acc_delta"], eps)), root(add(v, eps))), g)
    travelled = _average(x["acc_delta"], mul(move, move), o["rho"])
    return {"p": sub(x["p"], mul(x["lr"], move)), "square_avg": v, "acc_delta": travelled}


@dataclass(frozen=True, slots=True)
class Rule:
    """How one optimizer class is lowered.

    ``options`` are the hyperparameters it understands; ``switches`` are options that are noted only where they are on. ``kept(o)``
    names the state tensors of a parameter with their first value, ``update(o, x)`` gives the next value of each and of the
    parameter, "p", from these, the gradient "g", "lr", "step" and what ``scalars(o, x)`` computes once a step from "lr", "step" and
    the ``corrections``, the first so many 1 - β^t of ``betas``.
    """

    options: Sequence[str]
    kept: Callable[[Options], dict[str, float]]
    update: Callable[[Options, Exprs], dict[str, Expr]]
    scalars: Callable[[Options, Exprs], dict[str, Expr]] = lambda o, x: {}
    corrections: int = 0
    switches: Sequence[str] = ()


_ADAM = ("lr", "betas", "eps", "weight_decay", "maximize")

RULES: dict[type, Rule] = {
    torch.optim.SGD: Rule(("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"), _sgd_kept, _sgd),
    torch.optim.Adam: Rule(_ADAM, _adam_kept, _adam, _adam_scalars, 2, ("amsgrad", "decoupled_weight_decay")),
    torch.optim.AdamW: Rule((*_ADAM, "decoupled_weight_decay"), _adam_kept, _adam, _adam_scalars, 2, ("amsgrad",)),
    torch.optim.Adamax: Rule(_ADAM, lambda o: {"exp_avg": 0.0, "exp_inf": 0.0}, _adamax, _adamax_scalars, 1),
    torch.optim.RMSprop: Rule(("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize"), _rmsprop_kept, _rmsprop),
    torch.optim.Adagrad: Rule(
        ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "maximize"),
        lambda o: {"sum": o["initial_accumulator_value"]},
        _adagrad,
        _adagrad_scalars,
    ),
    torch.optim.Adadelta: Rule(
        ("lr", "rho", "eps", "weight_decay", "maximize"), lambda o: {"square_avg": 0.0, "acc_delta": 0.0}, _adadelta
    ),
}
OPTIMIZERS: tuple[str, ...] = tuple(cls.__name__ for cls in RULES)
_RULE = {cls.__name__: rule for cls, rule in RULES.items()}
