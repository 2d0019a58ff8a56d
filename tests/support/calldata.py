"""Calldata word by word: an encoder that says what each word is, a lenient decoder, and damage of every class.

The decoder follows the offsets that it finds, wherever they lead, and reads zeros beyond the end; it demands only that numbers fit
their types. So whatever calldata a contract accepts, this says what it has been told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from bisection.numbers import wrap

__all__ = ["DAMAGES", "MODULUS", "Calldata", "Role", "Undecodable", "Word", "damaged", "decode", "encode", "is_dynamic"]

WORD = 32
MODULUS = 1 << 256
MOST_ITEMS, MOST_BYTES = 64, 8448  # no bound of the contracts is larger
LARGE = (1 << 8, 1 << 16, *(1 << bits for bits in (32, 40, 62, 63, 64, 128, 255)), MODULUS - WORD, MODULUS - 1)


class Role(Enum):
    """What a word of calldata is."""

    OFFSET = "offset"
    LENGTH = "length"
    NUMBER = "number"
    DIGEST = "digest"
    CONTENT = "content"


@dataclass(frozen=True)
class Word:
    """A word at byte ``at`` after the selector."""

    at: int
    role: Role


@dataclass(frozen=True)
class Calldata:
    """A selector, arguments, and what their words are."""

    selector: bytes
    body: bytes
    words: tuple[Word, ...]

    def __bytes__(self) -> bytes:
        return self.selector + self.body


class Undecodable(Exception):
    """No arguments have these bytes."""


# Types ------------------------------------------------------------------------------------------------------------------


def components(kind: str) -> list[str]:
    """The types of the parts of a tuple."""
    parts, depth, start = [], 0, 1
    for at, letter in enumerate(kind):
        depth += (letter == "(") - (letter == ")")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            parts += [kind[start:at]] if at > start else []
            start = at + 1
    return parts


def is_dynamic(kind: str) -> bool:
    """Whether values of the type have a place of their own behind the others."""
    return kind.endswith("[]") or kind in ("bytes", "string") or (kind.startswith("(") and any(map(is_dynamic, components(kind))))


def head_size(kind: str) -> int:
    """How many bytes a value takes among the others."""
    if kind.startswith("(") and kind.endswith(")") and not is_dynamic(kind):
        return sum(map(head_size, components(kind)))
    return WORD


# Encoding ---------------------------------------------------------------------------------------------------------------


def encode(selector: bytes, kinds: Sequence[str], values: Sequence[Any]) -> Calldata:
    """The canonical calldata."""
    body, words = _row(kinds, values)
    return Calldata(selector, body, tuple(words))


def _moved(words: Sequence[Word], by: int) -> list[Word]:
    return [Word(word.at + by, word.role) for word in words]


def _row(kinds: Sequence[str], values: Sequence[Any]) -> tuple[bytes, list[Word]]:
    """Values side by side: heads, then tails."""
    head, tail, words, behind = b"", b"", [], []
    place = sum(map(head_size, kinds))
    for kind, value in zip(kinds, values, strict=True):
        data, inner = _value(kind, value)
        if is_dynamic(kind):
            words.append(Word(len(head), Role.OFFSET))
            behind += _moved(inner, place + len(tail))
            head += (place + len(tail)).to_bytes(WORD, "big")
            tail += data
        else:
            words += _moved(inner, len(head))
            head += data
    return head + tail, words + behind


def _value(kind: str, value: Any) -> tuple[bytes, list[Word]]:
    if kind.endswith("[]"):
        data, words = _row([kind[:-2]] * len(value), value)
        return len(value).to_bytes(WORD, "big") + data, [Word(0, Role.LENGTH), *_moved(words, WORD)]
    if kind in ("bytes", "string"):
        content = value.encode() if isinstance(value, str) else value
        padded = content + bytes(-len(content) % WORD)
        words = [Word(WORD + at, Role.CONTENT) for at in range(0, len(padded), WORD)]
        return len(content).to_bytes(WORD, "big") + padded, [Word(0, Role.LENGTH), *words]
    if kind.startswith("("):
        return _row(components(kind), value)
    if kind.startswith("bytes"):
        return value, [Word(0, Role.DIGEST)]
    number = int(value, 16) if isinstance(value, str) else int(value)
    return (number % MODULUS).to_bytes(WORD, "big"), [Word(0, Role.NUMBER)]


# Decoding ---------------------------------------------------------------------------------------------------------------


def decode(kinds: Sequence[str], body: bytes) -> list[Any]:
    """The values that ``body`` has, read as leniently as any decoder may; strings as bytes. Raises Undecodable."""
    return _read_row(kinds, body, 0)


def _word(body: bytes, at: int) -> int:
    at %= MODULUS
    return int.from_bytes(body[at : at + WORD].ljust(WORD, b"\0"), "big") if at < len(body) else 0


def _read_row(kinds: Sequence[str], body: bytes, start: int) -> list[Any]:
    values, at = [], start
    for kind in kinds:
        place = start + _word(body, at) if is_dynamic(kind) else at
        values.append(_read(kind, body, place % MODULUS))
        at += head_size(kind)
    return values


def _read(kind: str, body: bytes, at: int) -> Any:
    word = _word(body, at)
    if kind.endswith("[]") or kind in ("bytes", "string"):
        if word > (MOST_ITEMS if kind.endswith("[]") else MOST_BYTES):
            raise Undecodable(f"a length of {word}")
        if kind.endswith("[]"):
            return _read_row([kind[:-2]] * word, body, at + WORD)
        return body[at + WORD : at + WORD + word].ljust(word, b"\0")
    if kind.startswith("("):
        return tuple(_read_row(components(kind), body, at))
    return _fitting(kind, word)


def _fitting(kind: str, word: int) -> Any:
    if kind.startswith("bytes"):
        return word.to_bytes(WORD, "big")
    if kind.startswith("int"):
        value = wrap(word, 256)
        if value != wrap(value, int(kind[3:])):
            raise Undecodable(f"{value} as {kind}")
        return value
    bits = {"bool": 1, "address": 160}.get(kind) or int(kind[4:])
    if word >> bits:
        raise Undecodable(f"{word} as {kind}")
    return f"0x{word:040x}" if kind == "address" else bool(word) if kind == "bool" else word


# Damage -----------------------------------------------------------------------------------------------------------------

Rng = np.random.Generator


def _pick(rng: Rng, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def _replaced(body: bytes, at: int, number: int) -> bytes:
    return body[:at] + (number % MODULUS).to_bytes(WORD, "big") + body[at + WORD :]


def _flipped(body: bytes, rng: Rng, start: int, end: int) -> bytes:
    at = int(rng.integers(start, end))
    return body[:at] + bytes([body[at] ^ 1 << int(rng.integers(8))]) + body[at + 1 :]


def _word_of(call: Calldata, rng: Rng, *roles: Role) -> int | None:
    places = [word.at for word in call.words if word.role in roles]
    return _pick(rng, places) if places else None


def truncated(call: Calldata, rng: Rng) -> bytes | None:
    """Some bytes or words less."""
    whole = bytes(call)
    if not call.body:
        return None
    if rng.random() < 0.4:
        return whole[: 4 + WORD * int(rng.integers(len(call.body) // WORD))]
    return whole[: int(rng.integers(5, len(whole)))] if rng.random() < 0.7 else whole[: -int(rng.integers(1, 33))]


def extended(call: Calldata, rng: Rng) -> bytes | None:
    """Bytes behind the end."""
    return bytes(call) + rng.bytes(int(rng.integers(1, 200)))


def another_offset(call: Calldata, rng: Rng) -> bytes | None:
    """An offset that leads elsewhere: onto other arguments, itself, the end, or far beyond it."""
    at = _word_of(call, rng, Role.OFFSET)
    if at is None:
        return None
    own = _word(call.body, at)
    others = [_word(call.body, word.at) for word in call.words if word.role == Role.OFFSET]
    near = [0, 1, 4, WORD, own - WORD, own - 1, own + 1, own + WORD, len(call.body), len(call.body) - WORD, *others]
    number = _pick(rng, [*near, *near, *LARGE, int(rng.integers(len(call.body)))])
    return call.selector + _replaced(call.body, at, number)


def crossed_offsets(call: Calldata, rng: Rng) -> bytes | None:
    """Two offsets in each other's place, or both the same."""
    places = [word.at for word in call.words if word.role == Role.OFFSET]
    if len(places) < 2:
        return None
    a, b = rng.choice(places, 2, replace=False).tolist()
    body = _replaced(call.body, a, _word(call.body, b))
    return call.selector + (_replaced(body, b, _word(call.body, a)) if rng.random() < 0.5 else body)


