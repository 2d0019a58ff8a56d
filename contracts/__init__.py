"""The contracts in Vyper, and the only Python that talks to a chain."""
