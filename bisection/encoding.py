"""Fixed-width big-endian fields, written and read without interpretation."""

from __future__ import annotations

from bisection.errors import ProgramError

__all__ = ["Reader", "Writer"]


class Writer:
    """Appends fields; each method returns the writer, so that calls chain."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def raw(self, data: bytes) -> Writer:
        """Bytes as they are."""
        self._parts.append(data)
        return self

    def _int(self, value: int, size: int, signed: bool = False) -> Writer:
        try:
            return self.raw(value.to_bytes(size, "big", signed=signed))
        except OverflowError:
            raise ProgramError(f"the number {value} does not fit its {size}-byte field") from None

    def u8(self, value: int) -> Writer:
        """An unsigned byte."""
        return self._int(value, 1)

    def u16(self, value: int) -> Writer:
        """An unsigned 16-bit integer."""
        return self._int(value, 2)

    def u32(self, value: int) -> Writer:
        """An unsigned 32-bit integer."""
        return self._int(value, 4)

    def u64(self, value: int) -> Writer:
        """An unsigned 64-bit integer."""
        return self._int(value, 8)

    def i64(self, value: int) -> Writer:
        """A signed 64-bit integer."""
        return self._int(value, 8, signed=True)

    def finish(self) -> bytes:
        """All that was written."""
        return b"".join(self._parts)


class Reader:
    """Takes fields off ``data`` from the front; raises ProgramError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if self._at + size > len(self._data):
            raise ProgramError("the encoding ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def u8(self) -> int:
        """An unsigned byte."""
        return self.raw(1)[0]

    def u16(self) -> int:
        """An unsigned 16-bit integer."""
        return int.from_bytes(self.raw(2), "big")

    def u32(self) -> int:
        """An unsigned 32-bit integer."""
        return int.from_bytes(self.raw(4), "big")

    def u64(self) -> int:
        """An unsigned 64-bit integer."""
        return int.from_bytes(self.raw(8), "big")

    def i64(self) -> int:
        """A signed 64-bit integer."""
        return int.from_bytes(self.raw(8), "big", signed=True)

    def end(self) -> None:
        """Raise ProgramError unless everything has been read."""
        if self._at != len(self._data):
            raise ProgramError("the encoding has bytes after its end")
