"""Parameters on one device, and their optimizer on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch

from stepsize.arrays import Array
from stepsize.interop.torch.in_backward import InBackward
from stepsize.interop.torch.places import FULL, HALF
from stepsize.optimizers.arriving import EXACT, Arriving
from stepsize.optimizers.optimizer import Optimizer as Rule


class Transfers(Protocol):
    """How tensors get from the device to the CPU and back.

    Copies of either direction end in the order in which they were started.
    """

    def start(self, target: torch.Tensor, source: torch.Tensor, *, back: bool) -> Any:
        """Begin to copy, to the CPU or ``back`` to the device; returns what `wait` is given."""

    def wait(self, started: Any) -> None:
        """Return when a copy has ended."""

    def empty_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Memory of the CPU that a copy of the tensor may go to."""


class Immediate:
    """Copies that have ended when they are started: where the device is the CPU itself."""

    def start(self, target: torch.Tensor, source: torch.Tensor, *, back: bool) -> None:
        target.copy_(source)

    def wait(self, started: None) -> None:
        pass

    def empty_like(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype)


class Streams:
    """Copies beside the device's work: a stream for each direction, and memory that is pinned."""

    def __init__(self, device: torch.device) -> None:
        self._streams = torch.Stream(device), torch.Stream(device)

    def start(
        self, target: torch.Tensor, source: torch.Tensor, *, back: bool
    ) -> tuple[Any, torch.Tensor]:
        stream = self._streams[back]
        stream.wait_stream(torch.accelerator.current_stream())
        with stream:
            target.copy_(source, non_blocking=True)
        return stream.record_event(), source  # which has to live until then

    def wait(self, started: tuple[Any, torch.Tensor]) -> None:
        started[0].synchronize()

    def empty_like(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)