def another_length(call: Calldata, rng: Rng) -> bytes | None:
    """A list or string that says it is longer or shorter."""
    at = _word_of(call, rng, Role.LENGTH)
    if at is None:
        return None
    own = _word(call.body, at)
    return call.selector + _replaced(call.body, at, _pick(rng, [0, own - 1, own + 1, 2 * own, 9, 33, 65, 257, 1025, 8449, *LARGE]))


def another_number(call: Calldata, rng: Rng) -> bytes | None:
    """A number, index or address that is another one."""
    at = _word_of(call, rng, Role.NUMBER)
    if at is None:
        return None
    own = _word(call.body, at)
    return call.selector + _replaced(call.body, at, _pick(rng, [0, 1, own - 1, own + 1, 2 * own, own ^ 1, *LARGE]))


def dirty(call: Calldata, rng: Rng) -> bytes | None:
    """High bytes set in a number, or bytes in the padding behind content."""
    at = _word_of(call, rng, Role.NUMBER, Role.CONTENT)
    if at is None:
        return None
    role = next(word.role for word in call.words if word.at == at)
    first, last = (at, at + 24) if role == Role.NUMBER else (at + 16, at + WORD)
    return call.selector + _flipped(call.body, rng, first, last)


def another_digest(call: Calldata, rng: Rng) -> bytes | None:
    """A digest with a bit changed, empty, or in the place of another."""
    places = [word.at for word in call.words if word.role == Role.DIGEST]
    if not places:
        return None
    at, other = _pick(rng, places), _pick(rng, places)
    way = int(rng.integers(3))
    if way == 0:
        return call.selector + _flipped(call.body, rng, at, at + WORD)
    if way == 1:
        return call.selector + _replaced(call.body, at, 0)
    body = _replaced(call.body, at, _word(call.body, other))
    return call.selector + _replaced(body, other, _word(call.body, at))


