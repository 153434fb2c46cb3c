"""The rates of an optimizer of torch's kind, for the controllers."""

from __future__ import annotations

from typing import Any

from stepsize.arrays import Nest


class TorchRates:
    """What a controller uses of an optimizer, over ``param_groups``.

    A new `lr_scale` multiplies the rates of the groups, as they are then, by its ratio to the one
    before; so they may follow a scheduler that respects that, such as
    `stepsize.interop.torch.ScheduleLR`.
    """

    def __init__(self, owner: str, optimizer: Any) -> None:
        groups = getattr(optimizer, "param_groups", None)
        if not isinstance(groups, list) or not all(
            isinstance(g, dict) and "lr" in g for g in groups
        ):
            raise TypeError(
                f"{owner}: opt must be an optimizer of stepsize or of torch, got {optimizer!r:.80}"
            )
        self._owner, self._optimizer, self._scale = owner, optimizer, 1.0

    @property
    def lr(self) -> tuple[float, ...]:
        """The rates of the groups."""
        return tuple(float(group["lr"]) for group in self._optimizer.param_groups)

    @property
    def lr_scale(self) -> float:
        """What the rates have been multiplied by."""
        return self._scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        for group in self._optimizer.param_groups:
            if hasattr(group["lr"], "mul_"):  # a tensor is changed in its place, as torch does
                group["lr"].mul_(value / self._scale)
            else:
                group["lr"] *= value / self._scale
        self._scale = value

    @property
    def params(self) -> Nest:
        """The parameters' memory as arrays."""
        tensors = [p for group in self._optimizer.param_groups for p in group["params"]]
        try:
            return [tensor.detach().numpy() for tensor in tensors]
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{self._owner}: restore_best needs parameters that NumPy can share, of float32 or "
                f"float64 on the CPU ({error}); keep a copy of model.state_dict() instead"
            ) from None
