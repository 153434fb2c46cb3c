"""What both writers of mutants share: a mutant, and which of them are drawn.

A *schema* is the source with every drawn mutant in it, each behind a question that is answered
while it runs: `mutated if this is number 17 else original`. One build, and one import, serve all.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["Mutant", "Site", "draw", "numbered"]


@dataclasses.dataclass(frozen=True)
class Mutant:
    number: int
    file: str  # from the root of the repository
    line: int
    function: str
    kind: str
    before: str
    after: str

    @property
    def folder(self) -> str:
        """What its result is counted under."""
        parts = self.file.split("/")
        return "/".join(parts[:2] if parts[0] == "cpp" else parts[1:3])

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by when lines have moved."""
        return self.file, self.function, self.before, self.after

    def __str__(self) -> str:
        where = f"{self.file}:{self.line} in {self.function}"
        return f"{where}, {self.kind}: {self.before} -> {self.after}"


@dataclasses.dataclass
class Site:
    """A place that can be mutated, and what a writer needs to do so."""

    file: str
    line: int
    function: str
    kind: str
    before: str
    after: str
    place: object


def shortened(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= 100 else f"{text[:70]} ... {text[-25:]}"


def draw(sites: Iterable[Site], count: int, seed: int) -> list[Site]:
    """About `count` of the sites: of each file in proportion to its sites, of its kinds in turn."""
    files: dict[str, dict[str, list[Site]]] = defaultdict(lambda: defaultdict(list))
    total = 0
    for site in sites:
        files[site.file][site.kind].append(site)
        total += 1
    generator = random.Random(seed)
    drawn: list[Site] = []
    rest = 0.0
    for _, kinds in sorted(files.items()):
        size = sum(map(len, kinds.values()))
        rest += size * count / total
        wanted = min(size, max(1, round(rest)))
        rest -= wanted
        piles = [sorted(pile, key=lambda site: (site.line, site.before)) for pile in kinds.values()]
        generator.shuffle(piles)
        for pile in piles:
            generator.shuffle(pile)
        chosen: list[Site] = []
        while len(chosen) < wanted:
            piles = [pile for pile in piles if pile]
            chosen += [pile.pop() for pile in piles[: wanted - len(chosen)]]
        drawn += sorted(chosen, key=lambda site: (site.line, site.kind))
    return drawn


def numbered(sites: Iterable[Site]) -> list[Mutant]:
    return [
        Mutant(number, site.file, site.line, site.function, site.kind,
               shortened(site.before), shortened(site.after))
        for number, site in enumerate(sites)
    ]  # fmt: skip
