"""Schedule: a function from the number of applied updates to a value, as an immutable tree."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, get_type_hints, overload

import numpy as np

from stepsize import _core
from stepsize.schedules import nodes
from stepsize.schedules.arguments import Check, check_for
from stepsize.schedules.nodes import Array, Node
from stepsize.validation import number, whole

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FORMAT = "stepsize.schedule"
VERSION = 1
MOST_CELLS = 10_000  # of a drawing in text, across and down
LAST = 2**53  # up to this number whole steps are exact

P = ParamSpec("P")
RECIPES: dict[str, Callable[..., Schedule]] = {}


def recipe(build: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Give a function that builds a schedule checks, and a name to print, save and compare it by.

    The annotations define what each argument may be. The schedule stores the call, not the parts it
    was built from.
    """
    name = build.__name__.rstrip("_")
    signature = inspect.signature(build)

    @functools.cache
    def checks() -> dict[str, Check]:
        hints = get_type_hints(build, include_extras=True)
        return {key: check_for(hints[key]) for key in signature.parameters}

    @functools.wraps(build)
    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature_text(signature)}: {error}") from None
        bound.apply_defaults()
        clean = {key: checks()[key](name, key, value) for key, value in bound.arguments.items()}
        built = build(**clean)  # type: ignore[call-arg]
        return Schedule(name, clean, built._node, built.length)

    RECIPES[name] = make
    make.signature = signature  # type: ignore[attr-defined]
    return make


