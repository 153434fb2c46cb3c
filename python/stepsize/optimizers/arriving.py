"""A step whose gradients arrive one by one."""

from __future__ import annotations

import copy
import math
import numbers
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from stepsize.arrays import unflatten
from stepsize.errors import NonFiniteGradientError
from stepsize.names import nearest
from stepsize.optimizers import gradients
from stepsize.optimizers.sparse import RowGradient
from stepsize.optimizers.transaction import alone
from stepsize.validation import number

if TYPE_CHECKING:
    from stepsize.optimizers.internals import Internals

EXACT, LEAF = "exact", "leaf"
_MOVED, _NOT_FINITE = 0, 1  # ``Arrived`` of cpp/bind/engine/engine.hpp


class Arriving:
    """One step of an optimizer, made leaf by leaf; `Optimizer.arriving` makes it.

    Attributes:
        waits: Why the leaves move together at the end, or "" where each moves at once.
        moved: After the block, the leaves that this step has moved.
        skipped: The leaves left out for gradients that are not finite.
        grad_norm: After the block, the norm of the gradients before clipping, if the optimizer
            clips by norm; else NaN.
    """

    def __init__(self, optimizer: Any, plain: bool, loss: Any, norm: Any, nonfinite: Any) -> None:
        self._optimizer = optimizer
        self._parts: Internals = optimizer.internals
        self._loss, self._norm, self._nonfinite = loss, norm, nonfinite
        self._owner = type(optimizer).__name__
        if optimizer.needs_closure:
            raise TypeError(
                f"{self._owner}: arriving is for gradients, and this rule takes the function "
                "value_and_grad; call step(value_and_grad)"
            )
        if self._parts.engine.sharded:
            raise TypeError(
                f"{self._owner}: arriving is for an optimizer that has all leaves, and other ranks "
                "hold parts of these; give the gradients together, step(grads)"
            )
        self._check(plain)
        self.waits = self._why(plain)
        self._places = {path: i for i, path in enumerate(self._parts.leaves.paths)}
        self._held: dict[int, Any] = {}
        self._used = False
        self._came: set[int] = set()
        self._norms: dict[int, float] = {}
        self.moved: tuple[str, ...] = ()
        self.skipped: list[str] = []
        self.grad_norm = math.nan

    def _check(self, plain: bool) -> None:
        """Refuse policies that are none, or that nothing here would follow."""
        options, start = self._parts.options, f"{self._owner}.arriving"
        if self._nonfinite not in (EXACT, LEAF):
            raise ValueError(
                f"{start}: nonfinite must be {EXACT!r} or {LEAF!r}, got {self._nonfinite!r:.80}"
            )
        if isinstance(self._norm, str) or not isinstance(self._norm, numbers.Real):
            if self._norm not in (EXACT, LEAF):
                raise ValueError(
                    f"{start}: norm must be {EXACT!r}, {LEAF!r} or a number, that of the step "
                    f"before, got {self._norm!r:.80}"
                )
        else:
            self._norm = number(
                f"{start}: norm", self._norm, 0.0, math.inf, low_open=True, high_open=True
            )
        if self._norm != EXACT and options.clip_norm is None:
            raise ValueError(
                f"{start}: norm={self._norm!r} says how to clip, but the optimizer does not "
                "(clip_norm is None); leave norm out, or make the optimizer with clip_norm="
            )
        if self._nonfinite == LEAF and options.on_nonfinite == "ignore":
            raise ValueError(
                f'{start}: nonfinite="leaf" says where to look for NaN, but the optimizer does not '
                'look (on_nonfinite is "ignore"); leave nonfinite out'
            )
        if self._nonfinite == LEAF and self._parts.engine.dynamic:
            raise ValueError(
                f'{start}: nonfinite="leaf" moves some leaves where others are not finite, and a '
                "dynamic loss_scale leaves such steps out whole; leave nonfinite out, or give "
                "loss_scale a number"
            )
        fixed = self._needs_all(plain)
        if fixed and (self._norm, self._nonfinite) != (EXACT, EXACT):
            name = "norm" if self._norm != EXACT else "nonfinite"
            raise ValueError(f"{start}: {fixed}, so {name} must be {EXACT!r}; leave it out")

    def _needs_all(self, plain: bool) -> str:
        """Why this optimizer, with whatever options, takes all gradients together, if it does."""
        if not plain:
            return f"{self._owner} does more in a step than its rule"
        for rule in self._parts.groups.rules:
            if rule.scope == "all":
                return f"{rule.__name__} adapts its rate to all leaves together"
        if self._parts.leaves.strided:
            return "some parameters are not contiguous and are copied in and out together"
        return ""

    def _why(self, plain: bool) -> str:
        options = self._parts.options
        if fixed := self._needs_all(plain):
            return fixed
        if options.clip_norm is not None and self._norm == EXACT:
            return "clip_norm is of the norm over all leaves"
        looks = options.on_nonfinite != "ignore" or self._parts.engine.dynamic
        if looks and self._nonfinite == EXACT:
            return "a gradient that is not finite keeps all leaves from moving"
        return ""

    def __enter__(self) -> Self:
        if self._used:
            raise RuntimeError(
                f"{self._owner}: this block has ended; call arriving() for each step"
            )
        self._used = True
        with ExitStack() as stack:
            stack.enter_context(alone("arriving", self._optimizer, idle=False))
            self._times = self._parts.engine.times
            self._parts.engine.open(self._parts.host, self._loss, not self.waits)
            stack.callback(self._parts.engine.close, False)  # does nothing to a step that has ended
            self._stack = stack.pop_all()
        return self

    def __call__(self, path: str, grad: Any) -> bool:
        """Take the gradient of one leaf, which moves now unless the step `waits`.

        Args:
            path: The leaf's name, one of ``opt.paths``.
            grad: Its gradient. It is only read; where the step waits, it is copied.

        Returns:
            Whether the leaf has moved, or will.

        Raises:
            ValueError, TypeError: For an unknown leaf, a gradient that does not fit, or a second
                one of a leaf.
            NonFiniteGradientError: For one that is not finite, with ``on_nonfinite="raise"`` and
                ``nonfinite="leaf"``; this leaf has not moved.
        """
        place = self._places.get(path) if isinstance(path, str) else None
        if place is None:
            near = nearest(path, self._places)
            cure = f"did you mean {near[0]!r:.80}?" if near else "opt.paths has their names"
            raise ValueError(f"{self._owner}: there is no leaf {path!r:.80}; {cure}")
        self._refuse_second(place)
        if grad is None:
            return False
        return self._hold(place, grad) if self.waits else self.move(place, grad)

    def _refuse_second(self, place: int) -> None:
        if place in self._came:
            raise ValueError(
                f"{self._owner}: a second gradient of {self._parts.leaves.paths[place]} in one "
                "step; add up the gradients of a leaf, and give their sum once"
            )

    def _hold(self, place: int, grad: Any) -> bool:
        if not self._parts.engine.is_open:
            raise RuntimeError(f"{self._owner}: the step of this gradient has ended")
        rows = isinstance(grad, RowGradient)
        taken = gradients.gather_leaf(self._parts, place, grad)
        self._held[place] = copy.deepcopy(grad) if rows else np.array(taken)
        self._came.add(place)
        return True

    def move(self, place: int, grad: Any) -> bool:
        """Move a leaf, by its number; whether it has moved."""
        self._refuse_second(place)
        engine, options = self._parts.engine, self._parts.options
        check = options.on_nonfinite != "ignore"
        given = float(self._norm) if not isinstance(self._norm, str) else 0.0
        found, norm = engine.arrive(self._parts.host, place, grad, check, self._norm == LEAF, given)
        if found == _MOVED:
            self._came.add(place)
            self._norms[place] = norm
            return True
        path = self._parts.leaves.paths[place]
        if options.on_nonfinite == "skip":
            self._came.add(place)
            self.skipped.append(path)
            return False
        dtype = self._parts.leaves.arrays[place].dtype
        raise NonFiniteGradientError(
            f"{self._owner}: the gradient of {path} holds "
            f"{gradients.refused(found != _NOT_FINITE, dtype)} at step "
            f"{self._optimizer.step_count}; this leaf has not moved, {len(self._came)} others "
            'have. nonfinite="exact" would move none, on_nonfinite="skip" leaves out such leaves'
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            engine, paths = self._parts.engine, self._parts.leaves.paths
            try:
                self._see_moved()
            finally:
                engine.close(not self.waits and bool(self.moved or not (kind or self.skipped)))
            if error is not None and self.moved:
                error.add_note(
                    f"{len(self.moved)} of {len(paths)} leaves had moved in this step of "
                    f"{self._owner} and stay so; it is counted"
                )
            if self.waits and error is None:
                self._step()
            elif self._norms:
                self.grad_norm = math.hypot(*(self._norms[i] for i in sorted(self._norms)))

    def _step(self) -> None:
        """All leaves together, from what was held."""
        held = [self._held.get(i) for i in range(len(self._places))]
        nest = unflatten(self._parts.leaves.structure.spec, held)
        clips = self._parts.options.clip_norm is not None
        found = self._optimizer.step(nest, loss=self._loss, stats=clips)
        if clips:
            self.grad_norm = float(found.grad_norm)
        self._see_moved()
        self._held.clear()

    def _see_moved(self) -> None:
        parts = self._parts
        pairs = zip(parts.leaves.paths, self._times, parts.engine.times, strict=True)
        self.moved = tuple(path for path, before, now in pairs if before != now)


class StepsByLeaf:
    """The half of `Optimizer` that steps leaf by leaf."""

    def _steps_plainly(self) -> bool:
        """Whether a step is that of the rule and no more."""
        raise NotImplementedError

    def arriving(
        self,
        *,
        loss: float | None = None,
        norm: Literal["exact", "leaf"] | float = "exact",
        nonfinite: Literal["exact", "leaf"] = "exact",
    ) -> Arriving:
        """One step whose gradients arrive one by one: each leaf moves while its own is in cache.

        A leaf whose gradient is not there yet need not be stored beside the others. The bits are
        those of `step`, in whatever order gradients arrive, but for the two policies below; leaves
        without one are left alone. Hyperparameters are those at the begin of the block, whose end
        counts the step. An error in the block leaves the leaves that have moved as they are.

        What asks all gradients before any leaf moves has to wait: gradients are then copied, and
        the end of the block makes the whole step (``waits`` says why). So do `clip_norm` and
        ``on_nonfinite``, unless a policy says otherwise, wrappers, and rules that adapt to all
        leaves together.

        Args:
            loss: As in `step`.
            norm: For ``clip_norm``: "exact" waits for the norm over all leaves, "leaf" clips each
                leaf by its own, and a number is a norm to clip by that is known before, that of
                the last step, ``step.grad_norm``.
            nonfinite: For ``on_nonfinite``: "exact" waits, "leaf" leaves out the leaf alone.

        Returns:
            A context manager, which gives a function of a leaf's path and gradient.

        Example:
            >>> import numpy as np, stepsize as ss
            >>> params = {"a": np.ones(2), "b": np.ones(2)}
            >>> opt = ss.SGD(params, lr=0.5, on_nonfinite="ignore")
            >>> with opt.arriving() as arrived:
            ...     moved = arrived("b", np.ones(2))  # as backpropagation comes to it
            ...     moved = arrived("a", np.ones(2))
            >>> params["a"], opt.step_count, arrived.waits
            (array([0.5, 0.5]), 1, '')
        """
        return Arriving(self, self._steps_plainly(), loss, norm, nonfinite)
