"""Figures of a sweep as SVG and PNG. The same numbers give the same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from html import escape

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sims.drawing.lines import bars_height, draw_bars, draw_lines
from sims.drawing.maps import draw_grid
from sims.drawing.style import FONT, GREY, HEIGHT, INK, WIDTH, Shared, styled, wrapped
from sims.figures import Grid, Lines, Panel
from sims.plots import Plot

__all__ = ["draw", "png", "svg"]

DOTS = 200  # pixels per inch
TITLE = 72  # letters of a line
COLOURS = 256  # of a PNG: a third of the bytes of one with any


def draw(plot: Plot, panels: Sequence[Panel], caption: str = "", titled: bool = True) -> Figure:
    """Draw a plot's panels beside each other, with title and caption unless the page around it has them."""
    with styled():
        columns = min(len(panels), 3 if len(panels) != 4 else 2)
        rows = math.ceil(len(panels) / columns)
        height = _height(panels) if rows == 1 else 3.1 * rows
        height_of_title = 0.25 * (1 + len(wrapped(plot.heading, TITLE).splitlines())) if titled else 0
        figure = Figure(figsize=(WIDTH, height + height_of_title), layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.07)  # type: ignore[union-attr,call-arg]
        axes = figure.subplots(rows, columns, squeeze=False, sharex=len(panels) > 1, sharey=len(panels) > 1)
        shared = Shared(panels)
        for index, (place, panel) in enumerate(zip(axes.flat, panels, strict=False)):
            if panel.title:
                place.set_title(panel.title, loc="left", color=INK)
            last = index == len(panels) - 1
            if isinstance(panel.content, Grid):
                draw_grid(figure, place, plot, panel.content, shared, len(panels))
            elif plot.kind == "bars" or isinstance(panel.content.lines[0].spots[0].x, str):
                draw_bars(place, panel.content, shared, labelled=last)
            else:
                draw_lines(place, plot, panel.content, shared, height / rows, labelled=last)
            place.label_outer() if len(panels) > 1 else None
        for place in axes.flat[len(panels) :]:
            place.set_visible(False)
        if titled:
            figure.suptitle(wrapped(plot.heading, TITLE), x=0.01, ha="left", fontsize=FONT + 2.5, fontweight="bold")
            if caption:
                figure.supxlabel(wrapped(caption, 140), x=0.01, ha="left", fontsize=FONT - 2.5, color=GREY)
        return figure


def svg(figure: Figure, name: str, description: str = "") -> str:
    """The figure as an SVG element whose ids begin with ``name``, so that several can stand in one page."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id=")', rf"\g<1>{name}-", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description or name)}"', 1).strip()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=DOTS, metadata={"Software": None})
    packed = io.BytesIO()
    drawn = Image.open(buffer).convert("RGB")
    drawn.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _height(panels: Sequence[Panel]) -> float:
    first = panels[0].content
    return bars_height(first) if isinstance(first, Lines) and isinstance(first.lines[0].spots[0].x, str) else HEIGHT
