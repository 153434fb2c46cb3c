"""The step inside of the backward pass: each parameter moves when its gradient is there."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch

from stepsize.interop.torch.optimizer import Optimizer
from stepsize.interop.torch.worker import Worker
from stepsize.interop.torch.wrapping import wrapped
from stepsize.optimizers.arriving import EXACT, LEAF, Arriving

PREVIOUS = "previous"


def in_backward(
    optimizer: Any, *, norm: str = EXACT, nonfinite: str = EXACT, worker: bool = False
) -> InBackward:
    """Let an optimizer of here step inside of ``loss.backward()``, and free each gradient at once.

    The loop stays as it is, ``loss.backward(); optimizer.step()``: each parameter moves as soon as
    its gradient has been accumulated, which is then freed, so that the gradients of a model are
    never in memory together; `step` ends the step and counts it. The bits are those of the plain
    step, but for the policies below.

    One backward pass makes one step: gradients of several cannot be accumulated, since the first
    one has moved the parameters. The same holds for parts of a model that a reentrant checkpoint
    runs several times.

    Args:
        optimizer: One of `stepsize.interop.torch`.
        norm: With ``clip_norm``: "exact" waits for the norm over all gradients and so keeps them,
            "previous" clips by that of the step before (the first step is exact), "leaf" clips
            each parameter's gradient by its own.
        nonfinite: With ``on_nonfinite`` "raise" or "skip": "exact" waits, "leaf" leaves out the
            parameter alone.
        worker: Step in a thread of its own, beside the backward pass; errors come from ``step``.

    Returns:
        The hooks, to be removed with ``.remove()``. ``.waits`` says why gradients are kept all the
        same, if they are; a warning says so too.

    Raises:
        TypeError: For another optimizer, and for rules that need the loss.
        ValueError: For an unknown policy, and for one that nothing here would follow.

    Example:
        >>> import torch
        >>> from stepsize.interop.torch import AdamW, in_backward
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = AdamW(model.parameters(), lr=0.1)
        >>> hooks = in_backward(optimizer)
        >>> model(torch.ones(4, 3)).mean().backward()
        >>> model.weight.grad is None  # it has been used, and freed
        True
        >>> optimizer.step()
        >>> hooks.remove()
    """
    inner = wrapped(optimizer)
    if not isinstance(inner, Optimizer):
        raise TypeError(
            f"in_backward: optimizer must be one of stepsize.interop.torch, got "
            f"{type(optimizer).__name__}"
        )
    owner = inner.owner
    if inner.rule.needs_loss:
        raise TypeError(
            f"in_backward: {owner} needs the loss, which the backward pass does not pass on; call "
            "step(loss=loss) after it"
        )
    if inner.arriving is not None:
        raise ValueError(f"in_backward: {owner} steps in the backward pass already")
    if not isinstance(worker, bool):
        raise TypeError(f"in_backward: worker must be True or False, got {worker!r:.80}")
    inner.arriving = made = InBackward(inner, norm, nonfinite, worker)
    if made.waits:
        warnings.warn(
            f"in_backward: the gradients of {owner} are kept until step(), since {made.waits}; "
            'norm="previous" or "leaf" and nonfinite="leaf" do not wait',
            stacklevel=2,
        )
    return made


class Stepped(Protocol):
    """What `InBackward` steps: an optimizer of this package, or one of copies elsewhere.

    Attributes:
        owner: What errors call it.
        arriving: The hooks, while there are some.
        fetches: Whether gradients are taken as they arrive where the step itself waits for all.
        tensors: The parameters.
        names: What errors call these.
    """

    arriving: Any
    fetches: bool

    @property
    def owner(self) -> str: ...

    @property
    def tensors(self) -> list[torch.Tensor]: ...

    @property
    def names(self) -> list[str]: ...

    def begin(self, norm: Any, nonfinite: Any) -> Arriving:
        """A step by parts."""

    def fetch(self, i: int, gradient: Any) -> Any:
        """What `take` is given of a gradient that has arrived."""

    def take(self, step: Arriving, i: int, given: Any) -> None:
        """Move one parameter."""

    def step_whole(self, loss: Any, stats: bool, given: dict[int, Any]) -> Any:
        """One step with all gradients, and what it did, if that is asked for."""


class InBackward:
    """The hooks of `in_backward`.

    Attributes:
        waits: Why gradients are kept until `step`, or "".
        grad_norm: With ``norm`` "previous" or "leaf", the norm of the gradients of the last step.
            "previous" clips the next step by it: set it when a run goes on.
        skipped: The parameters that the last step left out.
    """

    def __init__(self, optimizer: Stepped, norm: str, nonfinite: str, worker: bool) -> None:
        if norm not in (EXACT, PREVIOUS, LEAF):
            raise ValueError(
                f"{optimizer.owner}: norm must be {EXACT!r}, {PREVIOUS!r} or {LEAF!r} in the "
                f"backward pass, got {norm!r:.80}"
            )
        self._optimizer, self._norm, self._nonfinite = optimizer, norm, nonfinite
        self._hooks: dict[int, tuple[torch.Tensor, Any]] = {}
        self._step: Arriving | None = None
        self.grad_norm = math.nan
        self.skipped: list[str] = []
        self._held: dict[int, Any] = {}
        self._came: set[int] = set()
        self.waits = self._begun(LEAF if norm == PREVIOUS else norm).waits
        self._worker = Worker() if worker else None
        if self._worker is not None:
            weakref.finalize(self, self._worker.end)
        self._hook()

    def _begun(self, norm: Any) -> Arriving:
        return self._optimizer.begin(norm, self._nonfinite)

    def _hook(self) -> None:
        """Listen to parameters that are new, and not to those that are gone."""
        if self.waits and not self._optimizer.fetches:
            return
        now = {id(tensor): tensor for tensor in self._optimizer.tensors if tensor.requires_grad}
        for gone in self._hooks.keys() - now.keys():
            self._hooks.pop(gone)[1].remove()
        for number in now.keys() - self._hooks.keys():
            register: Any = now[number].register_post_accumulate_grad_hook
            self._hooks[number] = now[number], register(_listener(self))

    def remove(self) -> None:
        """End the step that is under way, if one is, and step as before."""
        try:
            self._end()
        finally:
            for _, hook in self._hooks.values():
                hook.remove()
            self._hooks.clear()
            if self._worker is not None:
                self._worker.stop()
            if self._optimizer.arriving is self:
                self._optimizer.arriving = None

    # In the backward pass.

    @property
    def _measures(self) -> bool:
        """Whether this step is a whole one, which finds the norm that the next clips by."""
        known = 0 < self.grad_norm < math.inf
        return self._norm == PREVIOUS and not known and self._step is None

    def arrived(self, tensor: torch.Tensor) -> None:
        """Take the gradient of a parameter, which has been accumulated."""
        optimizer = self._optimizer
        whole = self.waits or self._measures
        if whole and not optimizer.fetches:
            return
        if not self._came:
            self._places = {id(each): i for i, each in enumerate(optimizer.tensors)}
        place = self._places.get(id(tensor))
        if place is None:  # taken out of the groups: its gradient stays, as without hooks
            return
        gradient, tensor.grad = tensor.grad, None
        if self._worker is not None and self._worker.failed:  # step() raises it
            return
        try:
            self._refuse(place, gradient)
            if not whole and self._step is None:
                self._begin()
            given = optimizer.fetch(place, gradient)
        except BaseException as error:
            self._abandon(error)
            raise
        self._came.add(place)
        step = self._step
        if whole or step is None:
            self._held[place] = given
        elif self._worker is None:
            self._take(step, place, given)
        else:
            self._worker.do(lambda: self._take(step, place, given))

    def _refuse(self, place: int, gradient: Any) -> None:
        owner, name = self._optimizer.owner, self._optimizer.names[place]
        if place in self._came:
            raise ValueError(
                f"{owner}: a second gradient of {name} in one step; call step() after each "
                "backward pass, zero_grad() after one that failed, and to accumulate add up the "
                "losses before one"
            )
        if gradient is None:
            raise RuntimeError(
                f"{owner}: another hook has taken the gradient of {name}; a parameter can have one "
                "optimizer that steps in the backward pass"
            )

    def _begin(self) -> None:
        step = self._begun(self.grad_norm if self._norm == PREVIOUS else self._norm)
        step.__enter__()
        self._step = step

    def _take(self, step: Arriving, place: int, given: Any) -> None:
        """Move a parameter; an error ends the step, with those that have moved."""
        if step is not self._step:  # an error has ended it
            return
        try:
            self._optimizer.take(step, place, given)
        except BaseException as error:
            self._abandon(error)
            raise

    def discard(self) -> None:
        """Forget a backward pass that no step() has ended, such as one that failed."""
        if self._step is not None:
            warnings.warn(
                f"zero_grad: {len(self._came)} parameters of {self._optimizer.owner} have moved "
                "already, by gradients that no step() has ended, and stay so",
                stacklevel=3,
            )
        self._abandon(RuntimeError("zero_grad() was called"))

    def _abandon(self, error: BaseException) -> None:
        step, self._step = self._step, None  # tasks that wait do nothing from here on
        if self._worker is not None:
            self._worker.drain()
        self._came.clear()
        self._held.clear()
        if step is not None:
            step.__exit__(type(error), error, None)

    # Called by the optimizer's step.

    def step(self, loss: Any = None) -> None:
        """End the step, with the gradients that have come by another way."""
        self._hook()
        if self._worker is not None and self._worker.failed:
            return self._end()
        optimizer = self._optimizer
        whole = self.waits or self._measures
        if not whole and self._step is None:
            self._begin()
        if optimizer.fetches or not whole:
            for tensor in optimizer.tensors:
                if tensor.grad is not None:
                    self.arrived(tensor)
        if not whole:
            return self._end()
        try:
            found = optimizer.step_whole(loss, self._norm == PREVIOUS, self._held)
        finally:
            self._held.clear()
            self._came.clear()
        self.grad_norm = self.grad_norm if found is None else float(found.grad_norm)
        for tensor in optimizer.tensors:
            tensor.grad = None

    def _end(self) -> None:
        try:
            if self._worker is not None:
                self._worker.wait()
        except BaseException as error:
            self._abandon(error)
            raise
        step, self._step = self._step, None
        self._came.clear()
        if step is not None:
            step.__exit__(None, None, None)
            self.skipped = step.skipped
            # Where nothing came there is no norm to clip by.
            self.grad_norm = step.grad_norm if step.grad_norm > 0 else self.grad_norm


def _listener(hooks: InBackward) -> Callable[[torch.Tensor], None]:
    """What a parameter calls; it does not keep the optimizer, which keeps the parameter."""
    known = weakref.ref(hooks)

    def arrived(tensor: torch.Tensor) -> None:
        found = known()
        if found is not None:
            found.arrived(tensor)

    return arrived
