"""Ways through the compiled half that hardly any program takes."""

import gc
import os
import weakref

import numpy as np
import pytest

import stepsize as ss
from cases import numpy_rule, same_bits, snapshot
from processes import child_ends
from stepsize import _core
from stepsize.errors import NonFiniteGradientError
from together import alike, together


class Host:
    """A host that answers some questions in its own way."""

    def __init__(self, host, **answers):
        self.host, self.answers = host, answers

    def __getattr__(self, name):
        return self.answers.get(name) or getattr(self.host, name)


def stepped(optimizer, grads, stats=False, loss=None, **answers):
    parts = optimizer.internals
    return parts.engine.step(Host(parts.host, **answers), grads, loss, stats)


# What a host answers.


def test_statistics_of_any_kind_come_with_the_norms_of_their_step():
    x, twin = np.ones(3), np.ones(3)
    told = []
    expected = ss.SGD(twin, lr=0.1).step(np.ones(3), stats=True)
    found = stepped(ss.SGD(x, lr=0.1), np.ones(3), True,
                    step_stats=lambda *norms: told.append(norms) or len(told))  # fmt: skip
    assert found == 2  # once before anything moved, once with the norms
    assert told[-1][:3] == (expected.grad_norm, expected.update_norm, expected.param_norm)
    assert same_bits(x, twin)


ROW = (np.ones((1, 2)), np.array([7]))


@together("found", [
    ([np.ones(3)], "a gradient could not be taken"),
    ([np.ones((4, 2), np.float32)], "a gradient could not be taken"),
    ([ROW], "a row lies outside"),
    ([(ROW[0], np.array([-1]))], "a row lies outside"),
    ([(np.ones((2, 2)), np.array([1]))], "a gradient of rows could not be taken"),
], alike)  # fmt: skip
def test_gradients_that_a_host_makes_must_fit(found):
    flat, words = found
    x = np.ones((4, 2))
    optimizer = ss.SGD(x, lr=0.1)
    with pytest.raises(ValueError, match=words):
        stepped(optimizer, [1.0], gather=lambda grads: list(flat))
    assert (x == 1).all() and optimizer.step_count == 0
    optimizer.step(x.copy())  # goes on
    np.testing.assert_array_equal(x, 0.9)


def test_rows_of_complex_numbers_are_refused():
    x = np.ones((4, 2), complex)
    with pytest.raises(ValueError, match="rows of complex numbers"):
        stepped(ss.SGD(x, lr=0.1), [1.0], gather=lambda grads: [(x[:1] + 0, np.array([1]))])
    assert (x == 1).all()


def test_a_host_may_not_let_pass_what_must_stop():
    x = np.ones(3)
    with pytest.raises(RuntimeError, match="let a step pass"):
        stepped(ss.SGD(x, lr=0.1), x + np.nan, fail=lambda *details: None)
    assert (x == 1).all()


# What is given to a step.


class Loss:
    def __init__(self, error):
        self.error = error

    def __float__(self):
        raise self.error


def test_an_error_of_a_loss_is_told():
    x = np.ones(3)
    optimizer = ss.SGD(x, lr=0.1)
    for loss, error in [(Loss(KeyError("mine")), KeyError), (Loss(TypeError()), TypeError),
                        (True, TypeError), (np.array(True), TypeError)]:  # fmt: skip
        with pytest.raises(error):
            optimizer.step(np.ones(3), loss=loss)
    for stats in (1, None, "yes"):
        with pytest.raises(TypeError, match="stats"):
            optimizer.step(np.ones(3), stats=stats)
    assert (x == 1).all()
    assert optimizer.step(np.ones(3), stats=np.True_).grad_norm == np.sqrt(3)


def test_a_gradient_too_large_in_a_later_leaf_is_named():
    x = {"a": np.ones(3), "b": np.ones(3)}
    with pytest.raises(NonFiniteGradientError, match="b"):
        ss.SGD(x, lr=0.1).step({"a": np.ones(3), "b": np.full(3, 1.7e308)})
    assert (x["a"] == 1).all()


class Key(str):
    """Equal to a text, of which it acts at each comparison."""

    act = staticmethod(lambda: None)
    __hash__ = str.__hash__

    def __eq__(self, other):
        self.act()
        return str.__eq__(self, other)


