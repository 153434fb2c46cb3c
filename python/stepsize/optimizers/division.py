"""Which rule of a partition has which leaves, and what a rule may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from stepsize.arrays import Nest, flatten
from stepsize.optimizers.averages import SwapsAverage
from stepsize.optimizers.globs import Glob, few, is_glob, matching
from stepsize.optimizers.groups import hint
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.options import Options
from stepsize.optimizers.registration import maker_of, refuse_other_arrays

Maker = str | type[Optimizer] | Callable[[Nest], Optimizer]
WHOLE = ("maximize", "clip_norm", "clip_value", "on_nonfinite", "loss_scale")  # of a step


def refuse_others(owner: str, others: Mapping[str, Any]) -> None:
    """Refuse keywords that are a rule's, and those that nobody knows."""
    for name, value in others.items():
        if name in WHOLE or name in Options.names():
            raise TypeError(
                f"{owner}: {name} is given to the rules: lambda leaves: ss.AdamW(leaves, "
                f"{name}={value!r:.40})"
            )
        names = [*WHOLE, "rules", "params"]
        raise TypeError(
            f"{owner}: unknown argument {name!r:.80}{hint(name, names)} (it takes "
            f"{', '.join(WHOLE)}); hyperparameters are given to the rules, lambda leaves: "
            f"ss.AdamW(leaves, lr=1e-3)"
        )


def assigned(
    owner: str, rules: Mapping[Glob, Maker], paths: Sequence[str]
) -> dict[Glob, list[int]]:
    """The leaves of each glob: a leaf goes to the first that its path matches."""
    if not isinstance(rules, Mapping) or not rules:
        raise TypeError(
            f"{owner}: rules must be a dict of globs and rules, such as "
            f'{{"*/w": ss.Muon, "*": ss.AdamW}}, got {rules!r:.80}'
        )
    takers: dict[int, Glob] = {}
    shares: dict[Glob, list[int]] = {}
    for pattern in rules:
        if not is_glob(pattern):
            raise TypeError(
                f"{owner}: rules must be by globs of leaf paths such as '*/w', or tuples of globs, "
                f"got {pattern!r:.80}"
            )
        matched = matching(paths, pattern)
        if not matched:
            raise ValueError(f"{owner}: {pattern!r} matches no leaf; the leaves are {few(paths)}")
        shares[pattern] = [i for i in matched if i not in takers]
        if not shares[pattern]:
            first = matched[0]
            raise ValueError(
                f"{owner}: every leaf of {pattern!r} is taken by an earlier glob ({paths[first]} "
                f"by {takers[first]!r}), and the first that matches takes a leaf; put the narrower "
                "one first"
            )
        takers.update(dict.fromkeys(shares[pattern], pattern))
    left = [path for i, path in enumerate(paths) if i not in takers]
    if left:
        raise ValueError(
            f"{owner}: no glob matches {few(left)}; add one for the rest, '*': ss.AdamW, at the end"
        )
    return shares


def made_of(owner: str, pattern: Glob, rule: Maker, leaves: Nest) -> Optimizer:
    """The optimizer of a part, checked."""
    where = f"{owner}: {pattern!r}"
    if isinstance(rule, Optimizer):
        raise TypeError(
            f"{where} has a rule that is made already, {type(rule).__name__}; give its class, or a "
            f"function of the leaves: lambda leaves: ss.{type(rule).__name__}(leaves, ...)"
        )
    maker = maker_of(rule, where)
    if not callable(maker):
        raise TypeError(
            f"{where} must have a rule's name, its class, or a function that makes an optimizer "
            f"from the leaves, got {rule!r:.80}"
        )
    try:
        made: Any = maker(leaves)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error
    _check_made(where, made)
    refuse_other_arrays(where, made, leaves)
    given, held = flatten(leaves)[0], made.internals.leaves.arrays
    if len(given) != len(held) or any(a is not b for a, b in zip(given, held, strict=True)):
        raise ValueError(
            f"{where}: {type(made).__name__} is over other leaves, or has them in another order; "
            "make it from the dict of leaves as it is given"
        )
    return cast(Optimizer, made)


def _check_made(where: str, made: Any) -> None:
    """Refuse what is more than one rule over leaves, and keywords that belong to all parts."""
    kind = type(made).__name__
    if not isinstance(made, Optimizer) or "lr" not in type(made).fields:
        raise TypeError(
            f"{where} must give an optimizer of one rule, got {kind}; what goes around an optimizer"
            " goes around the Partition: ss.EMA(ss.Partition(...))"
        )
    if made.needs_closure:
        raise TypeError(
            f"{where}: {kind} takes the function value_and_grad, not gradients, and looks at all "
            "leaves along a line; give another rule"
        )
    if type(made).step not in (Optimizer.step, SwapsAverage.step):
        raise TypeError(
            f"{where}: {kind} has a step of its own, which would not be called; put what it does "
            "around the Partition"
        )
    options, usual = made.internals.options, Options.defaults()
    for name in WHOLE:
        if getattr(options, name) != usual[name]:
            raise ValueError(
                f"{where}: {name}={getattr(options, name)!r} would hold for a part of the leaves; "
                f"give it to the Partition, which makes one step: {name}=..."
            )
