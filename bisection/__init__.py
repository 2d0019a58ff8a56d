"""The rules: numbers, programs, Merkle trees, traces, and the dispute game. Pure and deterministic; knows no torch and no chain."""

from bisection import reference
from bisection.boundary import data_root, state_root
from bisection.program import Program

__all__ = ["Program", "data_root", "reference", "state_root"]
