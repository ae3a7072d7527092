"""The map: cells coloured by how many footprints touch them, on the globe or on the region that they lie in."""

import json
from collections.abc import Callable, Iterable
from functools import cache, partial
from math import asin, cos, radians, sin, sqrt
from pathlib import Path as File
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator

from tasks.picture.density import Density
from tasks.picture.style import DENSITY, FAINT, LAND, LINE, MARK, SEA, number

_MAP, _LOCATOR, _SCALE = (0.07, 0.4, 0.77, 0.485), (0.86, 0.81, 0.12, 0.075), (0.87, 0.42, 0.016, 0.29)
"""Left, bottom, width and height, as parts of the page."""
_LINEAR_UP_TO = 50
"""Items per cell; what goes beyond is coloured by its logarithm."""
_MARGIN, _LEAST_DEGREES = 1.15, 1
_GRATICULE_DEGREES = 30
_LABEL: dict[str, Any] = {"size": 8, "color": FAINT, "ha": "center", "textcoords": "offset points"}
_HALO = [withStroke(linewidth=1.6, foreground="white", alpha=0.5)]

Place = tuple[float, float]
Project = Callable[[float, float], Place]
"""From longitude and latitude to where that is on paper."""


def draw_map(figure: Figure, density: Density) -> None:
    """Draw the map, its colour scale and, for a region, where on the globe that is."""
    axes = figure.add_axes(_MAP)
    if density.worldwide:
        west, project = -180.0, equal_earth
        _prepare_globe(axes)
    else:
        project = plate_carree
        _prepare_region(axes, density.extent, figure)
        west, _ = axes.get_xlim()
        _draw_locator(figure.add_axes(_LOCATOR), axes)
    _draw_land(axes, project, facecolor=LAND, zorder=1)
    cells = _cells(density, west, project)
    axes.add_collection(cells)
    _draw_land(axes, project, facecolor="none", edgecolor=FAINT, linewidth=0.5, zorder=3, path_effects=_HALO)
    _draw_scale(figure, cells, density)


def equal_earth(longitude: float, latitude: float) -> Place:
    """The globe with true areas, so that as many items look as dense everywhere.

    After https://doi.org/10.1080/13658816.2018.1504949.
    """
    angle = asin(sqrt(3) / 2 * sin(radians(latitude)))
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    slope = 9 * a4 * angle**8 + 7 * a3 * angle**6 + 3 * a2 * angle**2 + a1
    x = 2 * sqrt(3) * radians(longitude) * cos(angle) / (3 * slope)
    return x, a4 * angle**9 + a3 * angle**7 + a2 * angle**3 + a1 * angle


def plate_carree(longitude: float, latitude: float) -> Place:
    """Longitude and latitude as they are."""
    return longitude, latitude


def _prepare_globe(axes: Axes) -> None:
    meridian = [(180, y) for y in range(-90, 91)]
    edge = [*meridian, *((-x, y) for x, y in reversed(meridian))]
    axes.add_patch(PathPatch(Path([equal_earth(*place) for place in edge]), facecolor=SEA, edgecolor=LINE))
    for x in range(_GRATICULE_DEGREES - 180, 180, _GRATICULE_DEGREES):
        _draw_line(axes, [(x, y) for y in range(-90, 91)])
        if x % 60 == 0:
            axes.annotate(_degrees(x, "EW"), equal_earth(x, -90), (0, -11), **_LABEL)
    for y in range(_GRATICULE_DEGREES - 90, 90, _GRATICULE_DEGREES):
        _draw_line(axes, [(-180, y), (180, y)])
        axes.annotate(_degrees(y, "NS"), equal_earth(-180, y), (-14, -3), **_LABEL)
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.autoscale_view()


def _draw_line(axes: Axes, places: Iterable[Place]) -> None:
    xs, ys = zip(*(equal_earth(*place) for place in places), strict=True)
    axes.plot(xs, ys, color=LINE, linewidth=0.5, zorder=1.5)


