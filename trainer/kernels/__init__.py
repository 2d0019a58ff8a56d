"""Kernels: the small pieces of C++ that make a step fast, each with its plain-Python meaning beside it, and how they are built."""
