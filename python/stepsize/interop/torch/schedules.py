"""Our schedules for any torch optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from stepsize.schedules import Schedule


class ScheduleLR(torch.optim.lr_scheduler.LRScheduler):
    """Let the rate of a torch optimizer, one of ours or any other, follow a schedule.

    The schedule's values are the rates themselves, whatever rate the optimizer was made with; the
    first update uses ``schedule(0)``. Call `step` after every ``optimizer.step()``.

    Args:
        optimizer: A torch optimizer.
        schedule: A schedule for all groups, or a list with one for each.
        last_epoch: The number of updates already made, less 1.

    Raises:
        ValueError: For another number of schedules than of groups.
        TypeError: For what is no schedule.

    Example:
        >>> import stepsize as ss, torch
        >>> from stepsize.interop.torch import ScheduleLR
        >>> x = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([x])
        >>> scheduler = ScheduleLR(optimizer, ss.schedules.linear(1.0, 0.0, 4))
        >>> for _ in range(3):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule | Sequence[Schedule],
        last_epoch: int = -1,
    ) -> None:
        count = len(optimizer.param_groups)
        self.schedules: list[Any] = (
            list(schedule) if isinstance(schedule, list | tuple) else [schedule] * count
        )
        if len(self.schedules) != count:
            raise ValueError(
                f"ScheduleLR: {len(self.schedules)} schedules for {count} groups; give one for "
                "each, or a single one for all"
            )
        for each in self.schedules:
            if not isinstance(each, Schedule):
                raise TypeError(
                    f"ScheduleLR: schedule must be of stepsize.schedules, got {each!r}; wrap a "
                    "function of the step in ss.schedules.from_function"
                )
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        if last_epoch == -1 and isinstance(schedule, Schedule) and len(set(rates)) > 1:
            warnings.warn(
                f"ScheduleLR: one schedule for all groups replaces their own rates, "
                f"{', '.join(map(repr, rates))}; give a list with a schedule for each, such as "
                "[schedule * ratio for ratio in ratios]",
                stacklevel=2,
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rates of the groups at this step."""
        return [float(schedule(self.last_epoch)) for schedule in self.schedules]

    def state_dict(self) -> dict[str, Any]:
        """Counters and schedules as plain values; a schedule with a nameless function is None."""
        return {**super().state_dict(), "schedules": [_saved(each) for each in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a `state_dict`; a schedule that is None there stays the one of here."""
        saved = state_dict["schedules"]
        if len(saved) != len(self.schedules):
            raise ValueError(
                f"ScheduleLR: the state has schedules for {len(saved)} groups, here there are "
                f"{len(self.schedules)}"
            )
        loaded = [
            here if each is None else Schedule.from_dict(each, trust=here)
            for here, each in zip(self.schedules, saved, strict=True)
        ]
        super().load_state_dict({**state_dict, "schedules": loaded})


def _saved(schedule: Schedule) -> Any:
    try:
        return schedule.to_dict()
    except ValueError:  # it holds a function that no import path names
        return None