def _prepare_region(axes: Axes, extent: tuple[float, float, float, float], figure: Figure) -> None:
    """Show what fills the page and has the extent in its middle, true to scale there."""
    west, south, east, north = extent
    *_, wide, high = axes.get_position().transformed(figure.dpi_scale_trans + figure.transFigure).bounds
    across = wide / high / max(cos(radians((south + north) / 2)), 0.1)
    height = min(_MARGIN * max(north - south, (east - west) / across, _LEAST_DEGREES), 180)
    width, middle = min(height * across, 360), (west + east) / 2
    bottom = max(-90, min((south + north - height) / 2, 90 - height))
    axes.set(xlim=(middle - width / 2, middle + width / 2), ylim=(bottom, bottom + height), facecolor=SEA)
    for axis, ends in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(partial(_tick, ends)))
    axes.grid(color=LINE, linewidth=0.5)
    axes.set_axisbelow("line")


def _tick(ends: str, value: float, _: int) -> str:
    return _degrees(value, ends)


def _degrees(value: float, ends: str) -> str:
    value = (value + 180) % 360 - 180 if ends == "EW" else value
    return f"{abs(value):g}°" + ("" if value in (0, -180) else ends[int(value < 0)])


@cache
def _land() -> list[list[Place]]:
    """The rings of all land."""
    polygons = json.loads((File(__file__).parent / "land.geojson").read_text())["coordinates"]
    return [[(x, y) for x, y in ring] for polygon in polygons for ring in polygon]


def _draw_land(axes: Axes, project: Project, **style: Any) -> None:
    rings = _land_around(axes) if project is plate_carree else _land()
    paths = [Path([project(x, y) for x, y in ring], closed=True) for ring in rings]
    if paths:
        axes.add_patch(PathPatch(Path.make_compound_path(*paths), **{"linewidth": 0, **style}))


def _land_around(axes: Axes) -> list[list[Place]]:
    """The rings that are in sight, also from beyond the antimeridian."""
    turned = ([(x + turn, y) for x, y in ring] for ring in _land() for turn in (-360, 0, 360))
    return [ring for ring in turned if Path(ring).get_extents().overlaps(axes.viewLim)]


def _cells(density: Density, west: float, project: Project) -> PolyCollection:
    boxes = list(density.boxes(west))
    shapes = [[project(x, y) for x, y in ((w, s), (e, s), (e, n), (w, n))] for w, s, e, n, _ in boxes]
    least, most = min(density.items.values()), max(density.items.values())
    norm = LogNorm(min(least, most / 10), most) if most > _LINEAR_UP_TO else Normalize(0, most)
    style: dict[str, Any] = {"antialiased": False, "rasterized": True, "zorder": 2}
    return PolyCollection(shapes, array=[items for *_, items in boxes], cmap=DENSITY, norm=norm, **style)


def _draw_scale(figure: Figure, cells: PolyCollection, density: Density) -> None:
    least, most = cells.get_clim()
    locator: Locator = MaxNLocator(5, integer=True)
    if isinstance(cells.norm, LogNorm) and least and most:
        locator = LogLocator(subs=(1, 2, 5)) if most < 100 * least else LogLocator()
    bar = figure.colorbar(cells, cax=figure.add_axes(_SCALE), ticks=locator, format=FuncFormatter(number))
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    left, bottom, _, height = _SCALE
    label = f"items per\n{density.degrees:g}° cell"
    figure.text(left - 0.002, bottom + height + 0.015, label, color=FAINT, size=8, linespacing=1.3)


def _draw_locator(axes: Axes, region: Axes) -> None:
    axes.set(xlim=(-180, 180), ylim=(-90, 90), xticks=[], yticks=[], facecolor=SEA)
    _draw_land(axes, plate_carree, facecolor=LAND)
    (west, east), (south, north) = region.get_xlim(), region.get_ylim()
    for turn in (-360, 0, 360):
        axes.add_patch(
            Rectangle((west + turn, south), east - west, north - south, facecolor="none", edgecolor=MARK, zorder=2)
        )
