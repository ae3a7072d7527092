"""The whole picture as a page: its words, the map above the timeline, and its files. Drawn with Matplotlib."""

import io
import warnings
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from spatiobatch.text import plain
from tasks.picture.bars import draw_timeline
from tasks.picture.density import Density
from tasks.picture.map import draw_map
from tasks.picture.style import FAINT, STYLE
from tasks.picture.timeline import Timeline
from tasks.picture.words import Words

_INCHES = (9, 7.2)
_LEFT = 0.07
_DPI_OF_CELLS = 200
_DPI = (150, 120, 100, 80, 60, 40, 20)


def draw(words: Words, density: Density | None, timeline: Timeline) -> Figure:
    """Draw everything."""
    with rc_context(STYLE):
        figure = Figure(_INCHES, facecolor="white")
        figure.text(_LEFT, 0.955, plain(words.title, 70), size=15, weight="bold")
        figure.text(_LEFT, 0.922, plain(words.subtitle, 110), color=FAINT)
        figure.text(_LEFT, 0.02, words.notes, color=FAINT, size=8)
        if density:
            draw_map(figure, density)
        else:
            figure.text(0.5, 0.63, "No item says where it lies.", color=FAINT, ha="center")
        if timeline.series:
            draw_timeline(figure, timeline)
        else:
            figure.text(0.5, 0.22, "No item has a date.", color=FAINT, ha="center")
    return figure


def svg(figure: Figure) -> bytes:
    """A file that every browser opens and that loads nothing; the cells are pixels in it, the rest lines."""
    return _saved(figure, "svg", _DPI_OF_CELLS, metadata={"Date": None})


def png(figure: Figure, most_bytes: int) -> bytes:
    """A file in 256 colours, as sharp as fits."""
    content = b""
    for dpi in _DPI:
        content = _in_256_colours(_saved(figure, "png", dpi))
        if len(content) <= most_bytes:
            break
    return content


def _in_256_colours(content: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as full:
        small = full.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(file, "png", optimize=True)
    return file.getvalue()


def _saved(figure: Figure, form: str, dpi: float, **options: Any) -> bytes:
    file = io.BytesIO()
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(file, format=form, dpi=dpi, **options)
    return file.getvalue()
