"""Colours and type of the picture."""

from typing import Any

from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap

INK, FAINT, LINE, SEA, LAND, MARK = "#1f2933", "#52606d", "#c3ccd5", "#f3f6f9", "#d9dde1", "#d55e00"
DENSITY = LinearSegmentedColormap.from_list("density", colormaps["YlGnBu"](range(70, 256)))
"""From few to many: darker is more, to colour-blind people too; its lightest differs from land and sea."""
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9aa5b1")
"""After Okabe and Ito, whom colour-blind people can tell apart; grey for the others."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.hashsalt": "picture",
}


def number(value: float, _: int) -> str:
    """A label of an axis that counts."""
    return f"{value:,.0f}"