class Offload:
    """Train parameters that lie on one device with an optimizer whose state lies on the CPU.

    The CPU has a copy of each parameter, with float32 master weights for half precision, and the
    state of the rule. In the backward pass each gradient is copied to the CPU as soon as it is
    there and freed; a thread steps the parameters in the order of arrival, and each goes back
    while the next is stepped. `step` waits for the last. Where ``clip_norm`` or ``on_nonfinite``
    need all gradients, these are copied as they arrive and stepped together, unless ``norm`` and
    ``nonfinite`` say otherwise, as in `in_backward`.

    Written against the calls that torch has for every device, and tested with the CPU as the device
    and with a slow one that is made up; no GPU has run it yet.

    Args:
        params: Tensors, or pairs of a name and a tensor, as ``model.named_parameters()``.
        rule: A class of `stepsize`, such as ``ss.AdamW``.
        norm: With ``clip_norm``: "exact", "previous" or "leaf".
        nonfinite: With ``on_nonfinite`` "raise" or "skip": "exact" or "leaf".
        transfers: How tensors are copied, if not by streams of the device (`Transfers`).
        **keywords: The rule's, and ``groups``, ``clip_norm`` and so on.

    Attributes:
        optimizer: The optimizer over the copies: rates, groups and schedules are set there.
        waits: Why the parameters are stepped together, or "".

    Memory on the CPU: the parameters, the state of the rule, 4 bytes a number of half precision for
    master weights, and the gradients that have arrived and wait.

    Raises:
        TypeError: For what is no tensor, or one of a dtype that cannot be stepped.
        ValueError: For no parameters, names that occur twice, tensors of several devices.

    Example:
        >>> import torch, stepsize as ss
        >>> from stepsize.interop.torch import Offload
        >>> model = torch.nn.Linear(3, 1)
        >>> offload = Offload(model.named_parameters(), ss.AdamW, lr=0.1, on_nonfinite="ignore")
        >>> model(torch.ones(4, 3)).mean().backward()
        >>> offload.step()
        >>> offload.optimizer.step_count, model.weight.grad is None
        (1, True)
    """

    fetches = True

    def __init__(
        self,
        params: Iterable[Any],
        rule: type[Rule],
        *,
        norm: str = EXACT,
        nonfinite: str = EXACT,
        transfers: Transfers | None = None,
        **keywords: Any,
    ) -> None:
        if not (isinstance(rule, type) and issubclass(rule, Rule)):
            raise TypeError(
                f"Offload: rule must be a class of stepsize, such as ss.AdamW, got {rule!r:.80}"
            )
        if rule.needs_closure:
            raise TypeError(
                f"Offload: {rule.__name__} takes the function value_and_grad, not gradients; give "
                "another rule"
            )
        self.names, self.tensors = _named(params)
        device = self.tensors[0].device
        if transfers is None:
            transfers = Immediate() if device.type == "cpu" else Streams(device)
        self._transfers = transfers
        self._copies = [transfers.empty_like(tensor) for tensor in self.tensors]
        for tensor, copy in zip(self.tensors, self._copies, strict=True):
            copy.copy_(tensor.detach())
        self._seen: list[Any] = [None] * len(self.tensors)
        arrays = dict(zip(self.names, map(_array, self._copies), strict=True))
        self.optimizer = rule(arrays, **keywords)
        self._order = [self.optimizer.paths.index(name) for name in self.names]
        self._back: list[tuple[int, Any]] = []  # parameters on their way to the device
        self._norm = math.nan  # of the last step, once the hooks are removed
        self.arriving: InBackward | None = None
        self.arriving = InBackward(self, EXACT if rule.needs_loss else norm, nonfinite, True)
        self.waits = self.arriving.waits
        self.refresh()  # a model may be loaded before its first step

    @property
    def owner(self) -> str:
        """What errors call it."""
        return f"Offload of {type(self.optimizer).__name__}"

    @property
    def grad_norm(self) -> float:
        """As `InBackward.grad_norm`; set it where a run goes on with ``norm="previous"``."""
        return self._norm if self.arriving is None else self.arriving.grad_norm

    @grad_norm.setter
    def grad_norm(self, value: float) -> None:
        self.hooks.grad_norm = value

    @property
    def hooks(self) -> InBackward:
        """The hooks in the backward pass."""
        if self.arriving is None:
            raise RuntimeError(f"{self.owner}: its hooks were removed; make another one")
        return self.arriving

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        """End the step of the gradients of one backward pass; returns the closure's loss.

        When it returns the parameters have their new values.
        """
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        loss = found if loss is None else loss
        number = loss.item() if isinstance(loss, torch.Tensor) else loss
        try:
            self.hooks.step(number if self.optimizer.needs_loss else None)
        finally:
            self._arrive_back()
        return found

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Free gradients that no step has taken, also those of a backward pass that failed."""
        for tensor in self.tensors:
            if set_to_none or tensor.grad is None:
                tensor.grad = None
            else:
                tensor.grad = torch.zeros_like(tensor.grad)
        if self.arriving is not None:
            self.arriving.discard()
        self._arrive_back()

    def refresh(self) -> None:
        """Read all parameters again before the next step.

        What is written into a parameter itself, as `load_state_dict` of a model does, is noticed;
        what is written through its ``.data`` leaves no trace, and is overwritten without this.
        """
        self._seen = [None] * len(self.tensors)

    def remove(self) -> None:
        """End a step that is under way, and listen to the backward pass no longer."""
        if self.arriving is not None:
            hooks, self._norm = self.arriving, self.arriving.grad_norm
            hooks.remove()
            self._arrive_back()

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.owner} belongs to the parameters of one model and cannot be copied or pickled; "
            "keep its state_dict(), and make another for the other model"
        )

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state and the norm to clip by; save the model's beside it."""
        norm = self.grad_norm
        return {"optimizer": self.optimizer.state_dict(), "grad_norm": norm}

    def load_state_dict(self, d: Any) -> None:
        """Take over a `state_dict`, once the model has the parameters that were saved with it."""
        if not isinstance(d, dict) or set(d) != {"optimizer", "grad_norm"}:
            raise ValueError(
                f"{self.owner}: a state is a dict of optimizer and grad_norm, got {d!r:.80}"
            )
        if not isinstance(d["grad_norm"], float):
            raise ValueError(f"{self.owner}: grad_norm must be a float, got {d['grad_norm']!r:.80}")
        self.refresh()
        self._follow()
        self.optimizer.load_state_dict(d["optimizer"])
        self.grad_norm = d["grad_norm"]

    # What the hooks call.

    def _follow(self) -> None:
        """Take over what others have written into the parameters since the last step."""
        for i, (tensor, copy) in enumerate(zip(self.tensors, self._copies, strict=True)):
            if tensor.dtype != copy.dtype or tensor.shape != copy.shape:
                raise TypeError(
                    f"{self.owner}: {self.names[i]} was {copy.dtype} of shape {tuple(copy.shape)} "
                    f"when this was made, and is {tensor.dtype} of shape {tuple(tensor.shape)} "
                    "now; make another Offload"
                )
            now = _version(tensor)
            if now != self._seen[i]:
                copy.copy_(tensor.detach())
                self._seen[i] = now

    def begin(self, norm: Any, nonfinite: Any) -> Arriving:
        """A step by parts, from the parameters as they are now."""
        self._follow()
        return self.optimizer.arriving(norm=norm, nonfinite=nonfinite)

    def fetch(self, i: int, gradient: Any) -> tuple[torch.Tensor, Any]:
        """Start the way of a gradient to the CPU."""
        gradient = gradient.detach().resolve_conj().resolve_neg()
        if gradient.layout != torch.strided:
            raise TypeError(
                f"{self.owner}: the gradient of {self.names[i]} has the layout {gradient.layout}, "
                "expected a dense one; make the layer with sparse=False"
            )
        copy = self._transfers.empty_like(gradient)
        return copy, self._transfers.start(copy, gradient, back=False)

    def take(self, step: Arriving, i: int, given: tuple[torch.Tensor, Any]) -> None:
        """Step one parameter on the CPU, and send it back."""
        copy, started = given
        self._transfers.wait(started)
        if step.move(self._order[i], _array(copy)):
            self._send(i)

    def _send(self, i: int) -> None:
        target = self.tensors[i].detach()  # another thread may write it
        self._back.append((i, self._transfers.start(target, self._copies[i], back=True)))

    def _arrive_back(self) -> None:
        for i, started in self._back:
            self._transfers.wait(started)
            self._seen[i] = _version(self.tensors[i])
        self._back.clear()

    def step_whole(self, loss: Any, stats: bool, given: dict[int, tuple[torch.Tensor, Any]]) -> Any:
        """Step all parameters together, and send them back."""
        self._follow()
        grads: dict[str, Any] = dict.fromkeys(self.names)
        for i, (copy, started) in given.items():
            self._transfers.wait(started)
            grads[self.names[i]] = _array(copy)
        before = self.optimizer.step_count
        found = self.optimizer.step(grads, loss=loss, stats=stats)
        if self.optimizer.step_count > before:
            for i in given:
                self._send(i)
        return found


