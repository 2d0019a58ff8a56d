"""Simulated disputes: dishonest trainers, the demo."""
