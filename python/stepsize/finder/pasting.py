"""The line to paste: the call that makes an optimizer again, at another rate."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import inspect
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import stepsize.optimizers as ours
from stepsize.optimizers import Optimizer
from stepsize.optimizers.scheduled import shares_of
from stepsize.optimizers.wrappers.base import Wrapper
from stepsize.schedules import Schedule

SETS_RATE = "optimizer.lr = "
BY_RATE = SETS_RATE + "{0}"


def constructor_call(optimizer: Any) -> str:
    """The call that makes this optimizer, a template with ``{}`` or ``{0}`` for the rate.

    An optimizer of another package, or a wrapper that does not keep its arguments, has its rate
    set instead.
    """
    call = _call(optimizer)
    return call.replace("{0}", "{}") if call.count("{0}") == 1 else call


def _call(optimizer: Any) -> str:
    if isinstance(optimizer, Wrapper):
        inner = _call(optimizer.inner)
        if inner.startswith(SETS_RATE):
            return inner
        names = list(inspect.signature(type(optimizer).__init__).parameters)[2:]
        held = vars(optimizer)
        if any(name not in held for name in names):
            return _by_rate(optimizer)
        given = [inner, *(f"{name}={held[name]!r}" for name in names)]
        return f"{_name(optimizer)}({', '.join(given)})"
    if not isinstance(optimizer, Optimizer) or "lr" not in type(optimizer).fields:
        return _by_rate(optimizer)
    groups = _groups(optimizer)
    base = groups[0][1]
    if _is_grouped(optimizer.params):  # where a group says a value itself, another one tells
        for said, (_, values) in zip(reversed(optimizer.params), reversed(groups), strict=True):
            base = {n: base[n] if n in said else v for n, v in values.items()}
        usual = {n: f.default for n, f in optimizer.fields.items()}
        said_by_all = set.intersection(*map(set, optimizer.params))
        base = {n: usual[n] if n in said_by_all else v for n, v in base.items()}
    told = _differing(base, {n: f.default for n, f in optimizer.fields.items()})
    told.update(_options(optimizer))
    words = [f"{name}={value}" for name, value in told.items()]
    params, rate = "params", ["lr={0}"]
    others = [(leaves, values) for leaves, values in groups[1:] if leaves]
    if _is_grouped(optimizer.params):
        params = f"[{', '.join(_dicts(optimizer, groups))}]" if _rates(optimizer) else params
        rate = [] if params != "params" else rate
    elif others:
        listed = [g for leaves, values in others for g in _group(optimizer, leaves, values, groups)]
        words.append(f"groups=[{', '.join(listed)}]")
    return f"{_name(optimizer)}({', '.join([params, *rate, *words])})"


def _by_rate(optimizer: Any) -> str:
    """The line that sets the rate, for what no call is known of, or one that nobody could read."""
    shares = _rates(optimizer) if hasattr(optimizer, "internals") else ()
    return f"{SETS_RATE}({', '.join(map(_rate, shares))})" if shares else BY_RATE


def _name(optimizer: Any) -> str:
    """The class as a user writes it; one of the user's own has no prefix."""
    kind = type(optimizer)
    return f"ss.{kind.__name__}" if getattr(ours, kind.__name__, None) is kind else kind.__name__


def pasted(optimizer: Any, lr: float) -> str:
    """The line that makes this optimizer at a rate."""
    return line(constructor_call(optimizer), lr)


def line(call: str, lr: float) -> str:
    """The line to paste of a call's template at a rate."""
    told = call.format(f"{lr:.1e}")
    return told if re.match(r"optimizer\.|for ", told) else f"optimizer = {told}"


def _groups(optimizer: Optimizer) -> list[tuple[list[str], dict[str, Any]]]:
    """Each group's leaves and hyperparameters."""
    kept = optimizer.state_dict()["groups"]
    return [
        (list(group["leaves"]), {name: _value(v) for name, v in group["hyperparams"].items()})
        for group in kept
    ]


def _value(plain: Any) -> Any:
    if isinstance(plain, Mapping) and "schedule" in plain:
        return Schedule.from_dict(plain["schedule"])
    return tuple(map(_value, plain)) if isinstance(plain, list) else plain


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_words, value))}{',' if len(value) == 1 else ''})"
    text = repr(value)
    if isinstance(value, Schedule):
        text = re.sub(r"(?<![\w.])([a-z_]+)(?=\()", r"ss.schedules.\1", text)
    return text.replace("{", "{{").replace("}", "}}")


def _differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, str]:
    """The values other than the usual ones, without the rate."""
    return {n: _words(v) for n, v in values.items() if n != "lr" and v != usual[n]}


def _options(optimizer: Optimizer) -> dict[str, str]:
    """The common keywords, such as ``clip_norm``, that are not at their defaults."""
    options: Any = optimizer.internals.options
    return {
        field.name: _words(getattr(options, field.name))
        for field in dataclasses.fields(options)
        if getattr(options, field.name) != field.default
    }


def _rates(optimizer: Optimizer) -> tuple[float, ...]:
    """The share of the largest rate that each group has; nothing where all have the same."""
    return shares_of(optimizer.lr)


def _rate(share: float) -> str:
    return "{0}" if share == 1 else f"{share:.6g} * {{0}}" if share else "0.0"


def _group(
    optimizer: Optimizer,
    leaves: Sequence[str],
    values: Mapping[str, Any],
    groups: Sequence[tuple[list[str], dict[str, Any]]],
) -> list[str]:
    told = _differing(values, groups[0][1])
    number = next(k for k, (_, other) in enumerate(groups) if other is values)
    words = [f"{name}={value}" for name, value in told.items()]
    if shares := _rates(optimizer):
        words.insert(0, f"lr={_rate(shares[number])}")
    return [f"ss.group({', '.join([repr(p), *words])})" for p in _patterns(leaves, optimizer.paths)]


def _patterns(leaves: Sequence[str], paths: Sequence[str]) -> list[str]:
    """One glob that matches these leaves alone, or else one for each."""
    if len(leaves) > 1:
        start = glob.escape(_common(leaves))
        end = glob.escape(_common([leaf[::-1] for leaf in leaves])[::-1])
        for pattern in (f"*{end}", f"{start}*", f"{start}*{end}"):
            if [p for p in paths if fnmatch.fnmatchcase(p, pattern)] == list(leaves):
                return [pattern]
    return [glob.escape(leaf) for leaf in leaves]


def _common(names: Sequence[str]) -> str:
    """What all names start with."""
    first, last = min(names), max(names)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in same)


def _is_grouped(params: Any) -> bool:
    """Whether the parameters are in torch's form, a list of dicts with the key "params"."""
    return isinstance(params, list) and all(isinstance(p, dict) and "params" in p for p in params)


def _dicts(optimizer: Optimizer, groups: Sequence[Any]) -> list[str]:
    shares = _rates(optimizer)
    return [f'{{{{**params[{k}], "lr": {_rate(shares[k])}}}}}' for k in range(len(groups))]
