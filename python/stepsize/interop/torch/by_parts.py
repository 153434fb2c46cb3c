"""What a torch optimizer has for a step that moves one parameter after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import increment_version

from stepsize.interop.torch.places import Place, labels
from stepsize.interop.torch.wrapping import of_wrapped
from stepsize.optimizers.arriving import Arriving


class StepsByParts:
    """The half of `Optimizer` that `in_backward` steps."""

    arriving: Any = None  # the hooks of `in_backward`, which step in the backward pass
    fetches = False  # gradients that have to wait stay with their parameters

    param_groups: list[dict[str, Any]]
    _compiled: Any
    _follow: Callable[[], None]
    _places: list[Place]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The parameters, group after group."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def names(self) -> list[str]:
        """What errors call these."""
        return labels(self.param_groups)

    @property
    def owner(self) -> str:
        """What errors call this."""
        return type(self).__name__

    def fetch(self, i: int, gradient: Any) -> Any:
        """A gradient that has arrived, which is taken where it is."""
        return gradient

    def begin(self, norm: Any, nonfinite: Any) -> Arriving:
        """A step by parts, with the groups as they are now."""
        self._follow()
        return self._compiled.arriving(norm=norm, nonfinite=nonfinite)  # type: ignore[no-any-return]

    @of_wrapped
    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch's; with `in_backward` it also forgets a backward pass that no step has ended."""
        super().zero_grad(set_to_none)  # type: ignore[misc]
        if self.arriving is not None:
            self.arriving.discard()

    def take(self, step: Arriving, i: int, gradient: torch.Tensor) -> None:
        """Move one parameter."""
        place = self._places[i]
        gradient = gradient.resolve_neg()
        gradient = gradient if place.plain else place.gradient(gradient)
        with torch.no_grad():
            if place.copied:
                place.copy_in()
            step.move(i, gradient)
            if place.copied:
                place.copy_out()
        increment_version([place.tensor])
