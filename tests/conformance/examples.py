"""The smallest example of a difference: the fewest steps, leaves and numbers that still show it."""

from dataclasses import replace

import numpy as np

from .cases import digits, exact

SHAPES = {1: [(1,), (2,)], 2: [(1, 1), (1, 2), (2, 1), (2, 2)]}


def smallest(adapter, binding, case, limit, explained):
    """The smallest example in words, found by trying simpler cases as long as they differ."""

    def differs(tried):
        try:
            found = adapter.trajectory(binding, tried)
            if explained and digits(found, exact(tried, explained), tried.x0())[0] < limit:
                return None  # another difference
            least, step = digits(found, exact(tried, binding.documented), tried.x0())
        except Exception:  # of a kind that is not simpler
            return None
        return (found, step) if least < limit - 1 else None

    seen = differs(case)
    for _ in range(40 if seen else 0):  # a slow library stops simplifying, no more
        for simpler in candidates(case, seen[1], binding):
            now = differs(simpler)
            if now:
                case, seen = simpler, now
                break
        else:
            break
    return in_words(case, exact(case, binding.documented), seen) if seen else ""


def candidates(case, step, binding):
    """Simpler cases, one change each."""
    if step + 1 < case.steps:
        yield replace(case, steps=step + 1, values=case.values and case.values[: step + 1])
    if case.steps > 1:
        yield replace(case, steps=case.steps - 1, values=case.values and case.values[:-1])
    shapes = case.shapes or case.statement.shapes
    if len(shapes) > 1:
        yield from (replace(case, shapes=(shape,)) for shape in shapes)
    elif shapes[0] not in ((1,), (1, 1)):
        before = np.prod(shapes[0])
        fewer = [(int(before) // 2,), (int(before) - 1,)] if before > 2 else []
        smaller = SHAPES[1] + (SHAPES[2] if len(shapes[0]) > 1 else fewer)
        yield from (replace(case, shapes=(s,)) for s in smaller if np.prod(s) < before)
    if case.start is None:
        yield from (replace(case, start=x) for x in (1.0, 0.0))
    if case.values is None and case.kind != "quadratic":
        n = case.steps
        for pattern in ((1.0,), (1.0, -1.0), (0.0, 1.0), (1.0, 0.0), (1.0, 2.0), (-1.0, 1.0, 1.0)):
            yield replace(case, values=tuple((pattern * n)[:n]))
    if case.kind in ("moving rate", "zeros") and case.values is not None:
        yield replace(case, kind="plain")
    for name, value in case.all_numbers.items():
        if isinstance(value, float) and name not in binding.fixed and value not in (0.0, 1.0, 0.5):
            for simple in (0.0, 1.0, 0.5):
                yield replace(case, numbers=case.numbers | {name: simple})


def in_words(case, wanted, seen):
    found, step = seen
    step = min(step, case.steps - 1)
    worst = max(
        ((abs(float(w) - f), float(w), f) for a, b in zip(found[step], wanted[step], strict=True)
         for f, w in zip(np.ravel(a), b.ravel(), strict=True)),
    )  # fmt: skip
    shapes = case.shapes or case.statement.shapes
    g = [case.gradient(t, 0, case.x0()[0]).ravel().tolist() for t in range(case.steps)]
    single = shapes in (((1,),), ((1, 1),))
    x0 = case.x0()[0].ravel()[0] if single else [x.tolist() for x in case.x0()]
    shown = [v[0] for v in g] if single else g
    text = f"x = {said(x0)}, g = {said(shown)}"
    if case.kind == "quadratic":
        text = f"x = {said(x0)}, g = i (x - 1) / 4"
    if case.kind == "moving rate":
        text += f", rate times {said([case.rate(t) for t in range(case.steps)])}"
    places = 6 if worst[0] > 1e-4 * abs(worst[1]) else 16

    def near(value):
        return f"{value:.{places}g}"

    options = ", ".join(f"{k} = {said(v)}" for k, v in case.all_numbers.items() if v)
    values = f"{near(worst[1])} by the statement, {near(worst[2])} found"
    return f"{text}; {options}: step {step + 1} is {values}"


def said(value):
    if isinstance(value, (list, tuple)):
        if len(value) > 2 and len({str(v) for v in value}) == 1:
            return f"{said(value[0])} ({len(value)} times)"
        return ", ".join(f"[{said(v)}]" if isinstance(v, list) else said(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
