"""The step inside of the backward pass: each parameter moves when its gradient is there."""

from __future__ import annotations

import math
import queue
import threading
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import torch

from stepsize.interop.torch.optimizer import Optimizer
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
        self._hooks: dict[int, Any] = {}
        self._step: Arriving | None = None
        self.grad_norm = math.nan
        self.skipped: list[str] = []
        self._held: dict[int, Any] = {}
        self._came: set[int] = set()
        self.waits = self._begun(LEAF if norm == PREVIOUS else norm).waits
        self._worker = _Worker() if worker else None
        self._hook()

    def _begun(self, norm: Any) -> Arriving:
        return self._optimizer.begin(norm, self._nonfinite)

    def _hook(self) -> None:
        """Listen to parameters that are new."""
        if self.waits and not self._optimizer.fetches:
            return
        for tensor in self._optimizer.tensors:
            if id(tensor) not in self._hooks and tensor.requires_grad:
                register: Any = tensor.register_post_accumulate_grad_hook
                self._hooks[id(tensor)] = register(self._arrived)

    def remove(self) -> None:
        """End the step that is under way, if one is, and step as before."""
        try:
            self._end()
        finally:
            for hook in self._hooks.values():
                hook.remove()
            self._hooks.clear()
            if self._worker is not None:
                self._worker.stop()
            self._optimizer.arriving = None

    # In the backward pass.

    @property
    def _measures(self) -> bool:
        """Whether this step is a whole one, which finds the norm that the next clips by."""
        return self._norm == PREVIOUS and not self.grad_norm > 0 and self._step is None

    def _arrived(self, tensor: torch.Tensor) -> None:
        optimizer = self._optimizer
        whole = self.waits or self._measures
        if whole and not optimizer.fetches:
            return
        if not self._came:
            self._places = {id(each): i for i, each in enumerate(optimizer.tensors)}
        place = self._places[id(tensor)]
        gradient, tensor.grad = tensor.grad, None
        if place in self._came:
            self._refuse_second(place)
        if not whole and self._step is None:
            self._begin()
        self._came.add(place)
        given = optimizer.fetch(place, gradient)
        if whole:
            self._held[place] = given
        elif self._worker is None:
            self._take(place, given)
        else:
            self._worker.do(lambda: self._take(place, given))

    def _refuse_second(self, place: int) -> NoReturn:
        error = ValueError(
            f"{self._optimizer.owner}: a second gradient of {self._optimizer.names[place]} in one "
            "step; call step() after each backward pass, and to accumulate add up the losses "
            "before one"
        )
        self._abandon(error)
        raise error

    def _begin(self) -> None:
        step = self._begun(self.grad_norm if self._norm == PREVIOUS else self._norm)
        step.__enter__()
        self._step = step

    def _take(self, place: int, given: Any) -> None:
        """Move a parameter; an error ends the step, with those that have moved."""
        step = self._step
        if step is None:  # an error has ended it
            return
        try:
            self._optimizer.take(step, place, given)
        except BaseException as error:
            self._abandon(error)
            raise

    def _abandon(self, error: BaseException) -> None:
        step, self._step = self._step, None
        self._came.clear()
        self._held.clear()
        if step is not None:
            step.__exit__(type(error), error, None)

    # Called by the optimizer's step.

    def step(self, loss: Any = None) -> None:
        """End the step, with the gradients that have come by another way."""
        self._hook()
        optimizer = self._optimizer
        whole = self.waits or self._measures
        if not whole and self._step is None:
            self._begin()
        if optimizer.fetches or not whole:
            for tensor in optimizer.tensors:
                if tensor.grad is not None:
                    self._arrived(tensor)
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
        finally:
            step, self._step = self._step, None
            self._came.clear()
            if step is not None:
                step.__exit__(None, None, None)
                self.skipped = step.skipped
                # Where nothing came there is no norm to clip by.
                self.grad_norm = step.grad_norm if step.grad_norm > 0 else self.grad_norm


class _Worker:
    """A thread that does one thing after another; the first error comes from `wait`."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done = threading.Condition()
        self._left = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="stepsize-backward", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if self._error is None:
                    task()
            except BaseException as error:
                self._error = error
            finally:
                del task  # it holds a gradient
                with self._done:
                    self._left -= 1
                    self._done.notify_all()

    def do(self, task: Callable[[], None]) -> None:
        with self._done:
            self._left += 1
        self._tasks.put(task)

    def wait(self) -> None:
        with self._done:
            self._done.wait_for(lambda: self._left == 0)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def stop(self) -> None:
        self._tasks.put(None)
        self._thread.join()
