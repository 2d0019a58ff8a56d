"""Simulated disputes on the real contracts, played by actors on a chain in this process."""
