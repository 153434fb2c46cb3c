"""Functions on the caller's arrays: the updates of the classes, and clear words for misfits."""

import inspect
import threading

import numpy as np
import pytest

import functional_stub
import stepsize as ss
from cases import CHUNK, COMPILED, DTYPES, EDGES, KINDS, Case, random_grads, random_nest, same_bits
from stepsize import functional
from stepsize.errors import NonFiniteGradientError
from stepsize.optimizers.registration import snake_case
from together import alike, together


def test_the_stub_says_what_there_is():
    """Mended by ``python docs/functional_stub.py``."""
    assert functional_stub.STUB.read_text(encoding="utf-8") == functional_stub.stub()


FUNCTIONS = sorted(set(functional.__all__) - {"state"})
CLASSES = {snake_case(cls) + "_": cls for cls in ss.optimizers.registry()}
ELEMENTWISE = [case for case in COMPILED if case.elementwise]


def arguments_of(case):
    """The function, the keywords of its calls and those that act at construction alone."""
    name = snake_case(case.cls) + "_"
    function = getattr(functional, name)
    known = inspect.signature(function).parameters
    calls = {key: value for key, value in case.keywords.items() if key in known}
    return function, calls


def start(case, params):
    fields = {key: value for key, value in case.keywords.items() if key in case.cls.fields}
    return functional.state(case.cls, params, **fields)


def norm_factor(case, grads):
    """What clipping by the norm multiplies the gradients by, in the class."""
    if "clip_norm" not in case.keywords:
        return 1.0
    total = 0.0
    for grad in grads:
        for at in range(0, grad.size, CHUNK):
            total += ss.arrays.sum_of_squares(grad.reshape(-1)[at : at + CHUNK])
    return min(1.0, case.keywords["clip_norm"] / (np.sqrt(total) + 1e-6))


def assert_same(optimizer, leaves, params, state):
    for i, path in enumerate(optimizer.paths):
        assert same_bits(leaves[i], params[i]), path
        for slot, array in optimizer.state[path].items():
            assert same_bits(array, state[slot][i]), (path, slot)
    if "scalars" in state:
        assert optimizer.internals.engine.scalars(len(params) - 1) == list(state["scalars"])


@together("dtype", DTYPES, alike)
@together("case", (case for case in ELEMENTWISE if case in KINDS))
def test_a_function_makes_the_updates_of_its_class(case, dtype):
    function, keywords = arguments_of(case)
    leaves = list(random_nest({str(n): n for n in EDGES[:-2]}, dtype).values())
    params = [leaf.copy() for leaf in leaves]
    optimizer, state = case.make(leaves), start(case, params)
    for step in (1, 2, 3):
        grads = random_grads(leaves, step)
        optimizer.step(grads)
        factor = norm_factor(case, grads)
        function(params, grads, **state, step=step, grad_factor=factor, **keywords)
    assert_same(optimizer, leaves, params, state)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_updates_of_halves_are_the_update_of_the_whole(name):
    cls = CLASSES[name]
    function = getattr(functional, name)
    size, cut = 3 * CHUNK + 5, CHUNK + 7
    whole = random_nest({"x": size}, np.float32)["x"]
    parts, state = whole.copy(), functional.state(cls, whole)
    pieces = {slot: array.copy() for slot, array in state.items()}
    for step in (1, 2):
        grad = random_grads(whole, step)
        function(whole, grad, **state, step=step)
        given = pieces.get("scalars")
        for half in (slice(None, cut), slice(cut, None)):
            views = {slot: array[half] for slot, array in pieces.items() if slot != "scalars"}
            if given is not None:
                views["scalars"] = scalars = given.copy()
            function(parts[half], grad[half], **views, step=step)
        if given is not None:
            given[...] = scalars
    assert same_bits(whole, parts)
    assert all(same_bits(state[slot], pieces[slot]) for slot in state)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_threads_choose_who_computes_and_nothing_else(name):
    x = random_nest({"x": 6 * CHUNK}, np.float32)["x"]
    found = []
    for threads in (1, 3):
        ss.set_num_threads(threads)
        params = [x.copy(), x.copy()]
        state = functional.state(CLASSES[name], params)
        getattr(functional, name)(params, [x * 2, None], **state, step=1)
        found.append([*params, *(array for slot in state.values() for array in slot)])
    assert all(same_bits(np.asarray(a), np.asarray(b)) for a, b in zip(*found, strict=True))
    assert same_bits(found[0][1], x)