def _version(tensor: torch.Tensor) -> tuple[int, int]:
    """What changes when a tensor is written, or gets other memory."""
    return tensor._version, tensor.data_ptr()


def _named(params: Iterable[Any]) -> tuple[list[str], list[torch.Tensor]]:
    if isinstance(params, torch.Tensor | dict | str):
        raise TypeError(
            "Offload: params must be tensors or pairs of a name and a tensor, as "
            f"model.named_parameters() gives them, got {type(params).__name__}"
        )
    names: list[str] = []
    tensors: list[torch.Tensor] = []
    for number, item in enumerate(params):
        name, tensor = item if isinstance(item, tuple) and len(item) == 2 else (str(number), item)
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(
                "Offload: params must be tensors or pairs of a name and a tensor, got "
                f"{item!r:.80} at place {number}"
            )
        if tensor.dtype not in FULL + HALF or tensor.layout != torch.strided:
            known = ", ".join(str(dtype) for dtype in FULL + HALF)
            raise TypeError(
                f"Offload: {name} is {tensor.dtype} in the layout {tensor.layout}, expected a "
                f"dense tensor of {known}"
            )
        if name in names or any(tensor is other for other in tensors):
            raise ValueError(f"Offload: the name or the tensor of {name} occurs twice in params")
        if tensors and tensor.device != tensors[0].device:
            raise ValueError(
                f"Offload: {name} is on the device {tensor.device} and {names[0]} on "
                f"{tensors[0].device}; make one Offload for each device"
            )
        names.append(name)
        tensors.append(tensor)
    if not tensors:
        raise ValueError("Offload: params holds no tensors")
    return names, tensors


def _array(tensor: torch.Tensor) -> Array:
    """The memory of a tensor of the CPU as an array."""
    if tensor.dtype != torch.bfloat16:
        whole: Array = tensor.detach().numpy()
        return whole
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(
            'Offload: bfloat16 needs ml_dtypes: pip install "stepsize[bf16]"'
        ) from error
    codes: Array = tensor.detach().view(torch.int16).numpy().view(np.dtype(ml_dtypes.bfloat16))
    return codes
