"""Tensors as the arrays that the compiled step moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stepsize.arrays import Array, check_apart
from stepsize.optimizers.own_host import OptimizerHost

FULL = (torch.float32, torch.float64, torch.complex64, torch.complex128)
HALF = (torch.float16, torch.bfloat16)


class Place:
    """A parameter and the array that the compiled step moves for it.

    The array is the tensor's own memory, its axes in the order in which they lie there. For half
    precision it holds the numbers in float32 while a step is made.

    Attributes:
        label: What errors call the parameter.
        array: What the step moves.
        dtype: Of the array, in torch's words.
        copied: Whether the numbers are copied in before a step and out after it.
        plain: Whether gradients can be handed on as they are.
    """

    def __init__(self, owner: str, label: str, tensor: torch.Tensor, keep_axes: bool) -> None:
        check(owner, label, tensor)
        self.label = label
        self.tensor = tensor
        self.copied = tensor.dtype in HALF
        self.dtype = torch.float32 if self.copied else tensor.dtype
        self._order = None if keep_axes else memory_order(tensor)
        self.plain = self._order is None and not self.copied
        self._seen = self._ordered(tensor.detach())
        if self.copied:
            self._wide = self._seen.to(torch.float32, memory_format=torch.contiguous_format)
            self.array: Array = self._wide.numpy()
        else:
            self.array = self._seen.numpy()

    def _ordered(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self._order is None else tensor.permute(self._order)

    def gradient(self, grad: torch.Tensor) -> torch.Tensor:
        """A gradient as the step reads it, if it is no plain one."""
        grad = self._ordered(grad)
        return grad.to(torch.float32) if self.copied and grad.dtype in HALF else grad

    def shown(self, array: Array) -> torch.Tensor:
        """An array of the leaf's shape as a tensor of the parameter's, in the same memory."""
        coded = array.dtype == np.uint16  # the upper halves of float32
        tensor = torch.from_numpy(array.view(np.int16) if coded else array)
        tensor = tensor.view(torch.bfloat16) if coded else tensor
        if self._order is None:
            return tensor
        back = [self._order.index(axis) for axis in range(self.tensor.ndim)]
        # The codes of a complex leaf have an axis of parts behind its own.
        return tensor.permute([*back, *range(len(back), tensor.ndim)])

    def write(self, array: Array) -> None:
        """Give the parameter the numbers of an array of the leaf's shape."""
        with torch.no_grad():
            self._seen.copy_(torch.from_numpy(array))

    def copy_in(self) -> None:
        """Read the numbers of a half-precision parameter."""
        self._wide.copy_(self._seen)

    def copy_out(self) -> None:
        """Round to the nearest numbers of a half-precision parameter."""
        self._seen.copy_(self._wide)

    def memory(self) -> Array:
        """The tensor's own memory, to be compared with others'."""
        tensor = self.tensor.detach()
        whole: Array = (tensor.view(torch.int16) if self.copied else tensor).numpy()
        return whole


def check(owner: str, label: str, tensor: torch.Tensor) -> None:
    """Refuse by name what has no plain memory to share."""
    if tensor.device.type != "cpu":
        problem = f"is on the device {tensor.device}, expected the CPU"
        fix = f"move the model with .cpu(), or use torch.optim.{owner} there"
    elif tensor.layout != torch.strided:
        problem = f"has the layout {tensor.layout}, expected a dense tensor"
        fix = "make it dense with .to_dense()"
    elif tensor.dtype not in FULL + HALF:
        names = ", ".join(str(dtype) for dtype in FULL + HALF)
        problem, fix = f"is {tensor.dtype}, expected one of {names}", "convert it with .float()"
    elif tensor.is_neg():
        problem = "has the negative bit: its memory holds the negatives of its numbers"
        fix = "make it plain with .resolve_neg()"
    elif tensor.is_conj():
        problem = "has the conjugate bit: its memory holds the conjugates of its numbers"
        fix = "make it plain with .resolve_conj()"
    else:
        return
    raise TypeError(f"{owner}: {label} {problem}; {fix}")


def check_memory(owner: str, places: Sequence[Place]) -> None:
    """Refuse parameters that share memory, and those that overlap themselves."""
    check_apart([place.memory() for place in places], [place.label for place in places], owner)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with its own numbers in memory, not their negatives or conjugates."""
    return tensor.resolve_conj().resolve_neg()


def memory_order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest, where that makes a dense tensor contiguous."""
    if tensor.is_contiguous():
        return None
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))
    return order if tensor.permute(order).is_contiguous() else None


def labels(groups: Sequence[dict[str, Any]]) -> list[str]:
    """What errors call the parameters: by their names, else by their numbers."""
    found: list[str] = []
    for group in groups:
        names = group.get("param_names")
        for i in range(len(group["params"])):
            found.append(f"parameter {names[i]}" if names else f"parameter {len(found)}")
    return found


def gather(owner: str, places: Sequence[Place], grads: Sequence[Any]) -> list[Any]:
    """Gradients that the step cannot read in their place, as arrays; an error has the name."""
    return [
        None if grad is None else _array(owner, place, grad)
        for place, grad in zip(places, grads, strict=True)
    ]


class TensorHost(OptimizerHost):
    """The host of a compiled optimizer whose gradients are tensors."""

    def __init__(self, owner: str, places: Sequence[Place], optimizer: Any) -> None:
        super().__init__(optimizer)
        self._owner, self._places = owner, places

    def gather(self, grads: Sequence[Any]) -> list[Any]:
        return gather(self._owner, self._places, grads)

    def gather_leaf(self, leaf: int, grad: Any) -> list[Any]:
        return [_array(self._owner, self._places[leaf], grad)]


def _array(owner: str, place: Place, grad: torch.Tensor) -> Array:
    name = f"the gradient of {place.label}"
    if grad.layout != torch.strided:
        raise TypeError(
            f"{owner}: {name} has the layout {grad.layout}, expected a dense one; make it dense "
            "with .to_dense(), or the layer with sparse=False"
        )
    expected = place.dtype
    if grad.dtype != expected and (grad.dtype not in HALF or expected.is_complex):
        lost = grad.is_complex() and not expected.is_complex
        cure = "give its real part, grad.real" if lost else f"convert it with .to({expected})"
        raise TypeError(f"{owner}: {name} is {grad.dtype}, expected {expected}; {cure}")
    if grad.shape != place.array.shape:
        raise ValueError(
            f"{owner}: {name} has shape {tuple(grad.shape)}, expected {place.array.shape}"
        )
    whole: Array = plain(grad.detach()).to(expected).contiguous().numpy()
    return whole
