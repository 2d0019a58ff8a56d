"""Keccak-256 is the EVM's, and a list of partial results is hashed as the contract hashes it."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from bisection.keccak import keccak256, parts_digest


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_published_digests(data: bytes, digest: str) -> None:
    assert keccak256(data).hex() == digest


@pytest.mark.parametrize("size", [1, 135, 136, 137, 271, 272, 273, 1088])
def test_every_length_of_the_last_block(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert keccak256(data) == keccak(data)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=32))
def test_partial_results_are_hashed_in_their_abi_encoding(parts: list[int]) -> None:
    assert parts_digest(parts) == keccak(encode(["int64[]"], [parts]))
