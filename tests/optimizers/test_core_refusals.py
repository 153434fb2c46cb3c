"""What the compiled half refuses, whoever calls it: wrong memory would be read and written.

An optimizer is made, and what it told the compiled step is told once more to another one, with a
single argument that does not fit.
"""

import ctypes
import gc

import numpy as np
import pytest

import stepsize as ss
from stepsize import _core
from together import alike, together


class Told:
    """An engine that keeps the calls by which it is made."""

    def __init__(self, nest):
        self.__dict__.update(calls=[("__init__", (nest,))], engine=REAL(nest))

    def __getattr__(self, name):
        found = getattr(self.engine, name)

        def call(*arguments):
            self.calls.append((name, arguments))
            return found(*arguments)

        return call if callable(found) else found

    def __setattr__(self, name, value):
        setattr(self.engine, name, value)


REAL = _core.Engine


def told(monkeypatch, make):
    """The calls that make this optimizer, the first of which begins an engine."""
    made = []

    def engine(nest):
        made.append(Told(nest))
        return made[-1]

    with monkeypatch.context() as patched:
        patched.setattr(_core, "Engine", engine)
        make()
    return made[0].calls


def again(calls, wrong, place, value):
    """An engine is told the same up to the first call of that name, which gets another argument."""
    engine = REAL(*calls[0][1])
    for name, arguments in calls[1:]:
        if name == wrong:
            arguments = list(arguments)
            arguments[place] = value(arguments[place]) if callable(value) else value
            getattr(engine, name)(*arguments)
            raise AssertionError(f"{name} took {arguments[place]!r}")
        getattr(engine, name)(*arguments)


