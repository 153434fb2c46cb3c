"""Torch's optimizer outside, one compiled step inside."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from operator import is_not, itemgetter
from typing import Any, ClassVar

import torch
from torch.autograd.graph import increment_version
from torch.nn.parameter import is_lazy

from stepsize import _core
from stepsize.arrays import Array, Structure
from stepsize.interop.torch import arguments
from stepsize.interop.torch.by_parts import StepsByParts
from stepsize.interop.torch.places import Place, TensorHost, check_memory
from stepsize.interop.torch.states import Kept, States
from stepsize.interop.torch.wrapping import of_wrapped
from stepsize.optimizers.constraints import resolve
from stepsize.optimizers.loop import layout
from stepsize.optimizers.optimizer import Optimizer as Rule
from stepsize.optimizers.options import CONSTRAINTS
from stepsize.serialization import states
from stepsize.validation import as_loss

# Of tensors that are views of a conjugate's imaginary part: their memory has the other sign.
_is_negative = torch.Tensor.is_neg
_is_given = partial(is_not, None)


class Optimizer(StepsByParts, torch.optim.Optimizer):
    """Base of the optimizers here; a torch.optim.Optimizer in every respect.

    `param_groups` and `state` are the interface, as everywhere in torch: what is changed there is
    followed. The compiled optimizer, which moves the tensors' own memory, is made from them, and
    anew when groups, parameters or their memory change.
    """

    rule: ClassVar[type[Rule]]
    __signature__: ClassVar[inspect.Signature]
    param_groups: list[dict[str, Any]]

    _compiled: Any = None
    _bounded_by: Any = None  # the constraints that groups had when it was made, if some had any
    _seen_state = True  # whether somebody may have changed the state since the last step

    def __init__(self, *args: Any, **keywords: Any) -> None:
        name = type(self).__name__
        defaults = arguments.bind(name, self.__signature__, args, keywords)
        params = defaults.pop("params")
        self._chosen = {name: defaults.pop(name) for name in arguments.options_of(self.rule)}
        params = params if isinstance(params, dict | torch.Tensor) else list(params)
        groups = [(group, dict(group)) for group in params if isinstance(group, dict)]
        try:
            super().__init__(params, defaults)
            self._compile(starts=True)
        except BaseException:
            # Torch fills the caller's dicts: what was wrong once would be taken for given later.
            for group, before in groups:
                group.clear()
                group.update(before)
            raise

    # The step.

    @of_wrapped
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        """Update the parameters by one step; those without a gradient are left alone.

        Args:
            closure: Evaluates the model again and returns the loss, which is returned.
            loss: The loss, for rules that need it and are not given a closure.
        """
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        if self.arriving is not None:
            self.arriving.step()
            return found
        self.step_whole(found if loss is None else loss)
        return found

    def step_whole(self, loss: Any, stats: bool = False, given: Any = None) -> Any:
        """One step with the gradients as they are, and with ``stats`` what it did, if anything."""
        self._follow()
        tensors = self._tensors
        grads = [p.grad for p in tensors]
        moved = [p for p, grad in zip(tensors, grads, strict=True) if grad is not None]
        if moved:
            if any(map(_is_negative, filter(_is_given, grads))):
                grads = [grad if grad is None else grad.resolve_neg() for grad in grads]
            number = self._number(loss) if self.rule.needs_loss else None
            found = self._move(grads, number, stats)
            increment_version(moved)
            return found
        return None

    def _move(self, grads: list[Any], loss: float | None, stats: bool) -> Any:
        for i, place in self._special:
            if grads[i] is not None:
                grads[i] = place.gradient(grads[i])
        if not self._copied:
            return self._compiled.step(grads, loss=loss, stats=stats)
        with torch.no_grad():
            copied = [place for i, place in self._copied if grads[i] is not None]
            for place in copied:
                place.copy_in()
            found = self._compiled.step(grads, loss=loss, stats=stats)
            for place in copied:
                place.copy_out()
        return found

    def _number(self, loss: Any) -> float:
        if loss is None:
            raise TypeError(
                f"{type(self).__name__}: the rule needs the loss; call step(closure) or "
                "step(loss=loss)"
            )
        try:
            return as_loss(arguments.plain(loss))
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"{type(self).__name__}: loss must be one number, got {loss!r:.80}"
            ) from None

    # Groups, parameters and state as they are now.

    def _follow(self) -> None:
        groups = self.param_groups
        if self._compiled is None:
            self._refuse_lazy()
        layout = _core.layout([group["params"] for group in groups])
        given = self._bounded_by
        held = given is not None and not _same(given, self._constraints())
        if self._compiled is None or layout != self._layout or held:
            self._compile()
        for k, group in enumerate(groups):
            try:
                changed = self._read(group) != self._seen[k]
            except (RuntimeError, ValueError):  # a tensor or array of several numbers
                changed = True
            if changed:
                self._regroup(k, group)
        if self._seen_state:
            self._take_state()

    def _refuse_lazy(self) -> None:
        for label, tensor in zip(self.names, self.tensors, strict=True):
            if is_lazy(tensor):
                raise ValueError(
                    f"{type(self).__name__}: {label} belongs to a lazy layer and has no shape yet; "
                    "call the model once on a batch first"
                )

    def _owner(self, k: int) -> str:
        name = type(self).__name__
        return name if len(self.param_groups) == 1 else f"{name}: group {k}"

    def _compile(self, loaded: bool = False, starts: bool = False) -> None:
        """Make the compiled optimizer from groups and state; at the start, parameters in bounds."""
        self._show_state()
        name, groups = type(self).__name__, self.param_groups
        tables = [arguments.table(self.rule, self._owner(k), g) for k, g in enumerate(groups)]
        options = arguments.options(name, self._chosen, groups)
        tensors: list[Any] = self.tensors
        if any(map(is_lazy, tensors)):
            self._compiled = None  # made at the first step: their shapes come with the first batch
            return
        places = [
            Place(name, label, p, self.rule.shaped)
            for label, p in zip(self.names, tensors, strict=True)
        ]
        check_memory(name, places)
        assignment = [k for k, group in enumerate(groups) for _ in group["params"]]
        paths = tuple(place.label for place in places)
        arrays = [place.array for place in places]
        structure = Structure(arrays)
        structure.paths = paths
        constraints, own = (assignment, tables), self._constraints()
        options = resolve(self.rule, name, options, structure, own, constraints, starts=starts)
        options = arguments.held_in(options, [tensor.dtype for tensor in tensors])
        self._bounded_by = own if any(own) else None
        compiled: Any = self.rule.over(
            arrays, paths, (assignment, tables), options, partial(TensorHost, name, places)
        )
        self._compiled, self._places = compiled, places
        self._special = [(i, place) for i, place in enumerate(places) if not place.plain]
        self._copied = [(i, place) for i, place in enumerate(places) if place.copied]
        self._tensors = tensors
        self._layout = _core.layout([group["params"] for group in groups])
        self._watched = [key for key in self.defaults if key in groups[0]]
        self._read = itemgetter(*self._watched)
        self._seen = [self._plain(group) for group in groups]
        self._states = States(compiled, places)
        self._take_state(loaded)

    def _constraints(self) -> list[dict[str, Any]]:
        """The bounds and penalties that groups have of their own."""
        names = [name for name in CONSTRAINTS if name not in self.rule.fields]
        return [{name: g[name] for name in names if name in g} for g in self.param_groups]

    def _plain(self, group: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(arguments.plain(value) for value in self._read(group))

    def _regroup(self, k: int, group: dict[str, Any]) -> None:
        """Take over a group's changed values."""
        new = arguments.table(self.rule, self._owner(k), group)
        parts = self._compiled.internals
        old = parts.groups.tables[k]
        changed = [field for name, field in self.rule.fields.items() if new[name] != old[name]]
        same = all(field.same_kind(old[field.name], new[field.name]) for field in changed)
        if (
            not same
            or group["maximize"] != parts.options.maximize
            or layout(self.rule, new) != layout(self.rule, old)
        ):
            self._compile()
            return
        parts.groups.tables[k] = new
        for field in changed:
            parts.groups.pass_on(k, field)
        self._seen[k] = self._plain(group)

    @property
    @of_wrapped
    def state(self) -> defaultdict[Any, Any]:
        """A dict for each parameter that has had an update; the arrays in it are the live ones."""
        self._show_state()
        return self._state

    @state.setter
    @of_wrapped
    def state(self, state: Any) -> None:
        self._state: defaultdict[Any, Any] = defaultdict(dict, state)
        self._seen_state = True

    def _show_state(self) -> None:
        if self._compiled is not None:
            self._compiled.internals.refuse_arriving("its state")
        if self._seen_state or self._compiled is None:
            return
        for i, count in enumerate(self._compiled.internals.engine.times):
            entry = self._states.show(i, count)
            if entry:
                self._state[self._places[i].tensor].update(entry)
        self._seen_state = True

    def _take_state(self, loaded: bool = False) -> None:
        entries = [self._state.get(place.tensor) or {} for place in self._places]
        if loaded:
            for i, entry in enumerate(entries):
                self._states.check(i, entry)
        engine = self._compiled.internals.engine
        counts = [self._states.take(i, entry) for i, entry in enumerate(entries)]
        engine.times = counts
        if self.rule.scope != "all":
            engine.step_count = max(counts)
        self._seen_state = False

    @of_wrapped
    def places(self) -> list[Place]:
        """The parameters and the arrays that are moved for them, as they are now."""
        self._follow()
        self._copy(Place.copy_in)
        return self._places

    @of_wrapped
    def over(self, arrays: list[Array]) -> Rule:
        """The compiled optimizer, with a copy of its state, over copies of its arrays."""
        now = self._compiled
        _, groups, options = now.internals.recipe()
        copy: Rule = self.rule.over(arrays, now.paths, groups, options)
        copy.load_state_dict(now.state_dict())
        return copy

    def _copy(self, way: Callable[[Place], None]) -> None:
        with torch.no_grad():
            for _, place in self._copied:
                way(place)

    # What torch's own methods call.

    @of_wrapped
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with values of their own; an error leaves the optimizer as it was."""
        super().add_param_group(param_group)
        if self._compiled is None:
            return
        try:
            self._compile()
        except Exception:
            self.param_groups.pop()
            raise

    @of_wrapped
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state of this class or of torch's; an error leaves everything as it was."""
        states.mapping(f"{type(self).__name__}.load_state_dict: state_dict", state_dict)
        before = self.param_groups, self.state
        # Torch rounds what it loads to the dtype of the parameters; this hook, the last, prevents.
        hook = self.register_load_state_dict_pre_hook(_keep)
        try:
            super().load_state_dict(state_dict)
            for now, old in zip(self.param_groups, before[0], strict=True):
                for key in CONSTRAINTS:  # a state without them does not take them away
                    if key in old:
                        now.setdefault(key, old[key])
            self._compile(loaded=True)
        except Exception:
            self.param_groups, self.state = before
            raise
        finally:
            hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "chosen": self._chosen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rest = dict(state)
        entries = rest.pop("state")
        if "chosen" in rest:
            self._chosen = rest.pop("chosen")
        super().__setstate__(rest)
        # Torch gives every class this default, those without such an argument too.
        if "differentiable" not in type(self).__signature__.parameters:
            for holder in (self.defaults, *self.param_groups):
                holder.pop("differentiable", None)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
        self.state = {
            key: entry.values if isinstance(entry, Kept) else entry
            for key, entry in entries.items()
        }


def _same(held: list[dict[str, Any]], now: list[dict[str, Any]]) -> bool:
    """Whether these are the same objects."""
    pairs = zip(held, now, strict=True)
    return all(a.keys() == b.keys() and all(a[k] is b[k] for k in a) for a, b in pairs)


def _keep(optimizer: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    checks = {"state": states.mapping, "param_groups": states.each(_group)}
    ours = {key: state_dict[key] for key in checks if key in state_dict}
    entries = states.checked(type(optimizer).__name__, ours, checks)["state"]
    kept = {
        key: Kept(entry) if isinstance(entry, dict) else entry for key, entry in entries.items()
    }
    return {**state_dict, "state": kept}


def _group(label: str, value: Any) -> Any:
    if not isinstance(states.mapping(label, value).get("params"), list):
        raise ValueError(f"{label} must hold a list, params, got {value!r:.80}")
    return value
