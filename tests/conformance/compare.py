"""A library beside the statements: digits, verdicts, what would explain a difference."""

import itertools
import traceback
from dataclasses import asdict, dataclass, replace

from .adapters.base import Unsupported
from .cases import STEPS, Numbers, cases_of, digits, exact
from .exact import mp, number
from .examples import smallest
from .registry import SCHEDULES

LIMITS = {"float64": 11.0, "float32": 4.5, "bfloat16": 1.0}
LATE = "each update one step late"


@dataclass
class Result:
    """One case of one rule or schedule in one library."""

    rule: str
    case: str
    verdict: str  # "agrees", "as documented", "differs", "not supported", "error"
    digits: float | None = None  # of the source's statement
    documented: float | None = None  # of what the library's documentation says
    note: str = ""
    example: str = ""

    def row(self):
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


def rule_results(adapter, name, steps=STEPS):
    """A result for each case of a rule that the library has."""
    binding = adapter.rules[name]
    seen: set[tuple[str, ...]] = set()
    return [one(adapter, binding, case, seen) for case in cases_of(name.split(":")[0], steps)]


def one(adapter, binding, case, seen):
    case = replace(case, shapes=binding.shapes) if binding.shapes else case
    try:
        found = adapter.trajectory(binding, case)
    except Unsupported as reason:
        return Result(case.rule, case.label, "not supported", note=str(reason))
    except Exception as error:  # a library may raise what it likes: that is its result
        said = traceback.format_exception_only(error)[-1].strip()
        return Result(case.rule, case.label, "error", note=said[:200])
    case = given(binding, case)
    limit = LIMITS[binding.dtype]
    source, _ = agreement(found, case, {})
    result = Result(case.rule, case.label, "agrees", round(source, 1))
    if source >= limit:
        return result
    if binding.documented:
        documented, _ = agreement(found, case, binding.documented)
        result.documented = round(documented, 1)
        if documented >= limit:
            result.verdict = "as documented"
            result.note = said_of(binding.documented, case)
            return result
    result.verdict = "differs"
    late, choices = explanation(found, case, limit)
    result.note = "; ".join(filter(None, (LATE if late else "", said_of(choices, case))))
    if (result.verdict, result.note) not in seen:  # one example of each difference
        seen.add((result.verdict, result.note))
        result.example = smallest(adapter, binding, case, limit, {} if late else choices)
    return result


LONG = 48  # steps of a schedule without an end


def schedule_results(adapter, name):
    """A result for each case of a schedule that the library has, and for what is past its end."""
    binding, stated = adapter.schedules[name], SCHEDULES[name.split(":")[0]]
    results = []
    for numbers in ({}, *stated.cases):
        label = ", ".join(f"{key}={value:g}" for key, value in numbers.items()) or "plain"
        if any(numbers.get(key, value) != value for key, value in binding.fixed.items()):
            continue
        numbers = stated.numbers | numbers | binding.fixed
        end = stated.ends(numbers) if stated.ends else None
        results.append(values_beside(adapter, binding, stated, numbers, label, 0, end or LONG))
        if end and results[-1].verdict != "not supported":
            label = "past the end" if label == "plain" else f"{label}, past the end"
            results.append(
                values_beside(adapter, binding, stated, numbers, label, end + 1, 2 * end + 2)
            )
    return results


def values_beside(adapter, binding, stated, numbers, label, first, last):
    result = Result(stated.name, label, "agrees")
    try:
        seen = Numbers(numbers)
        arguments = binding.given(seen)
        adapter.checked(binding, seen)
        found = adapter.values(binding, arguments, seen, last + 1)
    except Unsupported as reason:
        return Result(stated.name, label, "not supported", note=str(reason))
    except Exception as error:  # a library may raise what it likes: that is its result
        said = traceback.format_exception_only(error)[-1].strip()
        return Result(stated.name, label, "error", note=said[:200])
    last = min(last, len(found) - 1)
    if last < first:
        return Result(stated.name, label, "not supported", note="ends there")
    limit = LIMITS[binding.dtype]

    def beside(choices):
        return values_digits(stated, numbers, choices, found, first, last)

    source, step, wanted = beside({})
    result.digits = round(source, 1)
    if source >= limit:
        return result
    if binding.documented:
        documented, step, wanted = beside(binding.documented)
        result.documented = round(documented, 1)
        if documented >= limit:
            result.verdict = "as documented"
            result.note = "; ".join(f"{k}: {v}" for k, v in binding.documented.items())
            return result
    result.verdict = "differs"
    for key, options in stated.choices.items():
        for value in options[1:]:
            if beside({key: value})[0] >= limit:
                result.note = f"{key}: {value}"
    late = values_digits(stated, numbers, {}, [None, *found[1:]], max(first, 1), last, 1)[0]
    if not result.note and late >= limit:
        result.note = LATE.replace("update", "value")
    made = ", ".join(f"{k}={v}" for k, v in numbers.items())
    result.example = (
        f"{made}: step {step} is {wanted:.6g} by the statement, {found[step]:.6g} found"
    )
    return result


def values_digits(stated, numbers, choices, found, first, last, late=0):
    """The digits, relative to the largest value; the worst step and the value stated for it."""
    exact_numbers = {key: number(value) for key, value in numbers.items()}
    exact_numbers |= {key: options[0] for key, options in stated.choices.items()} | choices
    wanted = [
        mp.mpf(stated.value(max(s - late, 0), Numbers(exact_numbers))) for s in range(last + 1)
    ]
    off, step = max((abs(mp.mpf(float(found[s])) - wanted[s]), -s) for s in range(first, last + 1))
    scale = max(abs(v) for v in wanted)
    return (float(-mp.log10(off / scale)) if off else 50.0), -step, float(wanted[-step])


def given(binding, case):
    return replace(case, numbers=case.numbers | binding.fixed) if binding.fixed else case


def agreement(found, case, choices):
    return digits(found, exact(case, choices), case.x0())


def said_of(choices, case):
    known = case.statement.choices
    return "; ".join(f"{key} {value}" for key, value in choices.items() if key in known)


def explanation(found, case, limit):
    """Whether updates come a step late, and the fewest choices that make the statement agree."""
    others = [(key, value) for key, options in case.statement.choices.items()
              for value in options[1:]]  # fmt: skip
    few = replace(case, steps=min(case.steps, 3))
    for late, most in ((False, 3), (True, 1)):
        for size in range(1 - late, most + 1):
            for picked in itertools.combinations(others, size):
                choices = dict(picked)
                if len(choices) == size and all(
                    beside(found[late : some.steps], some, choices, late) >= limit
                    for some in (few, case)
                ):
                    return late, choices
    return False, {}


def beside(found, case, choices, late):
    wanted = exact(case, choices)
    return digits(found, wanted[:-1] if late else wanted, case.x0())[0]
