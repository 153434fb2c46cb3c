"""The parts and their arrows, drawn from the imports: ``python docs/architecture.py``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from source_tree import graph_of_parts, reach

PICTURE = Path(__file__).parent / "images" / "architecture.svg"

# The parts of the package in their total order: each may import those before it, and no other.
# A part that is not here fails `tests/house/test_arrows.py` until it has its place.
FLOORS = [
    ["_core", "errors"],
    ["runtime", "names", "validation", "arrays", "bars", "curves", "rng", "serialization"],
    ["schedules"],
    ["optimizers"],
    ["collectives", "functional", "noise_scale", "diagnosis", "gradients", "projections"],
    ["finder"],
    ["scaling", "curvature"],
    ["experiments", "callbacks"],
    ["training"],
    ["tuning", "automatic", "minimization"],
    ["problems", "plots", "benchmarking"],
    ["report", "watching"],
    ["cli", "demo", "guide", "interop"],
    ["__main__"],
]
ORDER = [part for floor in FLOORS for part in floor]

# The same inside optimizers/: a module may import those on the floors before its own, and no other.
OPTIMIZERS = [
    ["ascent", "elementary", "fields", "globs", "quantization", "stats", "transaction"],
    ["half", "primitives", "scheduled", "sparse"],
    ["options"],
    ["loop"],
    ["groups", "rule"],
    ["constraints", "layer_groups", "leaves", "matrix_groups"],
    ["host", "slots"],
    ["internals"],
    ["averages", "engine", "gradients", "reference", "snapshot", "state_dict"],
    ["arriving", "own_host"],
    ["optimizer"],
    ["registration", "rules"],
    ["division", "population", "wrappers"],
    ["partition"],
]

WIDTH, ROW, HEIGHT, LETTER, GAP, MARGIN = 960, 80, 30, 7.6, 18, 24

STYLE = """
  text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1f2933; text-anchor: middle }
  rect { fill: #eef2f7; stroke: #7b8794; rx: 6px }
  path { fill: none; stroke: #5b7fa6; stroke-width: 1.3; opacity: .75 }
  .head { fill: #5b7fa6; stroke: none; opacity: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb } rect { fill: #27313d; stroke: #7b8794 }
    path { stroke: #8fb3d9 } .head { fill: #8fb3d9 }
  }
"""


def arrows(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others: what is imported through a part is not drawn."""
    found = []
    for part in sorted(graph.keys() - {"__init__"}):
        for other in sorted(graph[part]):
            others = graph[part] - {other}
            if not any(other in reach(graph, between) for between in others):
                found.append((part, other))
    return found


# A box, or the place where an arrow passes a floor on its way: (from, to, floor).
Item = str | tuple[str, str, int]
Place = dict[Item, tuple[float, float]]


def half(item: Item) -> float:
    """Half the width of a box, or of the room that an arrow needs between boxes."""
    return (len(item) * LETTER + 22) / 2 if isinstance(item, str) else 6.0


def chains(edges: list[tuple[str, str]], floors: list[list[str]]) -> list[list[Item]]:
    """Each arrow as the boxes at its ends and the floors that it passes."""
    floor = {part: number for number, parts in enumerate(floors) for part in parts}
    return [
        [one, *((one, other, n) for n in range(floor[one] - 1, floor[other], -1)), other]
        for one, other in edges
    ]


def places(paths: list[list[Item]], floors: list[list[str]]) -> Place:
    """The middle of each item: a row a floor, and in a row each near what it is tied to."""
    rows: list[list[Item]] = [list(floor) for floor in floors]
    ties: dict[Item, list[Item]] = {item: [] for row in rows for item in row}
    for path in paths:
        for item in path[1:-1]:
            rows[item[2]].append(item)  # type: ignore[index,arg-type]
            ties[item] = []
        for one, other in pairwise(path):
            ties[one].append(other)
            ties[other].append(one)
    place: Place = {}
    for turn in range(40):
        for number, row in enumerate(rows):
            if turn:
                near = {i: sum(place[t][0] for t in ties[i]) / max(1, len(ties[i])) for i in row}
                row.sort(key=lambda item: (near[item], str(item)))
            wanted = [near[item] if turn else WIDTH / 2 for item in row]
            for item, x in zip(row, apart(row, wanted), strict=True):
                place[item] = (x, MARGIN + HEIGHT / 2 + (len(rows) - 1 - number) * ROW)
    return place


def apart(row: list[Item], wanted: list[float]) -> list[float]:
    """Places as near to the wanted ones as boxes side by side allow."""
    ends = [half(item) + GAP / 2 for item in row]
    right, limit = [], 0.0
    for x, end in zip(wanted, ends, strict=True):
        right.append(max(x, limit + end))
        limit = right[-1] + end
    left, limit = [], float(WIDTH)
    for x, end in zip(reversed(wanted), reversed(ends), strict=True):
        left.append(min(x, limit - end))
        limit = left[-1] - end
    return [(one + other) / 2 for one, other in zip(right, reversed(left), strict=True)]


def curve(path: list[Item], place: Place) -> str:
    """An arrow, down from box to box between the boxes of the floors in between."""
    x, y = place[path[0]]
    to_x, to_y = place[path[-1]]
    if y == to_y:
        side = 1 if to_x > x else -1
        x, to_x = x + side * half(path[0]), to_x - side * (half(path[-1]) + 7)
        line = f"M{x:.1f} {y:.1f} L{to_x:.1f} {to_y:.1f}"
        tip = f"M{to_x + side * 7:.1f} {to_y:.1f} l{-side * 8} -4 v8 z"
    else:
        y += HEIGHT / 2
        line = f"M{x:.1f} {y:.1f}"
        for item in path[1:]:
            down_x, down_y = place[item]
            end = down_y - HEIGHT / 2 - (7 if item == path[-1] else 0)
            bend = (end - y) / 2
            line += f" C{x:.1f} {y + bend:.1f} {down_x:.1f} {end - bend:.1f} {down_x:.1f} {end:.1f}"
            x, y = down_x, end
            if item != path[-1]:
                y += HEIGHT
                line += f" V{y:.1f}"
        tip = f"M{x:.1f} {y + 7:.1f} l-4 -8 h8 z"
    return f'<path d="{line}"/>\n<path class="head" d="{tip}"/>'


def picture() -> str:
    """The whole drawing, for light and dark pages."""
    graph = graph_of_parts()
    floors = [[part for part in floor if part in graph] for floor in FLOORS]
    floors = [floor for floor in floors if floor]
    paths = chains(arrows(graph), floors)
    place = places(paths, floors)
    lines = [curve(path, place) for path in paths]
    for part in sorted(part for floor in floors for part in floor):
        x, y = place[part]
        lines.append(
            f'<rect x="{x - half(part):.1f}" y="{y - HEIGHT / 2:.1f}" '
            f'width="{2 * half(part):.1f}" height="{HEIGHT}"/>'
            f'<text x="{x:.1f}" y="{y + 4.5:.1f}">{part}</text>'
        )
    left = min(place[item][0] - half(item) for item in place) - MARGIN
    width = max(place[item][0] + half(item) for item in place) + MARGIN - left
    height = 2 * MARGIN + HEIGHT + (len(floors) - 1) * ROW
    frame = f"{left:.0f} 0 {width:.0f} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{frame}" role="img">\n'
        "<title>The parts of stepsize, and which imports which</title>\n"
        f"<style>{STYLE}</style>\n" + "\n".join(lines) + "\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")
