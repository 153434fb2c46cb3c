"""The keywords that every optimizer takes besides its own hyperparameters."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Container, Mapping
from typing import Any, Self

import numpy as np

from stepsize.arrays import Structure, is_narrow
from stepsize.optimizers.fields import Field
from stepsize.optimizers.half import LOW
from stepsize.optimizers.quantization import FORMS
from stepsize.validation import real

CONSTRAINTS = ("bounds", "l1")  # of which groups may have their own
STOCHASTIC = "stochastic"
ROUNDINGS = ("nearest", STOCHASTIC)
_CHOICES = ("raise", "skip", "ignore")
DYNAMIC = "dynamic"
FIRST_SCALE = 65536.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Common keywords, checked.

    Attributes:
        maximize: Climb instead of descending.
        clip_norm: Scale the gradients down so that their global norm is at most this.
        clip_value: Then clamp each value to ``[-clip_value, clip_value]``.
        on_nonfinite: What a NaN or infinite gradient does: "raise" an error, "skip" the step, or
            "ignore", which does not look. Without clipping so does a number of an eighth of the
            largest or more, of which sums and differences would be infinite.
        state_dtype: None keeps the state in the dtype of the parameters, "bfloat16" and "int8" in
            fewer bytes, by stochastic rounding.
        master_weights: Whether parameters of two bytes (float16, bfloat16) also have a float32
            each, in the state, so that updates smaller than their last place add up. "split" and
            "split8" keep its lower 16 or 8 bits beside a bfloat16.
        param_rounding: How parameters of two bytes without master weights are rounded: to
            "nearest", or "stochastic", so that small updates add up on average.
        loss_scale: What the gradients have been multiplied with, and "dynamic" for a number that
            the optimizer finds: multiply the loss with ``opt.loss_scale``.
        bounds: A pair (low, high), each a number, an array that fits the leaves, None for no bound,
            or a nest of those like the parameters: each step ends inside, in the same pass.
        l1: The weight of an L1 penalty, as the last part of the update before the bounds: a soft
            threshold by lr * l1, for rules where that is its proximal step.
    """

    maximize: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    on_nonfinite: str = "raise"
    state_dtype: str | None = None
    master_weights: bool | str = True
    param_rounding: str = "nearest"
    loss_scale: float | str | None = None
    bounds: Any = None
    l1: float = 0.0

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return {field.name: field.default for field in dataclasses.fields(cls)}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return (*cls.defaults(), "groups")

    @classmethod
    def take(
        cls, owner: str, keywords: Mapping[str, Any], fields: Container[str] = ()
    ) -> tuple[Self, dict[str, Any]]:
        """The options among the keywords, and the other keywords; a rule's own fields go first."""
        names = [name for name in cls.defaults() if name not in fields]
        options = cls(**{name: value for name, value in keywords.items() if name in names})
        rest = {name: value for name, value in keywords.items() if name not in names}
        return options._checked(owner), rest

    def _checked(self, owner: str) -> Self:
        if not isinstance(self.maximize, bool | np.bool_):
            raise TypeError(f"{owner}: maximize must be True or False, got {self.maximize!r:.80}")
        self._check_rounding(owner)
        if not isinstance(self.on_nonfinite, str) or self.on_nonfinite not in _CHOICES:
            raise ValueError(
                f"{owner}: on_nonfinite must be one of {', '.join(map(repr, _CHOICES))}, "
                f"got {self.on_nonfinite!r:.80}"
            )
        if not isinstance(self.state_dtype, str | None) or self.state_dtype not in FORMS:
            raise ValueError(
                f"{owner}: state_dtype must be one of {', '.join(map(repr, FORMS))}, "
                f"got {self.state_dtype!r:.80}"
            )
        limits: dict[str, Any] = {}
        for name in ("clip_norm", "clip_value", "loss_scale"):
            value = getattr(self, name)
            if value is None or (
                name == "loss_scale" and isinstance(value, str) and value == DYNAMIC
            ):
                continue
            other = f", None or {DYNAMIC!r}" if name == "loss_scale" else ", or None for no limit"
            if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
                raise TypeError(f"{owner}: {name} must be a number > 0{other}, got {value!r:.80}")
            size = real(f"{owner}: {name}", value)
            if not 0 < size < math.inf:
                raise ValueError(
                    f"{owner}: {name} must be a finite number > 0{other}, got {value!r:.80}"
                )
            limits[name] = size
        return dataclasses.replace(self, **limits)

    def _check_rounding(self, owner: str) -> None:
        masters, rounding = self.master_weights, self.param_rounding
        if not isinstance(masters, bool | np.bool_ | str):
            raise TypeError(
                f"{owner}: master_weights must be True or False, or one of "
                f"{', '.join(map(repr, LOW))}, got {masters!r:.80}"
            )
        if isinstance(masters, str) and masters not in LOW:
            raise ValueError(
                f"{owner}: master_weights must be True, False or one of "
                f"{', '.join(map(repr, LOW))}, got {masters!r:.80}"
            )
        if not isinstance(rounding, str) or rounding not in ROUNDINGS:
            raise ValueError(
                f"{owner}: param_rounding must be one of {', '.join(map(repr, ROUNDINGS))}, "
                f"got {rounding!r:.80}"
            )
        if rounding == STOCHASTIC and masters:
            raise ValueError(
                f"{owner}: param_rounding={STOCHASTIC!r} is for parameters without master weights, "
                f"but master_weights is {masters!r}; give master_weights=False, or leave "
                "param_rounding out"
            )

    def check_narrow(self, owner: str, structure: Structure) -> None:
        """Refuse what is for parameters of two bytes where there are none, or others."""
        split = isinstance(self.master_weights, str)
        if not split and self.param_rounding != STOCHASTIC:
            return
        name = "master_weights" if split else "param_rounding"
        wanted, kinds = getattr(self, name), ("bfloat16",) if split else ("bfloat16", "float16")
        fits = [leaf.dtype.name in kinds for leaf in structure.leaves]
        for leaf, path in zip(structure.leaves, structure.paths, strict=True):
            # Wider parameters beside those that it is for are exact.
            if leaf.dtype.name not in kinds and (is_narrow(leaf.dtype) or not any(fits)):
                raise TypeError(
                    f"{owner}: {name}={wanted!r} is for parameters of {' or '.join(kinds)}, but "
                    f"{path} has dtype {leaf.dtype}; convert it, or leave {name} out"
                )

    def constraint(self, leaf: int) -> Any:
        """What holds for a leaf of an optimizer that is made, or None."""
        return None if self.bounds is None else self.bounds.by_leaf[leaf]

    def apply(self, engine: Any) -> None:
        engine.maximize = self.maximize
        engine.clip_norm = self.clip_norm or 0.0
        engine.clip_value = self.clip_value or 0.0
        engine.on_nonfinite = self.on_nonfinite
        engine.dynamic = self.loss_scale == DYNAMIC
        engine.loss_scale = FIRST_SCALE if self.loss_scale == DYNAMIC else self.loss_scale or 1.0


def signature(fields: Mapping[str, Field]) -> inspect.Signature:
    """What an optimizer with these hyperparameters is called with."""
    kinds = inspect.Parameter
    listed = [kinds("params", kinds.POSITIONAL_OR_KEYWORD)]
    for name, field in fields.items():
        kind = kinds.POSITIONAL_OR_KEYWORD if name == "lr" else kinds.KEYWORD_ONLY
        listed.append(kinds(name, kind, default=field.default))
    for name, default in Options.defaults().items():
        if name not in fields:
            listed.append(kinds(name, kinds.KEYWORD_ONLY, default=default))
    listed.append(kinds("groups", kinds.KEYWORD_ONLY, default=()))
    return inspect.Signature(listed)
