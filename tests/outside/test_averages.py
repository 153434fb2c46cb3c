"""The arrays of an average, given as gradients: as state arrays are, copied or refused."""

import numpy as np
import pytest

import stepsize as ss

N = 40_000  # more than one chunk
WRAPPERS = {
    "EMA": lambda opt: ss.EMA(opt, 0.5),
    "SWA": lambda opt: ss.SWA(opt, start=0),
    "EMA of Lookahead": lambda opt: ss.EMA(ss.Lookahead(opt, k=2), 0.5),
    "Lookahead": lambda opt: ss.Lookahead(opt, k=2),
    "Mechanic": ss.Mechanic,
    "Accumulate": lambda opt: ss.Accumulate(opt, every=2),
}


def made(name, rule):
    params = {"a": np.full(N, 1.0), "b": np.full(N, 2.0)}
    optimizer = WRAPPERS[name](rule(params, lr=0.1))
    optimizer.step({"a": np.full(N, 0.5), "b": np.full(N, -3.0)})
    return params, optimizer


def kept(optimizer):
    """The arrays that a wrapper keeps, whatever it calls them."""
    return next(iter(optimizer._arrays.values()))


def crossed(arrays):
    return {"a": arrays[1], "b": arrays[0]}


@pytest.mark.parametrize("of_itself", [True, False])
@pytest.mark.parametrize("rule", [ss.SGD, ss.AdamW, ss.LAMB])
@pytest.mark.parametrize("name", WRAPPERS)
def test_an_average_is_copied(name, rule, of_itself):
    params, optimizer = made(name, rule)
    expected, copied = made(name, rule)
    for _ in range(3):
        own, other = kept(optimizer), [array.copy() for array in kept(copied)]
        optimizer.step(dict(zip("ab", own, strict=True)) if of_itself else crossed(own))
        copied.step(dict(zip("ab", other, strict=True)) if of_itself else crossed(other))
        for k in params:
            assert params[k].tobytes() == expected[k].tobytes()
        for ours, theirs in zip(kept(optimizer), kept(copied), strict=True):
            assert ours.tobytes() == theirs.tobytes()


def test_a_part_of_an_average_is_copied():
    params, optimizer = made("EMA", ss.SGD)
    expected, copied = made("EMA", ss.SGD)
    memory, other = kept(optimizer)[0], kept(copied)[0].copy()
    optimizer.step({"a": memory[::-1], "b": memory})
    copied.step({"a": other[::-1], "b": other})
    assert all(params[k].tobytes() == expected[k].tobytes() for k in params)


def test_a_bound_average_is_refused():
    params, optimizer = made("EMA", ss.SGD)
    before = {name: leaf.copy() for name, leaf in params.items()}
    with pytest.raises(ValueError, match="shares memory with parameters, state arrays or averages"):
        optimizer.bind(crossed(kept(optimizer)))
        optimizer.step()
    assert all(np.array_equal(params[k], before[k]) for k in params)
