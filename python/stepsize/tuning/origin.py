"""What a search is, as its storage records it: whose runs a search that goes on would take."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stepsize.serialization.functions import code_digest, name_of
from stepsize.tuning.identity import exact


@dataclass(frozen=True)
class Origin:
    """What a search is: what called it, and what its runs come from.

    `label` is "tune" or "sweep", `budget` that of `method="halving"`, `function` what
    `function_name` says, `code` what `code_digest` does. A sweep has no seed.
    """

    label: str
    direction: str
    method: str
    seed: int | None
    function: str
    budget: tuple[int, int] | None = None
    code: str = ""

    @property
    def grid(self) -> str:
        """What its points come from, in the words of the caller."""
        return "grid" if self.label == "sweep" else "space"

    def kept(self) -> dict[str, Any]:
        """What a storage records, as JSON holds it."""
        budget = None if self.budget is None else [int(end) for end in self.budget]
        return {
            "method": self.method,
            "seed": None if self.seed is None else int(self.seed),
            "direction": self.direction,
            "budget": budget,
            "function": self.function,
            "code": self.code,
        }

    def check(self, kept: Any, where: str) -> None:
        """Refuse to go on with what would be read wrongly, and warn of runs that are of another.

        A direction says which of the runs is best, a budget at which steps the rungs are. Of what
        storages of before do not tell nothing is said.

        Raises:
            ValueError: another direction or budget.
        """
        if not isinstance(kept, Mapping):
            return
        here = self.kept()
        other = [name for name in here if name in kept and kept[name] != here[name]]
        if kept.get("seed") is None or self.seed is None:  # of a sweep, whose method says it
            other = [name for name in other if name != "seed"]
        for name in other:
            if name == "direction" or (name == "budget" and self.budget is not None):
                raise ValueError(
                    f"{self.label}: {name}={here[name]!r}, but {where} holds a search with "
                    f"{name}={kept[name]!r:.80}; give that {name} or another storage"
                )
        versions = [str(one).partition(" ")[0] for one in (kept.get("code"), self.code)]
        if "function" in other or versions[0] != versions[1]:  # which says it, or nothing can
            other = [name for name in other if name != "code"]
        if not other:
            return
        from stepsize.training.resume import ResumeWarning

        there = ", ".join(self._in_words(name, kept[name]) for name in other)
        now = ", ".join(self._in_words(name, here[name]) for name in other)
        warnings.warn(
            f"{self.label}: {where} was begun with {there}, and this search has {now}; the runs in "
            "it count as runs of this one, so give another storage where they are not",
            ResumeWarning,
            stacklevel=5,
        )

    def _in_words(self, name: str, value: Any) -> str:
        if name == "code":  # what else of the function is the same
            return f"function {self.function} of code {str(value).partition(' ')[2]:.12}"
        return f"{name} {value!s:.80}"


def told_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What an `Origin` holds of a function."""
    return {"function": function_name(function), "code": code_digest(function)}


def function_name(function: Callable[..., Any]) -> str:
    """The module and the qualified name of a function, with what a partial one is given.

    A script is called by its file, as a module that imports it calls it.

    >>> function_name(functools.partial(function_name, function=print))
    'stepsize.tuning.origin.function_name(function=builtins.print)'
    """
    if isinstance(function, functools.partial):
        given = [_text(value) for value in function.args]
        given += [f"{name}={_text(value)}" for name, value in function.keywords.items()]
        return f"{function_name(function.func)}({', '.join(given)})"
    return name_of(function)


def _text(value: Any) -> str:
    text = exact(value)
    return "..." if text is None else text