def zeros(shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def read_only(array):
    array.flags.writeable = False
    return array


def plain():
    return ss.AdamW(zeros((3, 4)), bounds=(-1.0, 1.0))


def in_bytes():
    return ss.AdamW(zeros(3000), state_dtype="int8")


def in_half():
    return ss.AdamW(zeros((3, 4), np.float16))


def by_rows():
    return ss.Adafactor(zeros((3, 4)))


def by_axes():
    return ss.SM3(zeros((3, 4)))


def whole():
    return ss.SOAP(zeros((3, 4)))


REFUSED = [
    (plain, "add_group", 0, "Nothing", "no compiled rule is called 'Nothing'"),
    (plain, "add_group", 4, [0.0] * 100, "too many scalars"),
    (plain, "add_group", 7, [], "no hyperparameter is called 'lr'"),
    (plain, "add_leaf", 0, zeros((3, 4), np.int32), "a parameter must be a writable"),
    (plain, "add_leaf", 0, read_only(zeros((3, 4))), "a parameter must be a writable"),
    (plain, "add_leaf", 4, lambda slots: slots[:1], "wrong number of state arrays"),
    (plain, "add_leaf", 4, [(zeros(11), None)] * 2, "state must have the size"),
    (plain, "add_leaf", 4, [(zeros(12, np.float64), None)] * 2, "state must have the size"),
    (plain, "constrain", 0, zeros(5), "bounds must be numbers"),
    (plain, "constrain", 0, np.array(0.0), "bounds must be numbers"),
    (in_bytes, "add_leaf", 4, lambda pairs: [(a, b[:1]) for a, b in pairs], "a float32 scale"),
    (in_half, "add_leaf", 1, zeros(11), "a master must be a float32 array"),
    (in_half, "add_leaf", 1, zeros(12, np.float64), "a master must be a float32 array"),
    (by_rows, "add_leaf", 4, lambda slots: slots[:1], "wrong number of axes or arrays"),
    (by_rows, "add_leaf", 4, [(zeros(5), None)] * 2, "state of a wrong size or dtype"),
    (by_axes, "add_leaf", 4, lambda slots: [*slots, *slots], "wrong number of axes or arrays"),
    (by_rows, "add_leaf", 0, zeros((3, 4), np.complex64), "no complex matrices"),
    (whole, "add_leaf", 4, lambda slots: slots * 20, "too many state arrays"),
    (whole, "add_leaf", 4, [(zeros(12, np.int64), None)], "state of a wrong dtype"),
]


@together("case", REFUSED, alike)
def test_an_engine_takes_no_memory_that_does_not_fit(case, monkeypatch):
    make, name, place, value, words = case
    with pytest.raises(ValueError, match=words):
        again(told(monkeypatch, make), name, place, value)


def test_an_engine_takes_no_more_stacked_axes_than_there_are(monkeypatch):
    calls = told(monkeypatch, lambda: ss.Muon(zeros((2, 3, 4)), stacked=1))
    with pytest.raises(ValueError, match="more axes stacked"):
        again(calls, "add_leaf", 2, (12,)[:0])


def test_an_engine_that_is_made_takes_nothing_that_does_not_fit():
    x = {"a": zeros(3), "b": zeros(4)}
    engine = ss.Prodigy(x).internals.engine
    for averages in ([zeros(3)], [zeros(3), zeros(5)], [zeros(3), read_only(zeros(4))]):
        with pytest.raises(ValueError, match="average"):
            engine.track_average(averages, 0.5)
    with pytest.raises(ValueError, match="one number of updates for each leaf"):
        engine.times = [1]
    with pytest.raises(ValueError, match="wrong number of scalars"):
        engine.set_scalars(0, [])
    with pytest.raises(ValueError, match="no hyperparameter is called 'nothing'"):
        engine.number(0, "nothing")
    counts, scales = [0] * 4, [1.0, 1.0]
    scalars = [engine.scalars(leaf) for leaf in range(2)]
    target = zeros(2)
    write = _core.assignment([target], [np.ones(2, np.float32)])
    for wrong in [
        (write, [0], scalars, scales),
        (write, counts, [[], []], scales),
        (write, counts, scalars[:1], scales),
        (write, counts, scalars, [1.0]),
    ]:
        with pytest.raises(ValueError, match="wrong number of counts"):
            engine.take_over(*wrong)
    target.flags.writeable = False
    with pytest.raises(ValueError, match="changed its shape"):
        engine.take_over(write, counts, scalars, scales)
    with pytest.raises(ValueError, match="PyCapsule"):
        engine.take_over(print, counts, scalars, scales)
    assert not target.any() and engine.step_count == 0


def test_raw_methods_count_their_arguments():
    optimizer = ss.SGD(zeros(3), lr=0.1)
    engine, host = optimizer.internals.engine, optimizer.internals.host
    with pytest.raises(TypeError, match="step needs host, grads, loss and stats"):
        engine.step(host)
    with pytest.raises(TypeError, match="evaluate needs a function"):
        engine.evaluate()
    bare = REAL.__new__(REAL)
    gc.collect()  # looks at it
    with pytest.raises(TypeError, match="__init__"):
        REAL.step(bare, host, None, None, False)


def update(**changes):
    given = {"kernel": "Adam", "numbers": [0.9, 0.999, 1e-8], "coupled": 0.0, "decoupled": 0.0,
             "max_lr": 0.0, "cautious": 0.0, "limit": np.inf, "sign": 1.0, "check": True,
             "scalars": 0, "bounds": [], "l1": 0.0}  # fmt: skip
    return _core.Update(**(given | changes))


@together(
    "changes",
    [{"numbers": [0.9]}, {"scalars": 100}, {"kernel": "Prodigy"}, {"bounds": [0.0, 1.0]}],
    alike,
)
def test_an_update_is_made_of_the_numbers_of_its_rule(changes):
    with pytest.raises(ValueError, match="cannot be made of these numbers"):
        update(**changes)


def test_an_update_takes_the_arguments_of_its_call():
    x, g, state = zeros(3), np.ones(3, np.float32), (zeros(3), zeros(3))
    apply = update().apply
    with pytest.raises(TypeError, match="apply needs"):
        apply(x, g)
    with pytest.raises(TypeError, match="apply needs"):
        apply(x, g, list(state), 1, 0.1, 1.0, None)
    with pytest.raises(TypeError):
        apply(x, g, state, "1", 0.1, 1.0, None)
    with pytest.raises(ValueError, match="wrong number of state arrays"):
        apply(x, g, state[:1], 1, 0.1, 1.0, None)
    assert apply(x, [g], state, 1, 0.1, 1.0, None)[0] == "kind"
    assert apply(g.tolist(), g, state, 1, 0.1, 1.0, None) is not None
    masked = np.ma.masked_array(g, [True, False, False])
    assert apply(x, masked, state, 1, 0.1, 1.0, None)[0] == "mask"
    assert not x.any() and not state[0].any()
    assert apply(x[:0], g[:0], (x[:0], x[:0]), 1, 0.1, 1.0, None) is None
    assert update(check=False).apply(x, g * np.nan, state, 1, 0.1, 1.0, None) is None
    assert np.isnan(x).all()


def test_a_population_has_a_host_and_a_row_for_each_optimizer():
    x = zeros((2, 3))
    parts = [ss.SGD(row, lr=0.1).internals for row in x]
    engines, hosts, nest = [p.engine for p in parts], [p.host for p in parts], ("leaf",)
    with pytest.raises(ValueError, match="every engine needs a host"):
        _core.Population(nest, engines, hosts[:1], [x])
    for wrong in (x[:1], np.array(1.0, np.float32)):
        with pytest.raises(ValueError, match="a row for every optimizer"):
            _core.Population(nest, engines, hosts, [wrong])


@together("cls", [ss.AdamW, ss.SOAP])
def test_a_gradient_in_the_memory_of_another_parameter_is_copied(cls):
    both = np.ones((2, 3, 4))
    optimizer = cls({"a": both[0], "b": both[1]}, lr=0.1)
    apart = {"a": np.ones((3, 4)), "b": np.ones((3, 4))}
    twin = cls(apart, lr=0.1)
    for _ in range(2):
        twin.step({"a": apart["b"].copy(), "b": apart["a"].copy()})
        optimizer.step({"a": both[1], "b": both[0]})
    np.testing.assert_array_equal(both[0], apart["a"])
    np.testing.assert_array_equal(both[1], apart["b"])


@together("node", [[], [("nothing", [], [], [])], [("constant", [], [], [])],
                   [("constant", [1.0], [0], [])], [("function", [], [], [])]], alike)  # fmt: skip
def test_a_schedule_is_a_list_of_known_nodes(node):
    with pytest.raises(ValueError, match="schedule"):
        _core.Schedule(node, [abs] if not node or node[0][0] != "function" else [])


@together("call", [
    (_core.sum_of_squares, zeros(3, np.int64)), (_core.sum_lanes, zeros(3)),
    (_core.eigen, zeros((2, 3), np.float64)), (_core.eigen, zeros((0, 0), np.float64)),
    (_core.eigen, zeros((2, 2))), (_core.orthonormal, zeros(4, np.float64)),
    (_core.solve_turned, zeros((2, 3)), zeros((3, 2))), (_core.product, zeros(3), zeros(3)),
    (_core.product, zeros((2, 2)), zeros((2, 2), np.float64)),
    (_core.triad, zeros(3), zeros(4), False), (_core.triad, zeros(3), zeros(3, np.int32), True),
    (_core.triad, zeros(3, np.float64), zeros(3), True),
    (_core.triad, read_only(zeros(3)), zeros(3), False),
], alike)  # fmt: skip
def test_functions_of_arrays_refuse_what_they_do_not_read(call):
    function, *arguments = call
    with pytest.raises(TypeError, match=f"{function.__name__}: needs"):
        function(*arguments)


def test_the_measure_of_memory_computes():
    x, y = np.arange(3000, dtype=np.float32), np.ones(3000, np.float32)
    for ahead in (False, True):
        expected = x / 2 + y
        _core.triad(x, y, ahead)
        np.testing.assert_array_equal(x, expected)


def test_memory_that_no_system_has_is_refused():
    with pytest.raises(MemoryError):
        _core.allocate(ctypes.c_size_t(-1).value >> 8)
