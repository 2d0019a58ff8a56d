"""Play the demo and save what a terminal shows of it: python benchmarks/demo_picture.py [docs/demo.svg]"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import torch
from rich.console import Console

from sims import demo, digits
from sims.show import Terminal

WIDTH = 100  # columns


def main(path: Path) -> None:
    torch.set_num_threads(1)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    options, show = demo.Options(), Terminal(console)
    world = demo.World(show)
    _, captured = digits.job(options.seed)
    _, other = digits.job(options.seed, 1.5 * digits.LEARNING_RATE)
    for scenario in demo.SCENARIOS:
        demo.run(scenario, world, captured, other, options, show)
    picture = console.export_svg(title="make demo")
    path.write_text(re.sub(r"@font-face\s*\{.*?\}", "", picture, flags=re.DOTALL))  # no fonts from elsewhere


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/demo.svg"))
