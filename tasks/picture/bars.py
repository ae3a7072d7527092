"""The timeline: a stacked bar for each month, or for each year, decade or century."""

from collections import Counter
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spatiobatch.text import plain
from tasks.picture.style import INK, LINE, SERIES, number
from tasks.picture.timeline import Timeline

_TIMELINE = (0.07, 0.14, 0.91, 0.17)
"""Left, bottom, width and height, as parts of the page."""
_FEW_MONTHS, _A_YEAR = 36, 12
_LONGEST_NAME = 28


def draw_timeline(figure: Figure, timeline: Timeline) -> None:
    """Draw bars over numbered months, so that no calendar ends before the catalog does."""
    axes = figure.add_axes(_TIMELINE)
    below: Counter[int] = Counter()
    for (name, bins), colour in zip(timeline.series.items(), SERIES, strict=False):
        bottoms = [below[start] for start in bins]
        # The space: Matplotlib leaves out of the legend what begins with an underscore.
        style: dict[str, Any] = {"color": colour, "label": f" {plain(name, _LONGEST_NAME)}", "antialiased": False}
        axes.bar(list(bins), list(bins.values()), timeline.months, bottoms, align="edge", **style)
        below.update(bins)
    axes.set_xlim(min(below), max(max(below) + timeline.months, min(below) + _A_YEAR))
    axes.set_ylim(0, 1.1 * max(below.values()))
    _label(axes, timeline.months)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.grid(axis="y", color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.set_title(f"Items per {timeline.unit}", loc="left", size=10, weight="bold", color=INK)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.17), ncols=4, frameon=False, fontsize=8, handlelength=1)


def _label(axes: Axes, months_per_bin: int) -> None:
    """Name months under their bars where they are few; years at their beginning, or under the bars that are theirs."""
    first, end = (round(month) for month in axes.get_xlim())
    if months_per_bin == 1 and end - first <= _FEW_MONTHS:
        every = 1 if end - first <= _A_YEAR else 3
        shown = [month for month in range(first, end) if month % every == 0]
        labels = [f"{month // 12}-{month % 12 + 1:02}" for month in shown]
        axes.set_xticks([month + 0.5 for month in shown], labels)
        return
    middle = months_per_bin / 2 if months_per_bin > 1 else 0
    years = [round(year) for year in MaxNLocator(10, integer=True).tick_values(first / 12, end / 12)]
    shown = [year for year in years if first <= year * 12 < end]
    axes.set_xticks([year * 12 + middle for year in shown], [f"{year}" for year in shown])
