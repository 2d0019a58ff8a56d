"""Trainers: capture a PyTorch model as a program, run it bit-exactly, record, serve and defend every step."""

from trainer.capture import Captured, capture
from trainer.executor import Executor

__all__ = ["Captured", "Executor", "capture"]
