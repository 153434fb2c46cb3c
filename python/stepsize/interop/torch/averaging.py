"""Torch optimizers that train at one point and answer with another, the average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import increment_version

from stepsize.interop.torch.optimizer import Optimizer
from stepsize.interop.torch.places import Place
from stepsize.interop.torch.states import TRAINING
from stepsize.interop.torch.wrapping import of_wrapped
from stepsize.optimizers.arriving import Arriving


class AveragingOptimizer(Optimizer):
    """Base of the optimizers that keep an average beside the point at which they train."""

    _held = False  # whether the parameters hold the average

    @of_wrapped
    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold the average in the parameters inside a ``with`` block, the training point after it.

        For evaluation, and to save the model; `step`, `state_dict`, `load_state_dict` and copies
        raise RuntimeError inside.
        """
        tensors = [place.tensor for place in self.places()]
        try:
            with self._compiled.averaged():
                self._copy(Place.copy_out)
                increment_version(tensors)
                self._held = True
                try:
                    yield
                finally:
                    self._held = False
        finally:
            self._copy(Place.copy_out)
            increment_version(tensors)

    @of_wrapped
    def state_dict(self) -> dict[str, Any]:
        """As torch's; RuntimeError in an `averaged` block."""
        self._refuse_average("a checkpoint needs the training point")
        state: dict[str, Any] = super().state_dict()
        return state

    @of_wrapped
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As any of these; RuntimeError while the parameters hold the average."""
        self._refuse_average("a checkpoint brings a training point")
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_average("a copy starts from the training point")
        return super().__getstate__()

    def _refuse_average(self, problem: str) -> None:
        if self._held:
            raise RuntimeError(
                f"{type(self).__name__}: {problem}; the parameters hold the average now, leave "
                "the `with optimizer.averaged():` block first"
            )


class TwoPointOptimizer(AveragingOptimizer):
    """Base of those whose answer is the average; torch's own classes leave it to be asked for.

    Trainers that know such optimizers, as those of Hugging Face do, call `eval` before they
    evaluate and `train` before they train. In between the training point is part of the state, and
    so of checkpoints, copies and pickles.
    """

    _evaluates = False  # whether the parameters hold the average, as of the last look at the state

    @of_wrapped
    def eval(self) -> None:
        """Hold the average in the parameters until `train` is called."""
        self._refuse_average("eval() keeps the training point itself")
        if self._training_points():
            return
        places = self.places()
        averages = self._compiled.eval_params()
        moved = [
            (place, average)
            for place, average in zip(places, averages, strict=True)
            if self.state.get(place.tensor)  # without an update the average is the point itself
        ]
        for place, _ in moved:
            self._state[place.tensor][TRAINING] = place.tensor.detach().clone()
        for place, average in moved:
            place.write(average)
        increment_version([place.tensor for place, _ in moved])

    @of_wrapped
    def train(self) -> None:
        """Put the training point back after `eval`."""
        held = self._training_points()
        with torch.no_grad():
            for tensor, point in held:
                tensor.copy_(point)
        for tensor, _ in held:
            del self.state[tensor][TRAINING]

    def _training_points(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        entries = [(tensor, entry) for tensor, entry in self.state.items() if TRAINING in entry]
        return [(tensor, entry[TRAINING]) for tensor, entry in entries]

    def _take_state(self, loaded: bool = False) -> None:
        super()._take_state(loaded)
        self._evaluates = any(TRAINING in entry for entry in self._state.values())

    def _move(self, grads: list[Any], loss: float | None, stats: bool) -> Any:
        self._refuse_evaluation("a step starts")
        return super()._move(grads, loss, stats)

    def begin(self, norm: Any, nonfinite: Any) -> Arriving:
        """As any of these; RuntimeError while the parameters hold the average."""
        self._follow()
        self._refuse_evaluation("a step starts")
        return super().begin(norm, nonfinite)

    @of_wrapped
    def places(self) -> list[Place]:
        """The parameters and the arrays that are moved for them, as they are now."""
        found = super().places()
        self._refuse_evaluation("trials start")
        return found

    def _refuse_evaluation(self, what: str) -> None:
        if self._evaluates:
            raise RuntimeError(
                f"{type(self).__name__}: {what} from the training point; the parameters hold the "
                "average now, call optimizer.train() first"
            )

    @of_wrapped
    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold the average in the parameters inside a ``with`` block, as they do after `eval`.

        For evaluation, and to save the model; `step`, `state_dict`, `load_state_dict` and copies
        raise RuntimeError inside.
        """
        if self._training_points():
            yield
        else:
            with super().averaged():
                yield

    @of_wrapped
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As any of these; RuntimeError while the parameters hold the average.

        A state that was saved after `eval` brings the training point. The parameters, which are to
        be loaded with it, hold the average until `train` is called.
        """
        if self._training_points() and not _has_points(state_dict):
            raise RuntimeError(
                f"{type(self).__name__}: the state was saved at the training point; the parameters "
                "hold the average now, call optimizer.train() first and load them too"
            )
        super().load_state_dict(state_dict)


def _has_points(state_dict: Any) -> bool:
    entries = state_dict.get("state") if isinstance(state_dict, dict) else None
    entries = entries.values() if isinstance(entries, dict) else ()
    return any(isinstance(entry, dict) and TRAINING in entry for entry in entries)
