"""The one command's entry: ``refstep <command>``."""

from sims.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