def test_every_rule_has_a_function_or_a_reason():
    for name, cls in CLASSES.items():
        if cls.accelerated and cls.scope is None and not cls.shaped:
            assert name in FUNCTIONS
        else:
            with pytest.raises(AttributeError, match=f"use the class, stepsize.{cls.__name__}"):
                getattr(functional, name)
            with pytest.raises(ValueError, match=cls.__name__):
                functional.state(cls, np.ones(2))
    with pytest.raises(AttributeError, match="no attribute 'nothing_'"):
        _ = functional.nothing_


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_those_of_the_class(name):
    cls = CLASSES[name]
    for key, parameter in inspect.signature(getattr(functional, name)).parameters.items():
        if key in cls.fields:
            assert parameter.default == cls.fields[key].default
            assert parameter.kind is parameter.KEYWORD_ONLY


def test_the_hyperparameters_of_an_optimizer_are_those_of_its_function():
    for name in FUNCTIONS:
        cls, function = CLASSES[name], getattr(functional, name)
        optimizer, x, g = cls(np.ones(3)), np.ones(3), np.array([0.5, -2.0, 0.0])
        optimizer.step(g)
        given = optimizer.hyperparams
        state = functional.state(cls, x, **given)
        fixed = {key for key in given if getattr(cls.fields[key], "fixed", False)}
        for key in fixed:
            with pytest.raises(TypeError, match=f"{name}: {key} acts once, .* give it to state"):
                function(x, g, **state, step=1, **{key: given[key]})
        function(x, g, **state, step=1, **{k: v for k, v in given.items() if k not in fixed})
        assert same_bits(x, optimizer.params), name
        assert cls(np.ones(3), **given).hyperparams == given
        assert len(ss.population(cls, np.ones((2, 3)), **given)) == 2


def test_both_dtypes_in_one_call_share_the_scalars():
    params = [np.ones(5, np.float32), np.ones(5)]
    leaves = [leaf.copy() for leaf in params]
    optimizer, state = ss.NAdam(leaves), functional.state("nadam", params)
    for step in (1, 2):
        grads = [leaf * 3 for leaf in leaves]
        optimizer.step(grads)
        functional.nadam_(params, grads, **state, step=step)
    assert_same(optimizer, leaves, params, state)


def test_a_momentum_that_is_0_for_a_while_keeps_its_buffer():
    x, y = np.ones(4), np.ones(4)
    momenta = [0.9, 0.0, 0.5]
    optimizer = ss.SGD(x, lr=0.1, momentum=lambda step: momenta[step])
    buffer = np.zeros(4)
    for step, momentum in enumerate(momenta, 1):
        grad = np.arange(4.0) * step
        optimizer.step(grad)
        functional.sgd_(y, grad, buffer, step=step, lr=0.1, momentum=momentum)
    assert same_bits(x, y) and same_bits(optimizer.state["params"]["momentum_buffer"], buffer)


# What does not fit.


def good():
    x = [np.ones(4, np.float32), np.ones((2, 3), np.float32)]
    like = [np.zeros_like(leaf) for leaf in x]
    return {
        "params": x,
        "grads": [leaf * 2 for leaf in x],
        "exp_avg": like,
        "exp_avg_sq": [leaf.copy() for leaf in like],
        "step": 1,
    }


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def changed(name, make):
    def change(call):
        call[name] = list(call[name])
        call[name][1] = make(call[name][1], call)

    return change


def set_to(**values):
    return lambda call: call.update(values)


