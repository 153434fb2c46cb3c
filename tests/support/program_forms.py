"""Operations of `programs` that make a step otherwise than by `step` on the optimizer itself.

Gradients that arrive one by one move the optimizer. Functions on arrays, a population and a
partition are made of what the optimizer is at that time, and are gone after the operation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import stepsize as ss
from cases import RULES
from programs import bits
from stated_model import Model, NotFinite, is_half, real, states, widened
from stepsize.optimizers import loop
from stepsize.optimizers.registration import snake_case

WHOLE = ("maximize", "clip_norm", "clip_value", "on_nonfinite", "loss_scale")


class Forms:
    """The half of `Operations` with other forms of a step."""

    configuration: Any
    optimizer: Any
    model: Any
    cls: Any
    sam: bool
    gradients: Callable[..., list[Any]]
    copies: Callable[[], list[np.ndarray]]
    for_model: Callable[[Sequence[Any]], list[Any]]
    loss: Callable[[], float | None]

    # Gradients one by one.

    def arrive(self, rng: Any) -> None:
        """A step whose gradients come in an order of their own, in some blocks not all of them."""
        if self.sam:
            return
        flat = self.with_bad(rng, self.gradients(rng))
        given = [ss.RowGradient(*g) if isinstance(g, tuple) else g for g in flat]
        order, paths = rng.permutation(len(flat)), self.optimizer.internals.leaves.paths
        if rng.random() < 0.25:
            return self.broken_off(rng, flat, given, order[: rng.integers(len(flat) + 1)])

        def one_by_one(loss: float | None) -> None:
            with self.arriving(rng, given, loss) as arrived:
                for i in order:
                    arrived(paths[i], given[i])

        self.move(flat, by=one_by_one)  # type: ignore[attr-defined]

    def arriving(self, rng: Any, given: Sequence[Any], loss: float | None) -> Any:
        """Where all numbers are finite it is no matter whether leaves wait for each other."""
        plain = [g.values if isinstance(g, ss.RowGradient) else g for g in given if g is not None]
        if rng.random() < 0.6 and all(np.isfinite(real(widened(g))).all() for g in plain):
            try:
                return self.optimizer.arriving(loss=loss, nonfinite="leaf")
            except ValueError:  # they have to
                pass
        return self.optimizer.arriving(loss=loss)

    def broken_off(
        self, rng: Any, flat: Sequence[Any], given: Sequence[Any], some: Sequence[int]
    ) -> None:
        """An error in the block: leaves that have moved stay so."""
        loss, paths = self.loss(), self.optimizer.internals.leaves.paths
        try:
            with self.arriving(rng, given, loss) as arrived:
                for i in some:
                    arrived(paths[i], given[i])
                raise OSError("inside")
        except OSError:
            pass
        came = [i for i in some if given[i] is not None]
        assert not (arrived.waits and arrived.moved), arrived.moved
        assert arrived.waits or set(arrived.moved) == {paths[i] for i in came}
        if arrived.moved:
            self.model.step(
                self.for_model([g if i in came else None for i, g in enumerate(flat)]), loss
            )

    @staticmethod
    def with_bad(rng: Any, flat: list[Any]) -> list[Any]:
        """Now and then a number among them that is none."""
        places = [g for g in flat if isinstance(g, np.ndarray) and g.size]
        if places and rng.random() < 0.15:
            g = places[rng.integers(len(places))]
            g[tuple(rng.integers(0, n) for n in g.shape)] = [np.nan, np.inf][rng.integers(2)]
        return flat

    def plain_leaves(self) -> bool:
        return all(x.dtype.char in "fd" for x in self.model.points())

    # Functions on arrays.

    def functional(self, rng: Any) -> None:
        """The next update of each leaf by the rule's function, in two parts, on copies."""
        function = vars(ss.functional).get(f"{snake_case(self.cls)}_")
        core, options = self.model.innermost, self.configuration.options
        known = {} if function is None else inspect.signature(function).parameters
        leaves = any(t.get(name) is not None for t in core.tables for name in loop.OF_LEAVES)
        if not known or leaves or core.lr_scale == 0 or not set(options) <= set(known):
            return
        if options.get("on_nonfinite") == "skip" or not self.plain_leaves():
            return
        flat = self.gradients(rng, plain=True)
        expected = core.copy()
        expected.step(self.for_model(flat), None)
        for i, (leaf, g) in enumerate(zip(core.copy().leaves, flat, strict=True)):
            if g is None or not g.size:
                continue
            table = core.tables[core.assignment[i]]
            keywords = {n: self.value_now(table[n]) for n in self.cls.fields if n in known}
            keywords["lr"] = core.numbers(core.assignment[i])["lr"]
            size = leaf.x.size
            cut = int(rng.integers(size))  # the first part may be empty, which moves no scalars
            scalars = np.array(list(leaf.scalars.values()))
            for part in (slice(0, cut), slice(cut, size)):
                own = scalars.copy()  # of the leaf: each part moves them alike
                state = {name: slot.reshape(-1)[part] for name, slot in leaf.slots.items()}
                state |= {"scalars": own} if leaf.scalars else {}
                gradient = np.array(g.reshape(-1)[part], leaf.x.dtype)
                function(leaf.x.reshape(-1)[part], gradient, **state, step=leaf.t + 1,
                         **keywords, **options)  # fmt: skip
            due = expected.leaves[i]
            got = [leaf.x, leaf.slots, dict(zip(leaf.scalars, own.tolist(), strict=True))]
            assert bits(got) == bits([due.x, due.slots, due.scalars]), core.paths[i]

    def value_now(self, value: Any) -> Any:
        """A hyperparameter as the function takes it: without functions of the step."""
        if isinstance(value, tuple):
            return tuple(self.value_now(item) for item in value)
        return self.model.innermost.number(value) if callable(value) else value

    # Two replicas.

    def population(self, rng: Any) -> None:
        """Two replicas of what the optimizer is, with rates and gradients of their own."""
        setup, options = self.configuration, self.configuration.options
        if setup.wrappers or setup.grouped == "list" or options.get("loss_scale") == "dynamic":
            return
        if self.cls.needs_closure or any(is_half(x.dtype) for x in self.model.points()):
            return
        more = dict(setup.fields)
        if setup.grouped == "glob" and len(setup.arrays) > 1:
            more["groups"] = [ss.group("*b", lr=0.02)]
        bounds = {"bounds": [options["bounds"]] * 2} if "bounds" in options else {}
        nest = setup.nest([np.stack([x, x]) for x in setup.start])
        several = ss.population(self.cls, nest, **more, **{**options, **bounds})
        kept = several.replica(0).internals.groups.tables
        state = self.optimizer.state_dict()
        try:
            several.load_state_dict(
                {"format": 1, "rule": self.cls.__name__, "replicas": [state, state]}
            )
        except ValueError as error:
            assert "no file can hold" in str(error), error
            return
        models = [self.model.copy() for _ in range(2)]
        for stacked, x in zip(ss.arrays.flatten(nest)[0], self.copies(), strict=True):
            stacked[...] = x
        several.lr = [0.01, 0.02]
        for model, rate in zip(models, (0.01, 0.02), strict=True):
            self.keep_functions(kept, model)  # type: ignore[attr-defined]
            model.set("lr", [rate] * len(model.tables))
        for _ in range(2):
            models = self.step_of_two(rng, several, models)
        for k, model in enumerate(models):
            replica = several.replica(k)
            leaves = list(replica.internals.leaves.arrays)
            assert bits([leaves, replica.state_dict()]) == bits([model.points(), states(model)])

    def step_of_two(self, rng: Any, several: Any, models: list[Any]) -> list[Any]:
        both = [self.with_bad(rng, self.gradients(rng, plain=True)) for _ in models]
        for i, pair in enumerate(zip(*both, strict=True)):
            if any(g is None for g in pair):  # a leaf has a gradient in each replica, or in none
                both[0][i] = both[1][i] = None
        pairs = zip(*both, strict=True)
        stacked = [None if one is None else np.stack([one, two]) for one, two in pairs]
        loss = self.loss()
        next_models, refused = [model.copy() for model in models], False
        for model, flat in zip(next_models, both, strict=True):
            try:
                model.step(self.for_model(flat), loss)
            except NotFinite:
                refused = True
        try:
            several.step(
                self.nest(stacked),  # type: ignore[attr-defined]
                loss=None if loss is None else [loss] * 2,
            )
            assert not refused, "a replica was due to refuse"
        except ss.NonFiniteGradientError:
            assert refused, "no replica was due to refuse"
        return models if refused else next_models

    # Two rules.

    def partition(self, rng: Any) -> None:
        """The optimizer's rule for the first leaf, another for the rest, both from their start."""
        setup, points = self.configuration, self.copies()
        if len(points) < 2 or not all(np.isfinite(x.astype(complex)).all() for x in points):
            return
        whole = {n: v for n, v in setup.options.items() if n in WHOLE}
        own = {n: v for n, v in setup.options.items() if n not in WHOLE}
        names = [f"{i}{'wb'[i % 2]}" for i in range(len(points))]
        other = RULES[rng.integers(len(RULES))]
        made: list[Any] = []

        def maker(cls: Any, **keywords: Any) -> Callable[[Any], Any]:
            def make(leaves: Any) -> Any:
                made.append(cls(leaves, **keywords))
                return made[-1]

            return make

        rules = {names[0]: maker(self.cls, **setup.fields, **own), "*": maker(other)}
        try:
            parted = ss.Partition(rules, dict(zip(names, points, strict=True)), **whole)
        except (TypeError, ValueError):  # options or dtypes that the rules do not have
            return
        models = []
        for optimizer, options in zip(made, ({**own, **whole}, whole), strict=True):
            parts = optimizer.internals
            given = parts.leaves.arrays, parts.leaves.paths, parts.groups.assignment
            models.append(Model(type(optimizer), *given, parts.groups.tables, options))
        loss = 1.25 if parted.needs_loss else None
        for _ in range(3):
            flat = self.with_bad(rng, self.gradients(rng, plain=True))
            step_of_parts(parted, models, names, flat, loss)
        state = parted.state_dict()
        for model in models:
            due = model.state_dict()
            for path, x in zip(model.paths, model.points(), strict=True):
                got = [points[names.index(path)], *(state[n][path] for n in OF_LEAF)]
                assert bits(got) == bits([x, *(due[n][path] for n in OF_LEAF)]), (path, other)


OF_LEAF = ("steps", "scalars", "state")


def step_of_parts(
    parted: Any, models: Sequence[Model], names: Sequence[str], flat: Sequence[Any], loss: Any
) -> None:
    """A step of a partition and of its models, which have one norm and one check."""
    given = [None if g is None else np.array(g, order="C") for g in flat]
    usable, clip = models[0].usable([g for g in given if g is not None])
    refused = False
    for model in models:
        if usable:
            own = [given[names.index(path)] for path in model.paths]
            model.advance(own, clip, loss)
            continue
        try:
            model.leave_out()
        except NotFinite:
            refused = True
    try:
        parted.step(dict(zip(names, flat, strict=True)), loss=loss)
        assert not refused
    except ss.NonFiniteGradientError:
        assert refused
