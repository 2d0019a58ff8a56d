"""Lowering: from PyTorch's operators to the nodes of a program, by one table."""
