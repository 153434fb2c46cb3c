"""Random generators that are saved and resumed with a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsize.rng import check_bit_generator_state
from stepsize.serialization import states

__all__ = ["KeepGenerators"]


class KeepGenerators:
    """Save and resume your own random generators with the run.

    `fit` saves the global generators of Python and NumPy itself, and its shuffling has no state. A
    generator that ``value_and_grad`` draws from, for dropout or noise, belongs here.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> keeper = KeepGenerators(rng)
        >>> state = keeper.state_dict()
        >>> first = rng.random()
        >>> keeper.load_state_dict(state)
        >>> rng.random() == first
        True
    """

    def __init__(self, *generators: np.random.Generator):
        for generator in generators:
            if not isinstance(generator, np.random.Generator):
                raise TypeError(
                    "KeepGenerators: generators must be numpy.random.Generator objects, got "
                    f"{generator!r:.200}"
                )
        self.generators = generators

    def state_dict(self) -> dict[str, Any]:
        """The state of each generator."""
        return {"generators": [g.bit_generator.state for g in self.generators]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; ValueError for anything else changes nothing."""
        checks = {"generators": states.each(states.mapping)}
        saved = states.checked("KeepGenerators", state, checks)["generators"]
        if len(saved) != len(self.generators):
            raise ValueError(
                f"KeepGenerators: {len(saved)} generators were saved, here are "
                f"{len(self.generators)}: give the same ones in the same order"
            )
        for i, (generator, one) in enumerate(zip(self.generators, saved, strict=True)):
            label = f"KeepGenerators.load_state_dict: generators[{i}]"
            _try(label, type(generator.bit_generator), one)
        for generator, one in zip(self.generators, saved, strict=True):
            generator.bit_generator.state = one


def _try(label: str, kind: type[Any], state: Mapping[str, Any]) -> None:
    """Refuse what a bit generator of this kind does not take, by giving it to another one."""
    try:
        check_bit_generator_state(state)
        kind(0).state = state
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        why = f"{error.args[0] if isinstance(error, KeyError) else error}"
        raise ValueError(f"{label} must be the state of a {kind.__name__}: {why}") from None