def test_a_nest_that_changes_while_it_is_walked_is_walked_to_its_end_or_refused():
    params = [{"k": np.ones(3)}, np.ones(2)]
    optimizer = ss.SGD(params, lr=1.0)
    key = Key("k")
    grads = [{key: np.ones(3)}, np.ones(2)]
    key.act = lambda: grads.pop() if len(grads) > 1 else None
    with pytest.raises((ValueError, TypeError)):
        optimizer.step(grads)
    assert (params[1] == 1).all() and optimizer.step_count == 0

    params = {"a": np.ones(3), "b": np.ones(2)}
    optimizer, key = ss.SGD(params, lr=1.0), Key("a")
    grads = {key: np.ones(3), "b": np.ones(2)}
    key.act = lambda: grads.update(z=0)
    optimizer.step(grads)  # it was right when it was looked at
    assert not params["a"].any() and not params["b"].any()


def test_a_nest_in_another_order_with_a_wrong_part_is_refused():
    params = {"a": {"c": np.ones(3)}, "b": np.ones(2)}
    optimizer = ss.SGD(params, lr=1.0)
    with pytest.raises((ValueError, TypeError)):
        optimizer.step({"b": np.ones(2), "a": [np.ones(3)]})
    assert optimizer.step_count == 0


def test_stacked_gradients_in_the_memory_of_other_parameters_are_copied():
    both = np.ones((2, 3, 4))
    models = ss.population(ss.SGD, {"a": both[0], "b": both[1]}, lr=0.5)
    models.step({"a": both[1], "b": both[0]})
    np.testing.assert_array_equal(both, 0.5)
    both[1].flags.writeable = False
    with pytest.raises(ValueError, match="stacked gradient could not be taken"):
        models._core.step(
            Host(models._host, gather=lambda grads: [np.ones(3), None]), [], [None] * 3, False, True
        )


def test_stacked_parameters_that_have_become_read_only_are_named():
    params = {"a": np.ones((2, 3))}
    models = ss.population(ss.SGD, params, lr=0.5)
    params["a"].flags.writeable = False
    with pytest.raises(ValueError, match="a"):
        models.step({"a": np.ones((2, 3))})
    assert (params["a"] == 1).all()


def test_gradients_may_share_memory_in_an_update_of_many_arrays():
    base = np.arange(70_000.0)
    x = [np.zeros(70_000), np.zeros(100)]
    update = _core.Update("SGD", [], 0.0, 0.0, 0.0, 0.0, np.inf, 1.0, True, 0, [], 0.0)
    assert update.apply(x, [base, base[5:105]], (), 1, 1.0, 1.0, None) is None
    np.testing.assert_array_equal(x[0], -base)
    np.testing.assert_array_equal(x[1], -base[5:105])
    assert update.apply(tuple(x), (base, base[5:105]), (), 1, -1.0, 1.0, None) is None
    assert not x[0].any() and not x[1].any()
    for params, grads in [([1.0], [base]), (x, [base, 1.0])]:
        assert update.apply(params, grads, (), 1, 1.0, 1.0, None)[0] == "array"


# State.


def test_an_assignment_to_what_has_another_length_by_now():
    x, rows = np.zeros((3, 2)), np.zeros((3, 2))
    write = _core.assignment([x], [np.ones((3, 2))])
    some = _core.assignment([rows], [np.ones((2, 2))], [np.array([0, 2])])
    x.resize((2, 2), refcheck=False)
    with pytest.raises(ValueError, match="changed its shape"):
        write()
    rows.resize((2, 2), refcheck=False)
    some()  # the row that is gone is left out
    assert not x.any() and rows.tolist() == [[1, 1], [0, 0]]


def test_numbers_beyond_every_code_are_not_a_number():
    x = np.ones(3000, np.float32)
    optimizer = ss.AdamW(x, state_dtype="int8", on_nonfinite="ignore")
    g = np.ones(3000, np.float32)
    g[7] = np.inf
    optimizer.step(g)
    optimizer.step(np.ones(3000, np.float32))
    block = _core.tile
    assert np.isnan(x[:block]).all() and np.isfinite(x[block:]).all()


def test_rows_arrive_at_a_rule_in_numpy():
    made = []
    for parts in (False, True):
        x = np.ones((5, 3))
        with numpy_rule(ss.Adagrad):
            optimizer = ss.Adagrad(x, lr=0.1, on_nonfinite="ignore")
            rows = ss.RowGradient([4, 1], np.ones((2, 3)))
            if parts:
                with optimizer.arriving() as arrived:
                    assert arrived(optimizer.paths[0], rows)
            else:
                optimizer.step(rows)
        made.append(snapshot(optimizer))
        assert (x[[0, 2, 3]] == 1).all() and (x[[1, 4]] < 1).all()
    assert made[0] == made[1]


