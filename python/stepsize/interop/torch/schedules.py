"""Our schedules for any torch optimizer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from stepsize.schedules import Schedule, constant
from stepsize.serialization import states


class ScheduleLR(torch.optim.lr_scheduler.LRScheduler):
    """Let the rate of a torch optimizer, one of ours or any other, follow a schedule.

    The schedule's values are the rates themselves, whatever rate the optimizer was made with; the
    first update uses ``schedule(0)``. Call `step` after every ``optimizer.step()``. What others
    multiply a rate by, such as ReduceLROnPlateau, multiplies the rest of its schedule.

    Args:
        optimizer: A torch optimizer.
        schedule: A schedule for all groups, those that are added later too (a warning says so where
            one has a rate of its own), or a list with one for each; a group that is added to a list
            keeps its own rate.
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
        self._shared = None if isinstance(schedule, list | tuple) else schedule
        self.factors = [1.0] * count
        self._set: list[float] | None = None  # the rates as they were set here
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
                    f"ScheduleLR: schedule must be of stepsize.schedules, got {each!r:.80}; wrap a "
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
        self._notice()
        self._set = [
            float(schedule(self.last_epoch)) * factor
            for schedule, factor in zip(self.schedules, self.factors, strict=True)
        ]
        return list(self._set)

    def _notice(self) -> None:
        """Groups that are new, and rates that others have multiplied since they were set here."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        usual = float(self.optimizer.defaults.get("lr", math.nan))
        for i, rate in enumerate(rates[len(self.schedules) :], len(self.schedules)):
            if self._shared is not None and rate not in (usual, rates[0]):
                warnings.warn(
                    f"ScheduleLR: the one schedule for all groups replaces the rate {rate!r} of "
                    f"group {i}, which was added; make ScheduleLR with a list, [schedule], for "
                    "groups that are added to keep their rates",
                    stacklevel=4,
                )
            self.schedules.append(constant(rate) if self._shared is None else self._shared)
            self.factors.append(1.0)
        for i, (rate, before) in enumerate(zip(rates, self._set or [], strict=False)):
            # A tensor of float32 rounds what it is set to, and 0 is no factor to go on with.
            if not math.isclose(rate, before, rel_tol=1e-6) and rate > 0 and before > 0:
                self.factors[i] *= rate / before
        self._set = rates

    def state_dict(self) -> dict[str, Any]:
        """Counters and schedules as plain values; a schedule with a nameless function is None."""
        self._notice()
        state = {**super().state_dict(), "factors": list(self.factors)}
        state["schedules"] = [_saved(each) for each in self.schedules]
        return {key: value for key, value in state.items() if key not in ("_set", "_shared")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a `state_dict`; a schedule that is None there stays the one of here.

        As in torch what the state holds wins: where its schedule is another one than was given
        here, a warning names both. The groups get the rates of the step that the state is of, so it
        does not matter whether the optimizer's state is loaded before or after.
        """
        self._notice()
        checks: dict[str, states.Check] = dict.fromkeys(self.state_dict(), _same)
        checks |= {"schedules": states.each(_same), "factors": states.each(states.positive)}
        checks |= {"last_epoch": states.count, "base_lrs": states.each(states.finite)}
        given = {"factors": [1.0] * len(self.schedules)}
        # Versions of torch differ in what else they keep.
        optional = {key: value for key, value in self.state_dict().items() if key[0] == "_"}
        if isinstance(state_dict, dict):
            state_dict = {key: state_dict[key] for key in state_dict if key != "verbose"}
        found = states.checked("ScheduleLR", state_dict, checks, {**optional, **given})
        saved = found["schedules"]
        if len(saved) != len(self.schedules):
            raise ValueError(
                f"ScheduleLR: the state has schedules for {len(saved)} groups, here there are "
                f"{len(self.schedules)}"
            )
        loaded = [
            here if each is None else Schedule.from_dict(each, trust=here)
            for here, each in zip(self.schedules, saved, strict=True)
        ]
        for i, (here, new) in enumerate(zip(self.schedules, loaded, strict=True)):
            if new != here:
                whose = f" for group {i}" if len(loaded) > 1 and self._shared is None else ""
                warnings.warn(
                    f"ScheduleLR: the state has the schedule {new!r:.200}{whose}, and it takes the "
                    f"place of {here!r:.200}, which was given here; to go on with that one, give "
                    "last_epoch to ScheduleLR instead of loading a state",
                    stacklevel=2,
                )
                if self._shared is not None:
                    break
        super().load_state_dict({**found, "schedules": loaded})
        if self._shared is not None:
            self._shared = loaded[0]
        self._set = None  # nobody has multiplied the rates of before
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if math.isclose(float(group["lr"]), rate, rel_tol=1e-6):
                continue  # loaded already, to the last bit
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = float(rate)
        self._set = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._last_lr = list(self._set)


def _same(label: str, value: Any) -> Any:
    return value


def _saved(schedule: Schedule) -> Any:
    try:
        return schedule.to_dict()
    except ValueError:  # it holds a function that no import path names
        return None
