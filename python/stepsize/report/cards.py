"""What each result shows in a notebook: one function a kind, and `shown`, which finds it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize import plots
from stepsize.diagnosis import VERDICTS, words
from stepsize.diagnosis.ahead import are_alike
from stepsize.optimizers import loop
from stepsize.plots.views import series
from stepsize.report.notebook import Card, Tone, picture
from stepsize.report.runs import DRAWN, curves, every, ran
from stepsize.schedules import Schedule
from stepsize.validation import counted

__all__ = ["shown"]

TRIALS = 1_500  # runs of a search in a picture
COURSE = 2_001  # steps at which a schedule is looked at
LIKELY = 4  # verdicts whose probabilities are shown
CONFIDENT: dict[str, Tone] = {"high": "good", "medium": "fair", "low": "fair", "none": "bad"}
LEAF_TONES: dict[bool, Tone] = {True: "good", False: "bad"}


def shown(result: Any) -> str | None:
    """The card of a result as markup; None, upon which a notebook prints it, where one fails."""
    try:
        names = (cls.__name__ for cls in type(result).__mro__)
        return next(CARDS[name] for name in names if name in CARDS)(result).html()
    except Exception:  # showing a value must never be what fails
        return None


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _found(result: Any) -> Card:
    lead, *rest = str(result).splitlines()
    tone = CONFIDENT.get(result.confidence, "")
    if result.usable:
        low, high = result.interval
        lead = f"learning rate {result.suggestion:.1e}, likely between {low:.1e} and {high:.1e}"
        rest.insert(0, f"{result.confidence} confidence: {result.why}")
    card = Card("LRFindResult", lead, chip=_sure(result.confidence), tone=tone)
    code = rest.pop() if result.usable else ""
    if result.mismatch and result.mismatch in rest:
        card.text(result.mismatch)
        rest.remove(result.mismatch)
    if code:
        card.code(code)
    card.figure(picture(lambda: plots.range_test(result), "range test"))
    for line in rest:
        card.note(line)
    return card


def _sure(confidence: str) -> str:
    return f"{'no' if confidence == 'none' else confidence} confidence"


def _parameter(result: Any) -> Card:
    lead, *rest = str(result).splitlines()
    tone = CONFIDENT.get(result.confidence, "")
    card = Card("ParameterResult", lead, chip=_sure(result.confidence), tone=tone)
    if result.usable:
        card.code(rest.pop())
    card.figure(picture(lambda: plots.parameter(result), result.parameter))
    for line in rest:
        card.note(line)
    return card


def _diagnosed(result: Any) -> Card:
    row = VERDICTS.get(result.verdict)
    lead, _, rest = str(result).partition(". ")
    probability = result.probabilities.get(result.verdict)
    chip = words(result.verdict) + (f", {probability:.0%}" if probability is not None else "")
    tone: Tone = row.tone if row is not None and result.mismatch is None else "bad"
    card = Card("Diagnosis", f"{lead.rstrip('.')}.", chip=chip, tone=tone if row else "fair")
    card.text(rest)
    if result.probabilities and result.enough_data:
        ranked = sorted(result.probabilities.items(), key=lambda pair: -pair[1])[:LIKELY]
        rows = [(words(name), _bar(share), f"{share:.0%}") for name, share in ranked]
        card.table(("verdict", "", "probability"), rows, raw=(1,))
    return card


def _bar(share: float) -> str:
    """A share as a bar."""
    wide = 120 * min(max(share, 0.0), 1.0)
    return (
        f'<svg width="120" height="9"><rect width="{wide:.1f}" height="9" rx="2" '
        'fill="currentColor"/></svg>'
    )


def _branches(result: Any) -> Card:
    lines, best = str(result).splitlines(), result.best
    lead, _, rest = lines[1].partition("; ")
    chip, tone = _advice(result)
    card = Card("WhatIf", lead, chip=chip, tone=tone)
    card.text(rest)
    card.figure(picture(lambda: plots.futures(_shorter(result)), "possible futures of the run"))
    _, *rows = (line.split() for line in result.table().splitlines())
    names = ("factor", "rate", "gain", "±", "against x1", "±", "ends at")
    told = not are_alike(result)
    places = [k for k, branch in enumerate(result.branches) if branch.factor == best and told]
    filled = [(row + [""] * len(names))[: len(names)] for row in rows]
    card.table(names, filled, total=len(result.branches), best=next(iter(places), None))
    card.note(lines[-1])
    return card


def _advice(result: Any) -> tuple[str, Tone]:
    """What the branches say of the rate, in a few words."""
    if result.best != 1:
        return f"x{result.best:g} ends lowest", "fair"
    if result[1.0].diverged:
        return "every branch diverges", "bad"
    return ("nothing said", "") if are_alike(result) else ("stay at this rate", "good")


def _shorter(result: Any) -> Any:
    """An experiment whose run so far is no longer than a picture needs."""
    if result.history is None or len(result.history["loss"]) <= DRAWN:
        return result
    import dataclasses

    steps, losses = series(result.history, "loss")
    first = max(0, len(losses) - DRAWN)
    return dataclasses.replace(result, history={"step": steps[first:], "loss": losses[first:]})


def _searched(result: Any) -> Card:
    lead = repr(result).removeprefix("<TuneResult ").removesuffix(">")
    count = len(result.trials)
    done = sum(trial.state == "done" for trial in result.trials)
    tone: Tone = "good" if done == count else "fair" if done else "bad"
    card = Card("TuneResult", lead, chip=f"{done:,} of {count:,} done", tone=tone)
    low, high = result.interval
    if low < high:
        card.text(f"as good from {low:.4g} to {high:.4g}")
    card.text(result.stopped)
    if done:
        card.figure(picture(lambda: plots.tuning(_fewer(result)), "value of each run"))
    ranked = result.ranked
    names = list(ranked[0].point)[:8]
    reasons = any(trial.reason for trial in ranked[:20])
    header = [*names, "value", "state", "seconds", *(["reason"] if reasons else [])]
    rows = (
        [
            *(_short(trial.point.get(name)) for name in names),
            _short(trial.value) if math.isfinite(trial.value) else "-",
            trial.state,
            f"{trial.seconds:.2f}",
            *([trial.reason] if reasons else []),
        ]
        for trial in ranked
    )
    wide = (len(header) - 1,) if reasons else ()
    card.table(header, rows, total=count, best=0 if done else None, words=wide)
    return card


def _short(value: Any) -> str:
    if isinstance(value, tuple) and value:
        return f"({', '.join(map(_short, value))})"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _fewer(result: Any) -> Any:
    """A search of no more runs than a picture can show, the best of them among these."""
    if len(result.trials) <= TRIALS:
        return result
    import dataclasses

    ranked = result.ranked
    kept = {trial.number for trial in ranked[: TRIALS // 2]}
    kept |= {ranked[k].number for k in every(np.arange(len(ranked)), TRIALS // 2)}
    trials = tuple(trial for trial in result.trials if trial.number in kept)
    return dataclasses.replace(result, trials=trials)


def _automatic(result: Any) -> Card:
    lines = str(result).splitlines()
    row = VERDICTS.get(result.diagnosis.verdict)
    chip = words(result.diagnosis.verdict)
    lead = repr(result).removeprefix("<AutoResult ").removesuffix(">")
    card = Card("AutoResult", lead, chip=chip, tone=row.tone if row else "fair")
    card.text(lines[-1])
    card.figure(curves(result.history, "the run"))
    if result.actions:
        rows = ((f"{a.step:,}", a.what, a.why) for a in result.actions)
        card.table(("step", "what", "why"), rows, total=len(result.actions), words=(1, 2))
    actions = set(map(str, result.actions))
    for line in lines[:-1]:
        if line not in actions:
            card.note(line)
    return card


def _scheduled(schedule: Any) -> Card:
    lead = _course(schedule)
    card = Card("Schedule", lead)
    card.code(repr(schedule), inline=True)
    card.figure(schedule.svg())
    return card


def _course(schedule: Any) -> str:
    """Where a schedule starts, where it is highest, and what it holds in the end."""
    first, length = float(schedule(0)), schedule.length
    words = f"{_number(first)} at step 0"
    if not math.isfinite(length):
        return words
    held = float(schedule(int(length)))
    at = np.unique(np.linspace(0, int(length), COURSE).astype(np.int64))
    rates = np.asarray(schedule(at), float)
    top = int(np.argmax(rates))
    if (rates == first).all():
        return f"{_number(first)} at every step"
    if rates[top] > max(first, held):
        words += f", highest near step {at[top]:,}: {_number(float(rates[top]))}"
    return f"{words}, {_number(held)} from step {length:,.0f} on"


def _optimizer(optimizer: Any) -> Card:
    chain, inner = [type(optimizer).__name__], optimizer
    while (deeper := vars(inner).get("inner")) is not None and len(chain) < 20:
        inner = deeper
        chain.append(type(inner).__name__)
    paths, parts = inner.paths, inner.internals
    leaves = parts.leaves.arrays
    size = sum(leaf.size for leaf in leaves)
    lead = f"{size:,} parameters in {counted(len(paths), 'array')}"
    card = Card(" of ".join(chain), lead, chip=counted(inner.step_count, "step"))
    told = loop.shown(parts.fields, parts.groups.tables)
    fields = [(field.name, parts.groups.text(field)) for field in told]
    card.table(("", "value"), fields, total=len(fields), words=(1,))
    rate = parts.groups.tables[0].get("lr")
    if isinstance(rate, Schedule):
        card.figure(rate.svg())
    rows = (
        (path, "x".join(map(str, leaf.shape)) or "number", str(leaf.dtype))
        for path, leaf in zip(paths, leaves, strict=True)
    )
    card.table(("array", "shape", "dtype"), rows, total=len(paths))
    return card


def _checked(check: Any) -> Card:
    leaves = sorted(check.leaves.values(), key=lambda leaf: leaf.ok)
    wrong = sum(not leaf.ok for leaf in leaves)
    chip = "ok" if check.ok else f"{wrong:,} not ok" if wrong else "not ok"
    lead = str(check).partition("\n")[0]
    card = Card("GradientCheck", lead, chip=chip, tone=LEAF_TONES[bool(check.ok)])
    card.figure(picture(lambda: plots.gradient_check(_striking(check, leaves)), "slopes"))
    header = ("leaf", "verdict", "why", "ratio", "cosine", "error", "shape")
    rows = (
        (
            leaf.path,
            leaf.verdict,
            leaf.words,
            *(_number(value) for value in (leaf.ratio, leaf.cosine, leaf.error)),
            "x".join(map(str, leaf.shape)) or "number",
        )
        for leaf in leaves
    )
    card.table(header, rows, total=len(leaves), words=(2,))
    for note in check.notes[:6]:
        card.note(note)
    card.note(f"{check.calls:,} calls on copies; parameters and batch are untouched")
    return card


def _striking(check: Any, leaves: list[Any]) -> Any:
    """A check of the leaves that a picture has room for, those that are wrong first."""
    import dataclasses

    return dataclasses.replace(check, leaves={leaf.path: leaf for leaf in leaves[:12]})


def _minimized(result: Any) -> Card:
    lead, *rest = str(result).splitlines()
    tone: Tone = "good" if result.converged else "fair"
    card = Card(
        "Result", lead, chip="converged" if result.converged else "not converged", tone=tone
    )
    card.table(("", ""), (line.strip().split(": ", 1) for line in rest), words=(1,))
    if result.history.steps:
        card.figure(curves(result.history, "value and rate of each step"))
    return card


def _transferred(result: Any) -> Card:
    changed = sum(move.before != move.after for move in result.moves)
    card = Card("Transferred", f"{counted(changed, 'hyperparameter')} changed")
    rows = ((m.name, _short(m.before), _short(m.after), m.why) for m in result.moves)
    card.table(("", "before", "after", "rule"), rows, total=len(result.moves), words=(3,))
    return card


# By the name of the class: its module is then loaded already, and need not be here.
CARDS: dict[str, Callable[[Any], Card]] = {
    "AutoResult": _automatic,
    "Diagnosis": _diagnosed,
    "GradientCheck": _checked,
    "History": ran,
    "LRFindResult": _found,
    "Optimizer": _optimizer,
    "ParameterResult": _parameter,
    "Result": _minimized,
    "Schedule": _scheduled,
    "Transferred": _transferred,
    "TuneResult": _searched,
    "WhatIf": _branches,
    "Wrapper": _optimizer,
}
