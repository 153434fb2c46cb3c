"""Random schedules for property tests: every recipe of the registry, combined by the algebra."""

from hypothesis import strategies as st

import stepsize as ss
from stepsize.schedules.schedule import RECIPES

S = ss.schedules

rates = st.one_of(st.just(0.0), st.floats(1e-8, 10.0), st.sampled_from([1e-3, 0.1, 1.0]))
factors = st.floats(0.01, 1.0)
lengths = st.one_of(st.integers(1, 60), st.floats(0.5, 60.0))
steps = st.integers(0, 60)
shares = st.floats(0.0, 0.95)


def inverse(step):
    """A function with an import path, for `from_function`."""
    return 1.0 / (1.0 + step)


@st.composite
def ascending(draw, least=0):
    return sorted(draw(st.sets(st.integers(0, 100), min_size=least, max_size=6)))


@st.composite
def piecewise(draw):
    boundaries = draw(ascending())
    size = len(boundaries) + 1
    return S.piecewise_constant(boundaries, draw(st.lists(rates, min_size=size, max_size=size)))


@st.composite
def triangles(draw):
    low, high = draw(rates), draw(rates)
    mode = draw(st.sampled_from(["triangular", "triangular2", "exp_range"]))
    gamma = draw(factors) if mode == "exp_range" else 1.0
    down = draw(st.none() | lengths)
    return S.cyclic(low, high, draw(lengths), down, mode=mode, gamma=gamma)


@st.composite
def growing(draw):
    init, rate = draw(rates), draw(st.floats(0.1, 2.0))
    end = draw(st.none() | st.just(init))
    return S.exponential(init, rate, draw(lengths), staircase=draw(st.booleans()), end=end)


def one_cycles():
    return st.builds(
        S.one_cycle,
        rates,
        st.integers(1, 80),
        pct_start=st.floats(0.0, 0.5),
        div=st.floats(1.0, 50.0),
        final_div=st.floats(1.0, 1e4),
        shape=st.sampled_from(["cosine", "linear"]),
        three_phase=st.booleans(),
    )


def warmed(recipe):
    return st.tuples(rates, steps, lengths, rates, rates).map(
        lambda t: recipe(t[0], t[1], t[1] + t[2], init=t[3], end=t[4])
    )


LEAVES = {
    "constant": st.builds(S.constant, rates),
    "linear": st.builds(S.linear, rates, rates, lengths),
    "polynomial": st.builds(
        S.polynomial, rates, rates, lengths, st.floats(0.1, 5.0), cycle=st.booleans()
    ),
    "cosine": st.builds(S.cosine, rates, rates, lengths, st.sampled_from([1, 0.5, 2.0])),
    "exponential": growing(),
    "inverse_time": st.builds(S.inverse_time, rates, rates, lengths, st.booleans()),
    "inverse_sqrt": st.builds(S.inverse_sqrt, rates, steps, lengths),
    "step_decay": st.builds(S.step_decay, rates, lengths, st.floats(0.1, 2.0)),
    "multistep": st.builds(S.multistep, rates, ascending(), factors),
    "piecewise_constant": piecewise(),
    "piecewise_linear": ascending(least=1).flatmap(
        lambda at: st.lists(rates, min_size=len(at), max_size=len(at)).map(
            lambda values: S.piecewise_linear(list(zip(at, values, strict=True)))
        )
    ),
    "table": st.builds(S.table, st.lists(rates, min_size=1, max_size=9)),
    "cosine_restarts": st.builds(
        S.cosine_restarts, rates, lengths, st.sampled_from([1, 1.5, 2, 3]), factors, rates
    ),
    "cyclic": triangles(),
    "tanh": st.builds(S.tanh, rates, rates, lengths, st.floats(-9, -1), st.floats(0, 9)),
    "one_cycle": one_cycles(),
    "wsd": st.builds(
        S.wsd, rates, steps, steps, lengths, rates, st.sampled_from(["linear", "cosine", "sqrt"])
    ),
    "warmup_linear": warmed(S.warmup_linear),
    "warmup_cosine": warmed(S.warmup_cosine),
    "rex": st.builds(S.rex, rates, lengths, rates),
    "flat_cosine": st.builds(S.flat_cosine, rates, lengths, shares, rates),
    "noam": st.builds(S.noam, st.integers(1, 1024), lengths, st.floats(0.1, 2.0)),
}
ALGEBRA = {
    "then", "scale", "product", "sum", "clip", "shift", "warmup", "repeat", "stretch", "resume_at",
    "by_epoch",
}  # fmt: skip
assert set(LEAVES) | ALGEBRA | {"from_function"} == set(RECIPES)

leaves = st.one_of(list(LEAVES.values()))


def combine(inner):
    """One more level of the algebra above `inner`."""
    finite = inner.filter(lambda s: s.length < 1e6)
    ending = finite.filter(lambda s: s.length > 1)
    return st.one_of(
        st.tuples(inner, inner, steps).map(lambda t: t[0].then(t[1], at=t[2])),
        st.tuples(inner, rates).map(lambda t: t[0] * t[1]),
        st.tuples(inner, inner).map(lambda t: t[0] * t[1]),
        st.tuples(inner, inner).map(lambda t: t[0] + t[1]),
        st.tuples(inner, rates, rates).map(lambda t: t[0].clip(min(t[1:]), max(t[1:]))),
        st.tuples(inner, st.integers(-60, 60)).map(lambda t: t[0].shift(t[1])),
        st.tuples(inner, steps, rates).map(lambda t: t[0].warmup(t[1], init=t[2])),
        st.tuples(inner, lengths).map(lambda t: t[0].repeat(t[1])),
        st.tuples(inner, st.integers(1, 9), st.booleans()).map(lambda t: t[0].by_epoch(*t[1:])),
        st.tuples(finite, lengths).map(lambda t: t[0].stretch(t[1])),
        st.tuples(ending, lengths).map(lambda t: t[0].resume_at(1, 1 + t[1])),
    )


schedules = st.recursive(leaves, combine, max_leaves=5)