def flipped(call: Calldata, rng: Rng) -> bytes | None:
    """A bit changed anywhere."""
    whole = bytes(call)
    return _flipped(whole, rng, 4 if call.body else 0, len(whole))


def rearranged(call: Calldata, rng: Rng) -> bytes | None:
    """Words lost, doubled or in each other's place."""
    rows = [call.body[at : at + WORD] for at in range(0, len(call.body), WORD)]
    if len(rows) < 2:
        return None
    a, b = sorted(rng.integers(0, len(rows), 2).tolist())
    way = int(rng.integers(3))
    if way == 0:
        rows[a], rows[b] = rows[b], rows[a]
    elif way == 1:
        del rows[a : b + 1]
    else:
        rows[a:a] = rows[a : b + 1]
    return call.selector + b"".join(rows)


def noise(call: Calldata, rng: Rng) -> bytes | None:
    """Random bytes, many of them zero or small, behind the selector, or behind another one, or too few for one."""
    way = rng.random()
    if way < 0.15:
        return rng.bytes(int(rng.integers(0, 4)))
    selector = rng.bytes(4) if way < 0.3 else call.selector
    mask = _pick(rng, [0x00, 0x01, 0x03, 0xFF])
    random = bytes(byte & mask for byte in rng.bytes(int(rng.integers(0, 3000))))
    if way < 0.6:
        return selector + random
    small = (int(rng.integers(0, 40)) * _pick(rng, [1, WORD]) for _ in range(int(rng.integers(1, 60))))
    return selector + b"".join(number.to_bytes(WORD, "big") for number in small)


DAMAGES: dict[str, Callable[[Calldata, Rng], bytes | None]] = {
    "truncated": truncated,
    "extended": extended,
    "offset elsewhere": another_offset,
    "offsets crossed": crossed_offsets,
    "length changed": another_length,
    "number changed": another_number,
    "dirty bytes": dirty,
    "digest changed": another_digest,
    "bit flipped": flipped,
    "words rearranged": rearranged,
    "noise": noise,
}
"""Each makes other bytes of a call, or None where the call has nothing of the kind."""


def damaged(call: Calldata, rng: Rng) -> tuple[str, bytes]:
    """(class, bytes that differ from the call's)."""
    while True:
        name = _pick(rng, list(DAMAGES))
        made = DAMAGES[name](call, rng)
        if made is not None and made != bytes(call):
            return name, made
