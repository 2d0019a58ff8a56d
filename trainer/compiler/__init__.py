"""The compiler: nodes become groups of row-wise operations, operations become words that trainer/kernels/rows.cpp runs.

rows.py     which rows of its inputs a row of a node's output needs
groups.py   which nodes pass over their rows together
places.py   how an affine read looks from one row
plan.py     operations, kernels and memory of all groups
memory.py   who uses which bytes when
"""
