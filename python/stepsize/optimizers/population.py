"""Many optimizers of one rule at once, over parameters stacked along a leading axis."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

import numpy as np

from stepsize import _core
from stepsize.arrays import (
    Array,
    Nest,
    Structure,
    check_alike,
    check_parameters,
    is_narrow,
    map_leaves,
    refuse_masked,
)
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers import gradients, half
from stepsize.optimizers.fields import Several
from stepsize.optimizers.groups import hint, is_grouped
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.options import DYNAMIC
from stepsize.optimizers.registration import find_rule
from stepsize.optimizers.stats import StepStats
from stepsize.optimizers.transaction import Uninterrupted, assignment
from stepsize.serialization import nested
from stepsize.validation import whole

FORMAT = 1


def replicate(params: Nest, count: int) -> Nest:
    """The nest with every array copied ``count`` times along a new leading axis.

    Args:
        params: A nest of arrays.
        count: How many copies, at least 1.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> ss.replicate({"w": np.array([1.0, 2.0])}, 3)["w"].shape
        (3, 2)
    """
    count = whole("replicate: count", count, most=2**31)
    structure = Structure(params)
    if not structure.leaves:
        raise ValueError("replicate: params holds no array; give at least one")
    for leaf, path in zip(structure.leaves, structure.paths, strict=True):
        if not isinstance(leaf, np.ndarray):
            raise TypeError(
                f"replicate: {path} of params must be an array, got {leaf!r:.80} "
                f"({type(leaf).__name__})"
            )
        refuse_masked("replicate", path, leaf, "give a plain array, parameter.filled(0)")
    return map_leaves(lambda leaf: np.stack([leaf] * count), params)


def population(
    rule: str | type[Optimizer], params: Nest, lr: Any = None, **hyperparameters: Any
) -> Population:
    """Step K replicas of a model, each with its own hyperparameters, by one compiled call.

    Every array has a leading axis of K replicas. Replica k moves as an optimizer of its own over
    the slices ``array[k]`` would, to the bit: norms, counters and what a rule sums up are its own.
    With ``on_nonfinite="skip"``, a replica that has diverged stays where it is, the others go on.

    Args:
        rule: A rule's name or class.
        params: A nest of arrays of shape ``(K, ...)``, updated in place; see `replicate`.
        lr: One rate (or schedule) for all, or a sequence of K.
        **hyperparameters: Those of the rule, each one for all or a sequence of K; ``bounds`` are
            one tuple for all, or a list of K.

    Raises:
        ValueError, TypeError: For arrays or hyperparameters that do not fit, by name.

    Example:
        >>> import numpy as np, stepsize as ss
        >>> x = ss.replicate(np.array([1.0, -1.0]), 3)
        >>> models = ss.population("sgd", x, lr=[0.1, 0.2, 0.4])
        >>> for _ in range(5):
        ...     models.step(2 * x)  # the gradients of x**2
        >>> np.round(np.abs(x[:, 0]), 3)
        array([0.328, 0.078, 0.   ])
        >>> models.replica(1).lr
        0.2
    """
    cls = find_rule(rule, "population")
    if cls.needs_closure:
        raise ValueError(
            f"population: {cls.__name__} calls value_and_grad itself, which no stacked gradient "
            "can answer; use an optimizer for each model"
        )
    structure, count = _stacked(params)
    options = {"lr": lr, **hyperparameters}
    columns = {name: _spread(cls, name, value, count) for name, value in options.items()}
    replicas = []
    for k in range(count):
        try:
            replicas.append(cls(_row(params, k), **{name: c[k] for name, c in columns.items()}))
        except (TypeError, ValueError) as error:
            raise type(error)(f"population: replica {k}: {error}") from None
    return Population(params, structure, replicas)


def _stacked(params: Nest) -> tuple[Structure, int]:
    if is_grouped(params):
        raise ValueError(
            "population: params cannot be a list of groups; use groups=[ss.group(...)]"
        )
    structure = Structure(params)
    check_parameters(structure.leaves, structure.paths, "population")
    first = structure.leaves[0]
    for path, leaf in zip(structure.paths, structure.leaves, strict=True):
        if is_narrow(leaf.dtype):
            raise TypeError(
                f"population: {path} has dtype {leaf.dtype}, expected float32 or float64; "
                "convert it with .astype(np.float32)"
            )
        if leaf.ndim == 0 or len(leaf) == 0 or len(leaf) != (len(first) if first.ndim else 0):
            raise ValueError(
                f"population: {path} has shape {leaf.shape}, but every array needs a leading axis "
                f"of one length, that of the replicas; make it with ss.replicate(params, K)"
            )
    return structure, len(first)


def _row(params: Nest, k: int) -> Nest:
    return map_leaves(lambda leaf: leaf[k, ...], params)


def _spread(cls: type[Optimizer], name: str, value: Any, count: int) -> list[Any]:
    """The value of each replica: the one for all, or its own."""
    listed = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    if listed and isinstance(cls.fields.get(name), Several):
        listed = all(isinstance(item, list | tuple | np.ndarray) for item in value)
    if name == "bounds":  # a tuple is one pair
        pairs = [item is None or isinstance(item, tuple) for item in value or ()] if listed else []
        listed = isinstance(value, list) and all(pairs)
    if not listed or name in ("groups", "on_nonfinite"):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"population: {name} has {len(value)} values for {count} replicas; give one for all, "
            "or one for each"
        )
    return [item.tolist() if isinstance(item, np.ndarray | np.generic) else item for item in value]


class PopulationHost:
    """What the compiled step of a population asks for: the first two parts of a `StepHost`."""

    def __init__(self, population: Population) -> None:
        self._population = weakref.ref(population)

    def _found(self) -> Population:
        found = self._population()
        if found is None:
            raise ReferenceError("the population of this step is gone")
        return found

    def gather(self, grads: Nest) -> list[Any]:
        """Stacked gradients as plain arrays apart from the parameters, or an error in words."""
        population = self._found()
        structure, owner = population._structure, population._owner()
        leaves, paths = structure.leaves, structure.paths
        found: list[Any] = []
        for path, leaf, value in zip(paths, leaves, structure.flatten(grads), strict=True):
            plain = gradients.plain(owner, path, leaf, value)
            plain = None if plain is None else half.to_float32(plain)
            if plain is not None and any(np.may_share_memory(plain, x) for x in leaves):
                plain = plain.copy()
            found.append(plain)
        return found

    def fail(self, kind: str, leaf: int, replica: int, finite: bool = False) -> NoReturn:
        """The error of a gradient that is not finite, the one kind there is."""
        population = self._found()
        held = gradients.refused(finite, population._structure.leaves[leaf].dtype)
        optimizer = population.replica(replica)
        raise NonFiniteGradientError(
            f"{population._owner()}: the gradient of {population.paths[leaf]} holds {held} "
            f"in replica {replica} at step {optimizer.step_count}; nothing was changed. "
            f"Lower its rate (it is {optimizer.lr}), or choose "
            'on_nonfinite="skip" to let the others go on'
        )


class Population:
    """Optimizers of one rule over the slices of stacked parameters; made by `population`.

    Hyperparameters are attributes as on an optimizer, each an array (or list) of one value a
    replica; setting takes one value for all or a sequence of one for each.
    """

    def __init__(self, params: Nest, structure: Structure, replicas: Sequence[Optimizer]) -> None:
        self._params = params
        self._structure = structure
        self._replicas = list(replicas)
        self._rule = type(self._replicas[0])
        if any(replica.internals.options.loss_scale == DYNAMIC for replica in self._replicas):
            raise ValueError(
                f"{self._owner()}: loss_scale must be a number or None here, got {DYNAMIC!r}: one "
                "replica's infinity would stop the others; give a number"
            )
        self._check = [r.internals.options.on_nonfinite for r in self._replicas] == ["raise"] * len(
            self
        )
        leaves = structure.leaves
        engines = [replica.internals.engine for replica in self._replicas]
        hosts = [replica.internals.host for replica in self._replicas]
        self._core = _core.Population(structure.description(), engines, hosts, leaves)
        self._host = PopulationHost(self)

    def __len__(self) -> int:
        return len(self._replicas)

    def replica(self, k: int) -> Optimizer:
        """The optimizer of one replica, over views of its slices."""
        return self._replicas[k]

    def step(
        self, grads: Nest, *, loss: Any = None, stats: bool = False
    ) -> list[StepStats | None] | None:
        """Update all replicas in place by one step; one that raises has changed no replica.

        Args:
            grads: Stacked gradients in the nesting of the parameters; None for a leaf leaves it
                alone in every replica.
            loss: For rules that need it, a sequence of the K losses.
            stats: Whether to return the `StepStats` of each replica.

        Raises:
            ValueError, TypeError: For gradients that do not fit, naming the leaf.
            NonFiniteGradientError: With ``on_nonfinite="raise"``, naming leaf and replica.
        """
        losses = [None] * len(self) if loss is None else self._losses(loss)
        if not self._replicas[0].internals.engine.reference:
            return self._core.step(self._host, grads, losses, stats, self._check)
        # A rule in NumPy may raise in one replica when others have moved.
        leaves = self._structure.leaves
        write = assignment(leaves, [leaf.copy() for leaf in leaves])
        before, counts = [replica.state_dict() for replica in self._replicas], self.step_count
        try:
            return self._core.step(self._host, grads, losses, stats, self._check)
        except BaseException:
            if (self.step_count != counts).any():
                with Uninterrupted():
                    write()
                    self._load(before)
            raise

    def _losses(self, loss: Any) -> list[Any]:
        losses = np.asarray(loss).tolist()
        if not isinstance(losses, list) or len(losses) != len(self):
            raise ValueError(f"{self._owner()}: loss must be {len(self)} numbers, got {loss!r:.80}")
        return losses

    def _owner(self) -> str:
        return f"population of {self._rule.__name__}"

    # Reading and setting.

    @property
    def params(self) -> Nest:
        """The nest of stacked parameters, as given."""
        return self._params

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves' names."""
        return self._structure.paths

    @property
    def step_count(self) -> Array:
        """Updates applied so far, by replica."""
        return np.array([replica.step_count for replica in self._replicas])

    @property
    def hyperparams(self) -> dict[str, Any]:
        """The values that the next step will use, one a replica."""
        return {name: getattr(self, name) for name in self._rule.fields}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and (name == "lr_scale" or name in self._rule.fields):
            values = [getattr(replica, name) for replica in self._replicas]
            return np.array(values) if isinstance(values[0], float) else values
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        if name != "lr_scale" and name not in self._rule.fields:
            raise AttributeError(
                f"{self._owner()} has no attribute {name!r}"
                f"{hint(name, [*self._rule.fields, 'lr_scale'])}; it has "
                f"{', '.join(self._rule.fields)} and lr_scale to set"
            )
        values = _spread(self._rule, name, value, len(self))
        before = [replica.state_dict() for replica in self._replicas]
        try:
            for replica, new in zip(self._replicas, values, strict=True):
                setattr(replica, name, new)
        except BaseException:
            self._load(before)
            raise

    # Copies and files.

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters, replica by replica."""
        replicas = [replica.state_dict() for replica in self._replicas]
        return {"format": FORMAT, "rule": self._rule.__name__, "replicas": replicas}

    def load_state_dict(self, d: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; ValueError names what does not fit, and nothing has changed."""
        expected = {"format": FORMAT, "rule": self._rule.__name__}
        for key, value in expected.items():
            if not isinstance(d, Mapping):
                kind = type(d).__name__
                raise ValueError(f"{self._owner()}: a state dict is a dict, got {kind}")
            found = d.get(key)
            if found != value or isinstance(found, bool):
                raise ValueError(f"{self._owner()}: {key} must be {value!r}, got {found!r:.80}")
        for key in d:
            if key not in (*expected, "replicas"):
                raise ValueError(f"{self._owner()}: {key!r:.80} is no part of the state")
        saved = d.get("replicas")
        if not isinstance(saved, list) or len(saved) != len(self):
            found = len(saved) if isinstance(saved, list) else type(saved).__name__
            raise ValueError(f"{self._owner()}: it has {len(self)} replicas, the state {found}")
        before = [replica.state_dict() for replica in self._replicas]
        try:
            self._load(saved)
        except BaseException:
            self._load(before)
            raise

    def _load(self, states: Sequence[Mapping[str, Any]]) -> None:
        for replica, state in zip(self._replicas, states, strict=True):
            replica.load_state_dict(state)

    def save(self, path: nested.Path) -> None:
        """Write everything but the parameters to one file, whole or not at all."""
        nested.dump(path, "population", self.state_dict())

    def load(self, path: nested.Path) -> None:
        """Take over what `save` wrote; CheckpointError names the file and what is wrong."""
        state = nested.load(path, "population")
        with nested.contents_of(path):
            self.load_state_dict(state)

    def clone(self, params: Nest) -> Self:
        """The same population, state included, over other arrays of the same shapes."""
        check_alike(self._structure, Structure(params), self._owner())
        recipes = [(recipe, copy.deepcopy(state)) for recipe, state in self._recipes()]
        twin: Self = _restored(type(self), self._rule, params, recipes)
        return twin

    def _recipes(self) -> list[tuple[Any, ...]]:
        return [(replica.internals.recipe(), replica.__reduce__()[2]) for replica in self._replicas]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._rule, self._params, self._recipes())

    def __repr__(self) -> str:
        size = sum(leaf.size for leaf in self._structure.leaves)
        return (
            f"<population of {len(self)} x {self._rule.__name__} over {len(self.paths)} stacked "
            f"arrays with {size:,} parameters>"
        )


def _restored(
    kind: type[Any], rule: type[Optimizer], params: Nest, recipes: Sequence[tuple[Any, ...]]
) -> Any:
    replicas = []
    for k, (recipe, state) in enumerate(recipes):
        replicas.append(rule.over(_row(params, k), *recipe))
        replicas[-1].__setstate__(state)
    return kind(params, Structure(params), replicas)
