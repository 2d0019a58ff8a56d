"""Data order: which examples a step uses, computed inside the program from the seed and the step counter alone.

Position p = step·batch + i of the endless stream of examples belongs to epoch p div N. In each epoch the examples are in an order
of their own: a swap-or-not shuffle (Hoang, Morris and Rogaway, "An enciphering scheme based on a card shuffle", CRYPTO 2012) keyed
by (seed, epoch). It permutes 0 … N-1 for any N, in straight-line code for one position at a time. A batch may straddle epochs.
"""

from __future__ import annotations

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Expr, apply
from trainer.lowering.views import expand, position

__all__ = ["ROUNDS", "batch_indices", "mix", "shuffled"]

ROUNDS = 24
_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd: separates the rounds
_EPOCH = -3335678366873096957  # odd constants of the finaliser below, reused to separate the epochs


def mix(x: Expr) -> Expr:
    """A bijection of 64-bit words with good avalanche: Stafford's variant 13 of the MurmurHash3 finaliser, as in splitmix64."""
    x = apply("mul64", apply("xor64", x, apply("ushr64", x, 30)), -4658895280553007687)
    x = apply("mul64", apply("xor64", x, apply("ushr64", x, 27)), -7723592293110705685)
    return apply("xor64", x, apply("ushr64", x, 31))


def shuffled(place: Expr, epoch: Expr, seed: Expr | int, size: int) -> Expr:
    """The example at ``place`` (0 … size-1) of the order for (seed, epoch); all longs.

    Round r draws a pivot K and swaps x with K - x mod size if a bit says so; the bit depends on the larger of the two, so that
    both partners agree and the round is a permutation.
    """
    key = mix(apply("xor64", mix(apply("add64", seed, _GOLDEN)), apply("mul64", epoch, _EPOCH)))
    x = place
    for r in range(ROUNDS):
        word = mix(apply("add64", key, (_GOLDEN * (r + 1) + (1 << 63)) % (1 << 64) - (1 << 63)))
        partner = apply("mod64", apply("sub64", apply("ushr64", word, 1), x), size)
        larger = apply("select64", apply("lt64", x, partner), partner, x)
        bit = apply("ushr64", mix(apply("xor64", larger, word)), 63)
        x = apply("select64", bit, partner, x)
    return x


def batch_indices(builder: Builder, step: Value, batch_size: int, examples: int, seed: int) -> Value:
    """i64 [batch_size]: the examples of step ``step`` (an i64 scalar), each example once in every epoch."""
    shape = (batch_size,)
    place = apply("add64", apply("mul64", expand(builder, step, shape).expr, batch_size), position(shape, 0).expr)
    epoch = apply("div64", place, examples)
    index = Value(shape, "i64", shuffled(apply("mod64", place, examples), epoch, seed, examples))
    return builder.materialise([index])[0]
