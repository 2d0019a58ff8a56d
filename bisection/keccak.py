"""Keccak-256 as the EVM has it: what a contract stores of the partial results of a run (docs/protocol.md, "Long runs").

This is the original padding (0x01), not that of SHA3-256. Nothing here is fast: a game hashes a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["keccak256", "parts_digest"]

RATE = 136  # bytes that each permutation takes in
_LOW_64 = (1 << 64) - 1


def _rotated(lane: int, by: int) -> int:
    return (lane << by | lane >> (64 - by)) & _LOW_64 if by else lane


def _round_constants() -> list[int]:
    """The 24 constants, from the linear feedback shift register x^8 + x^6 + x^5 + x^4 + 1 (FIPS 202, algorithm 5)."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for bit in range(7):
            constant |= (register & 1) << ((1 << bit) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


def _lane_walk() -> list[tuple[int, int]]:
    """(lane, rotation) in the order in which the steps rho and pi move the lanes; lane x, y has number x + 5·y."""
    walk, x, y = [], 1, 0
    for t in range(24):
        walk.append((x + 5 * y, (t + 1) * (t + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return walk


_ROUNDS, _WALK = _round_constants(), _lane_walk()


def _permuted(lanes: list[int]) -> list[int]:
    """Keccak-f[1600] of 25 lanes."""
    for constant in _ROUNDS:
        column = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        lanes = [lane ^ column[(i - 1) % 5] ^ _rotated(column[(i + 1) % 5], 1) for i, lane in enumerate(lanes)]
        moved = lanes[:1] + [0] * 24
        for (source, by), (target, _) in zip(_WALK, [*_WALK[1:], _WALK[0]], strict=True):
            moved[target] = _rotated(lanes[source], by)
        lanes = [
            lane ^ (~moved[i - i % 5 + (i + 1) % 5] & moved[i - i % 5 + (i + 2) % 5] & _LOW_64) for i, lane in enumerate(moved)
        ]
        lanes[0] ^= constant
    return lanes


def keccak256(data: bytes) -> bytes:
    """The digest of ``data``, 32 bytes."""
    padded = bytearray(data + bytes(RATE - len(data) % RATE))
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for at in range(0, len(padded), RATE):
        block = [int.from_bytes(padded[at + 8 * i : at + 8 * i + 8], "little") for i in range(RATE // 8)]
        lanes = _permuted([lane ^ word for lane, word in zip(lanes, [*block, *[0] * 8], strict=True)])
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def parts_digest(parts: Sequence[int]) -> bytes:
    """The digest of a list of i64 in its ABI encoding: the offset of the list, its length, its elements, each in 32 bytes."""
    words = [32, len(parts), *parts]
    return keccak256(b"".join(word.to_bytes(32, "big", signed=True) for word in words))