# Forks.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_child_asks_and_reserves_an_optimizer_of_its_parent():
    ended = []

    def rate(step):
        ended.append(child_ends(lambda: optimizer.internals.engine.times))  # inside the step
        return 0.5

    optimizer = ss.SGD(np.ones(3), lr=rate)
    optimizer.step(np.ones(3))
    engine = optimizer.internals.engine

    def reserve():
        engine.reserve("fit", True)
        with pytest.raises(RuntimeError, match="a function that fit"):
            optimizer.step(np.ones(3))
        engine.reserve("", False)

    assert child_ends(reserve) and ended == [True]


# Decompositions.


def test_decompositions_of_the_smallest_and_of_what_is_no_number():
    values, vectors = _core.eigen(np.array([[2.0]]))
    assert values.tolist() == [2.0] and abs(vectors).tolist() == [[1.0]]
    q = np.triu(np.arange(1.0, 10).reshape(3, 3)) + np.eye(3)
    b = np.arange(6.0).reshape(3, 2)
    np.testing.assert_allclose(q.T @ _core.solve_turned(q, b), b, atol=1e-12)
    for odd in (np.nan, np.inf, 5e-324, 1e308):
        a = np.full((4, 4), odd)
        a[0, 1] = a[1, 0] = 1.0
        assert _core.eigen(a)[0].shape == (4,)  # and comes to an end


# The garbage collector.


def gone(make):
    """Whether the collector frees what refers to itself."""
    reference = weakref.ref(make())
    gc.collect()
    return reference() is None


class OwnEngine(_core.Engine):
    """Of Python, and so with attributes."""


class OwnSchedule(_core.Schedule):
    """The same."""


def test_the_collector_frees_what_functions_keep_alive():
    def of_rate():
        optimizer = ss.SGD(np.ones(3), lr=lambda step: 0.1 * bool(optimizer))
        return optimizer

    def of_engine():  # older than what holds it, and so the first that is cleared
        engine = ss.SGD(np.ones(3), lr=0.1).internals.engine
        itself = [engine]
        engine.set_number(0, "lr", lambda step, held=itself: 0.1 * len(held))
        return engine

    def of_schedule():
        older, function = OwnSchedule([("function", [], [], [])], [Called()]), Called()
        older.younger = OwnSchedule([("function", [], [], [])], [function])
        function.older = older
        return older

    def of_two():
        older = OwnSchedule([("function", [], [], [])], [Called()])
        older.younger = _core.Schedule([("function", [], [], [])], [older])
        return older

    def bare(cls):
        made = cls.__new__(cls)
        made.itself = made
        return made

    for make in (of_rate, of_engine, of_schedule, of_two):
        assert gone(make)
    assert gone(lambda: bare(OwnEngine)) and gone(lambda: bare(OwnSchedule))


class Called:
    """A function of the step with attributes."""

    def __call__(self, step):
        return 2 * step


def test_an_engine_of_a_subclass_steps():
    optimizer = ss.SGD(np.ones(3), lr=0.1)
    own = OwnEngine(("none",))
    own.finish()
    assert own.step(optimizer.internals.host, None, None, False) is None
    assert own.step_count == 1


# Schedules.


class Odd:
    def __float__(self):
        raise KeyError("mine")


def test_a_compiled_schedule_takes_numbers_and_arrays_of_them():
    constant = _core.Schedule([("constant", [2.0], [], [])])
    function = _core.Schedule([("function", [], [], [])], [Called()])
    assert constant(1) == 2.0 and function(3) == 6.0 and function.first(3).tolist() == [0, 2, 4]
    assert function(np.arange(3)).tolist() == [0, 2, 4]
    for arguments, named in [((), {}), ((1, 2), {}), ((1,), {"a": 2})]:
        with pytest.raises(TypeError, match="takes one argument"):
            constant(*arguments, **named)
    for step, error in [("1", TypeError), (np.array([1j]), TypeError), (10**400, ValueError),
                        (Odd(), KeyError), (-1, ValueError)]:  # fmt: skip
        with pytest.raises(error):
            constant(step)
    with pytest.raises(ValueError, match="before its children"):
        _core.Schedule([("scale", [1.0], [0], [])])
    engine = ss.SGD(np.ones(3), lr=0.1).internals.engine
    engine.set_number(0, "lr", function)
    assert engine.number(0, "lr") == 0.0


# Rules at their thresholds.


def test_polyak_s_rate_is_none_where_the_gradient_s_square_is_the_machine_s_epsilon():
    least = float(np.finfo(np.float64).eps)
    for square, moves in [(least, False), (np.nextafter(least, 1), True)]:
        x = np.ones(1)
        optimizer = ss.PolyakSGD(x, lr=1.0, eps=square - 2.0**-60)
        optimizer.step(np.array([2.0**-30]), loss=1.0)
        assert (x[0] != 1) == moves