MISFITS = [
    (changed("params", lambda a, c: frozen(a)), ValueError, r"params\[1\] is read-only"),
    (changed("exp_avg", lambda a, c: frozen(a)), ValueError, r"exp_avg\[1\] is read-only"),
    (changed("params", lambda a, c: [1.0]), TypeError, r"params\[1\] is a list, expected a NumPy"),
    (changed("params", lambda a, c: a.astype(int)), TypeError, r"params\[1\] has dtype int64"),
    (changed("grads", lambda a, c: a.astype(float)), TypeError, r"grads\[1\] has dtype float64"),
    (changed("exp_avg_sq", lambda a, c: a.astype(float)), TypeError, r"exp_avg_sq\[1\] has dtype"),
    (changed("grads", lambda a, c: a.reshape(6)), ValueError, r"grads\[1\] has shape \(6,\)"),
    (changed("exp_avg", lambda a, c: a[:1]), ValueError, r"exp_avg\[1\] has shape \(1, 3\)"),
    (changed("grads", lambda a, c: np.ones((3, 2), "f").T), ValueError, "does not lie side by"),
    (changed("params", lambda a, c: np.ones((3, 2), "f").T), ValueError, "does not lie side by"),
    (changed("exp_avg", lambda a, c: c["params"][1]), ValueError, r"shares memory with params"),
    (changed("exp_avg", lambda a, c: c["grads"][1]), ValueError, r"shares memory with"),
    (changed("grads", lambda a, c: c["exp_avg_sq"][1]), ValueError, r"shares memory with"),
    (changed("grads", lambda a, c: a * np.nan), NonFiniteGradientError, r"grads\[1\] holds NaN"),
    (set_to(grads=np.ones(4, "f")), TypeError, "grads is a ndarray of 4, expected a list of 2"),
    (set_to(params=3.0), TypeError, "params is a float, expected an array, or a list"),
    (set_to(exp_avg=[np.ones(4, "f")]), TypeError, "exp_avg is a list of 1, expected a list of 2"),
    (set_to(exp_avg=None), TypeError, "exp_avg is missing, which these"),
    (set_to(max_exp_avg_sq=[]), TypeError, "max_exp_avg_sq is given, but these"),
    (set_to(amsgrad=True), TypeError, "max_exp_avg_sq is missing"),
    (
        set_to(step=0),
        ValueError,
        "step must be a whole number >= 1, got 0; it is the",
    ),
    (set_to(step=1.0), ValueError, "step must be a whole number >= 1, got"),
    (set_to(step=True), ValueError, "step must be a whole number >= 1, got"),
    (set_to(lr=-1.0), ValueError, "lr must be a finite number >= 0, got -1.0"),
    (set_to(lr=ss.schedules.cosine(1.0, 0.0, 10)), TypeError, r"call the schedule, lr=schedule"),
    (set_to(betas=(0.9, lambda step: 0.9)), TypeError, "betas must be given as a number"),
    (set_to(betas=[0.9, 1.0]), ValueError, r"betas\[1\] must be in \[0, 1\)"),
    (set_to(beta=0.9), TypeError, "unknown argument 'beta'; did you mean betas"),
    (set_to(state_dtype="int8"), TypeError, "unknown argument 'state_dtype'"),
    (set_to(on_nonfinite="skip"), ValueError, "must be 'raise' or 'ignore'"),
    (set_to(grad_factor=float("nan")), ValueError, "grad_factor must be"),
]


@pytest.mark.parametrize(("change", "error", "words"), MISFITS, ids=[m[2] for m in MISFITS])
def test_what_does_not_fit_is_named_and_nothing_changes(change, error, words):
    call = good()
    change(call)
    kept = [a for value in call.values() for a in (value if isinstance(value, list) else [])]
    before = [np.array(a) for a in kept]
    with pytest.raises(error, match=f"^adamw_: .*{words}"):
        functional.adamw_(**call)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(kept, before, strict=True))


def test_overlaps_are_found_among_many_arrays_at_every_call():
    memory = np.zeros(4000)
    params = [memory[4 * i : 4 * i + 4] for i in range(200)]
    grads = [memory[2000 + 4 * i : 2004 + 4 * i] for i in range(200)]
    for _ in range(3):
        functional.sgd_(params, grads, step=1)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"shares memory with (grads|params)\[7\]"):
            functional.sgd_(params, [*grads[:7], memory[30:34], *grads[8:]], step=1)
    functional.sgd_(params, params, step=1)  # read where it is written


@pytest.mark.parametrize(
    "scalars", [None, np.ones(2), np.ones(1, np.float32), [1.0], frozen(np.ones(1))]
)
def test_scalars_must_be_an_array_to_write_to(scalars):
    x = np.ones(3)
    with pytest.raises((TypeError, ValueError), match=r"nadam_: scalars (must be|is missing)"):
        functional.nadam_(x, x * 2, x * 0, x * 0, scalars, step=1)
    assert (x == 1).all()


def test_words_name_a_single_array_without_index():
    x = np.ones(3)
    with pytest.raises(ValueError, match=r"^lion_: grads has shape \(2,\), expected \(3,\)"):
        functional.lion_(x, np.ones(2), x * 0, step=1)
    with pytest.raises(TypeError, match="lion_: 2 state arguments are given, it takes m"):
        functional.lion_(x, x, x * 0, x * 0, step=1)
    with pytest.raises(ValueError, match=r"^sgd_: nesterov=True needs momentum"):
        functional.sgd_(x, x, step=1, nesterov=True)


def test_lists_that_change_during_a_call_keep_their_arrays():
    size = 8 * CHUNK
    params = [np.ones(size, np.float32)]
    grads = [np.ones(size, np.float32)]
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            grads[0] = np.ones(size, np.float32)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(50):
            functional.sgd_(params, grads, step=1, lr=0.01)
    finally:
        stop.set()
        thread.join()
    x = Case(ss.SGD, {"lr": 0.01}).make(y := np.ones(size, np.float32))
    for _ in range(50):
        x.step(np.ones(size, np.float32))
    assert same_bits(params[0], y)