def signature_text(signature: inspect.Signature) -> str:
    """The arguments without their annotations, for error messages."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


class Schedule:
    r"""A value for every step, as a pure function of the number of updates already applied.

    The functions of `ss.schedules` make schedules; operators and methods combine them. A schedule
    never changes, and past its end it holds its last value.

    `s(step)` takes an int or a float in [0, 2**53] and returns a float, or an ndarray of any shape
    and returns float64 of that shape. `s(0)` is the value the first update uses. All ways to
    evaluate it give bitwise the same values, on every processor.

    >>> from stepsize.schedules import cosine, linear
    >>> s = linear(0.0, 0.1, 10).then(cosine(0.1, 0.0, 90), at=10)
    >>> s(0), s(5), s(10), s(10**6)
    (0.0, 0.05, 0.1, 0.0)
    >>> s * 0.5
    linear(0.0, 0.1, 10).then(cosine(0.1, 0.0, 90), at=10) * 0.5
    """

    __slots__ = ("_arguments", "_call", "_hash", "_node", "compiled", "length", "name")
    __array_ufunc__ = None  # `array * schedule` is an error instead of an array of schedules

    name: str
    length: float
    compiled: _core.Schedule | None
    _arguments: tuple[tuple[str, Any], ...]
    _call: _core.Schedule
    _hash: int
    _node: Node

    def __init__(self, name: str, arguments: Mapping[str, Any], node: Node, length: float) -> None:
        flat, functions = nodes.flatten(node)
        call = _core.Schedule(flat, functions)
        fields = {
            "name": name,
            "length": length,
            "compiled": None if functions else call,  # what can be evaluated without Python
            "_arguments": tuple(arguments.items()),
            "_node": node,
            "_call": call,
            "_hash": hash((name, tuple(arguments.items()))),
        }
        for key, value in fields.items():
            object.__setattr__(self, key, value)

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: ArrayLike) -> Array: ...
    def __call__(self, step: Any) -> Any:
        """The value at `step`, the number of updates already applied."""
        return self._call(step)

    def __setattr__(self, key: str, value: object) -> NoReturn:
        raise AttributeError(f"a Schedule is immutable; make a new one instead of setting {key!r}")

    def __delattr__(self, key: str) -> NoReturn:
        raise AttributeError(f"a Schedule is immutable; {key!r} cannot be deleted")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the call that made this schedule, defaults included."""
        return dict(self._arguments)

    # -- algebra ---------------------------------------------------------------------------------

    def then(self, other: Schedule | float, at: float) -> Schedule:
        """This schedule before step `at`, then `other`, evaluated at `step - at`.

        Nesting does not matter: `a.then(b.then(c, n), m) == a.then(b, m).then(c, m + n)`.

        >>> from stepsize.schedules import constant
        >>> s = constant(0.1).then(constant(0.01), at=5)
        >>> s(4), s(5)
        (0.1, 0.01)
        """
        at = step_argument("then", "at", at)
        left = [(start, piece) for start, piece in pieces_of(self) if start < at]
        right = [(at + start, piece) for start, piece in pieces_of(as_schedule("then", other))]
        starts, pieces = zip(*(left + right), strict=True)
        return RECIPES["then"](pieces, starts) if len(pieces) > 1 else as_schedule("then", other)

    def __mul__(self, other: Schedule | float) -> Schedule:
        if isinstance(other, Schedule):
            return RECIPES["product"](self, other)
        return RECIPES["scale"](self, other) if is_number(other) else NotImplemented

    __rmul__ = __mul__

    def __add__(self, other: Schedule | float) -> Schedule:
        if not isinstance(other, Schedule) and not is_number(other):
            return NotImplemented
        return RECIPES["sum"](self, as_schedule("+", other))

    __radd__ = __add__

    def clip(self, low: float | None = None, high: float | None = None) -> Schedule:
        """This schedule kept within [`low`, `high`]; None leaves that side open."""
        return RECIPES["clip"](self, low, high)

    def shift(self, steps: float) -> Schedule:
        """This schedule delayed by `steps`, with its first value before; negative: earlier."""
        return RECIPES["shift"](self, steps)

    def warmup(self, steps: float, init: float = 0.0) -> Schedule:
        """Linear warm-up over `steps` steps from `init` to the first value, then this schedule.

        The schedule itself starts after the warm-up: its end moves by `steps`. 0 means no warm-up.

        >>> from stepsize.schedules import cosine
        >>> s = cosine(0.1, 0.0, 100).warmup(10)
        >>> s(5), s(10), s(110)
        (0.05, 0.1, 0.0)
        """
        return RECIPES["warmup"](self, steps, init)

    def repeat(self, period: float) -> Schedule:
        """The first `period` steps of this schedule, repeated without end."""
        return RECIPES["repeat"](self, period)

    def by_epoch(self, steps_per_epoch: float, smooth: bool = False) -> Schedule:
        """This schedule with its steps read as epochs of `steps_per_epoch` steps.

        The value changes at the end of each epoch or, with `smooth`, a little in every step.

        >>> from stepsize.schedules import step_decay
        >>> s = step_decay(0.1, 30, 0.5).by_epoch(100)
        >>> s(2999), s(3000)
        (0.1, 0.05)
        """
        return RECIPES["by_epoch"](self, steps_per_epoch, smooth)

    def stretch(self, total: float) -> Schedule:
        """This schedule slowed down or sped up so that it ends at step `total`."""
        return RECIPES["stretch"](self, total)

    def resume_at(self, step: float, new_end: float) -> Schedule:
        """This schedule up to `step`, then its remaining part, stretched to end at `new_end`.

        The value is continuous at `step`: a run can be extended or shortened while it is running.

        >>> from stepsize.schedules import linear
        >>> longer = linear(1.0, 0.0, 100).resume_at(50, new_end=250)
        >>> longer(50), longer(150), longer(250)
        (0.5, 0.25, 0.0)
        """
        return RECIPES["resume_at"](self, step, new_end)

    # -- values ----------------------------------------------------------------------------------

    def values(self, n: int) -> Array:
        """The values the first `n` updates use, as a float64 array."""
        n = whole("values: n", n, 0, LAST)
        return self(np.arange(n)) if self.compiled is None else self.compiled.first(n)

    def integral(self, n: int) -> float:
        """The sum of the first `n` values, correctly rounded."""
        n = whole("integral: n", n, 0, LAST)
        block = 1 << 16
        changing = n if math.isinf(self.length) else min(n, math.ceil(self.length))
        starts = range(0, changing, block)
        blocks = (self(np.arange(i, min(i + block, changing), dtype=np.float64)) for i in starts)
        total = math.fsum(value for values in blocks for value in values.tolist())
        return math.fsum([total, self(self.length) * (n - changing)]) if n > changing else total

    # -- to look at ------------------------------------------------------------------------------

    def plot(self, ax: Any = None, *, steps: int | None = None) -> Any:
        """Draw the values over `steps` steps (its length, or 1000); returns matplotlib's axes.

        ImportError where matplotlib is missing: `pip install "stepsize[plot]"`.
        """
        from stepsize import plots
        from stepsize.schedules.display import shown_steps

        stop = shown_steps(self) if steps is None else whole("plot: steps", steps, 1, LAST)
        return plots.schedule(self, ax, steps=stop)

    def plot_text(self, *, steps: int | None = None, width: int = 78, height: int = 12) -> str:
        """The values over `steps` steps (its length, or 1000) drawn with characters."""
        from stepsize import plots
        from stepsize.schedules.display import shown_steps

        stop = shown_steps(self) if steps is None else whole("plot_text: steps", steps, 1, LAST)
        width = whole("plot_text: width", width, most=MOST_CELLS)
        height = whole("plot_text: height", height, most=MOST_CELLS)
        return plots.text_schedule(self, steps=stop, width=width, height=height)

    def table(self, every: float | None = None, steps: int | None = None) -> str:
        """Steps and values in two columns, one line for every `every` steps, before step `steps`.

        >>> from stepsize.schedules import linear
        >>> print(linear(1.0, 0.0, 4).table(every=2))
        step  value
           0  1
           2  0.5
           4  0
        """
        from stepsize.schedules.display import table

        return table(self, every, steps)

    def svg(self) -> str:
        """The curve as a small SVG image in the colour of the surrounding text."""
        from stepsize.schedules.display import svg

        return svg(self)

    def _repr_html_(self) -> str | None:
        from stepsize.report.cards import shown

        return shown(self)

    # -- identity --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        from stepsize.schedules.expression import written

        return written(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        from stepsize.schedules.expression import same

        return same(self, other)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.name, self.arguments)

    def to_dict(self) -> dict[str, Any]:
        """The schedule as JSON: `Schedule.from_dict` makes an equal one.

        A Python function is saved by its import path; ValueError where it has none.
        """
        from stepsize.schedules.expression import MOST_PARTS, parts, to_plain

        count = parts(self)
        if count > MOST_PARTS:
            raise ValueError(
                f"Schedule.to_dict: the schedule has {count:,} parts, a file holds {MOST_PARTS:,}; "
                "ss.schedules.table(s.values(n)) flattens it"
            )
        return {"format": FORMAT, "version": VERSION, **to_plain(self)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], *, trust: Any = ()) -> Schedule:
        """The schedule that `to_dict` wrote; ValueError for anything else.

        Nothing that `d` names is imported or called. The only Python functions it may contain are
        those in `trust`: a function, a schedule with such a function, or a collection of them.

        >>> from stepsize.schedules import linear
        >>> Schedule.from_dict(linear(1.0, 0.0, 10).to_dict())
        linear(1.0, 0.0, 10)
        """
        from stepsize.schedules.expression import from_plain, functions_in

        where = "Schedule.from_dict"
        if not isinstance(d, Mapping) or d.get("format") != FORMAT:
            raise ValueError(f"{where}: not a dict made by Schedule.to_dict: {d!r:.200}")
        if d.get("version") != VERSION or isinstance(d["version"], bool):
            raise ValueError(
                f"{where}: version {d.get('version')!r:.80} is not {VERSION}; "
                "upgrade stepsize to read it"
            )
        plain = {key: value for key, value in d.items() if key not in ("format", "version")}
        try:
            read: Schedule = from_plain(plain, functions_in(trust))
        except RecursionError:
            raise ValueError(f"{where}: the schedule is nested too deeply") from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None
        return read


def rebuild(name: str, arguments: dict[str, Any]) -> Schedule:
    """Repeat a call by its name; unpickling uses it."""
    return RECIPES[name](**arguments)


def is_number(value: object) -> bool:
    """Whether a value can stand for a constant schedule."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def as_schedule(where: str, value: Schedule | float) -> Schedule:
    """The schedule itself, or the constant one for a number."""
    if isinstance(value, Schedule):
        return value
    if is_number(value):
        number(f"{where}: a number that stands for a schedule", value, 0.0)
        return RECIPES["constant"](value)
    raise TypeError(f"{where}: expected a Schedule or a number, got {value!r:.80}")


def pieces_of(schedule: Schedule) -> list[tuple[float, Schedule]]:
    """Starts and pieces of a joined schedule; any other schedule is one piece that starts at 0."""
    if schedule.name != "then":
        return [(0, schedule)]
    arguments = schedule.arguments
    return list(zip(arguments["starts"], arguments["pieces"], strict=True))


def step_argument(where: str, name: str, value: Any) -> float:
    """A step where one piece ends and the next begins."""
    from stepsize.schedules.arguments import Step

    step: float = check_for(Step)(where, name, value)
    return step
