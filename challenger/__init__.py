"""Challengers: fetch and verify, replay, find the first wrong step, dispute it."""
