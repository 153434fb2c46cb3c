"""Wrappers around any rule: what each does, and what all share."""

import pickle

import numpy as np
import pytest

import stepsize as ss
from cases import WRAPPERS
from stepsize.optimizers.primitives import lerp
from stepsize.optimizers.wrappers.base import Wrapper


def nest(dtype=float):
    random = np.random.default_rng(0)
    return {"w": random.normal(size=(3, 2)).astype(dtype), "b": random.normal(size=4).astype(dtype)}


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def gradients(seed, like):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=leaf.shape).astype(leaf.dtype) for name, leaf in like.items()}


@pytest.fixture(params=WRAPPERS)
def wrap(request):
    return WRAPPERS[request.param]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resumes_bit_for_bit(wrap, dtype, tmp_path):
    x = nest(dtype)
    optimizer = wrap(ss.Adam(x, lr=0.1))
    for seed in range(5):
        optimizer.step(gradients(seed, x))
    optimizer.save(tmp_path / "state")
    y = ss.arrays.copy(x)
    other = wrap(ss.Adam(y))
    other.load(tmp_path / "state")
    copy = optimizer.clone(z := ss.arrays.copy(x))
    pickled = pickle.loads(pickle.dumps(optimizer))
    for seed in range(5, 12):
        for one in (optimizer, other, copy, pickled):
            one.step(gradients(seed, x))
    assert equal(x, y) and equal(x, z) and equal(x, pickled.params)
    if hasattr(optimizer, "eval_params"):
        assert equal(optimizer.eval_params(), other.eval_params())


def test_looks_like_the_optimizer_inside(wrap):
    optimizer = wrap(ss.Adam(nest(), lr=0.1))
    optimizer.lr = 0.2
    optimizer.lr_scale = 0.5
    assert optimizer.lr == 0.1 and optimizer.inner.lr == 0.1 and optimizer.step_count == 0
    assert optimizer.paths == ("b", "w") or optimizer.paths == ("w", "b")
    with pytest.raises(AttributeError, match="has no attribute"):
        optimizer.learning_rate = 1.0


def test_refuses_another_state(wrap):
    plain, wrapped = ss.Adam(nest()), wrap(ss.Adam(nest()))
    with pytest.raises(ValueError, match="the state is that of Adam without a wrapper"):
        wrapped.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError):
        plain.load_state_dict(wrapped.state_dict())
    with pytest.raises(TypeError, match="optimizer must be an optimizer"):
        wrap(nest())


def test_a_gradient_that_is_refused_changes_nothing(wrap):
    x = nest()
    optimizer = wrap(ss.Adam(x, lr=0.1))
    before, state = ss.arrays.copy(x), pickle.dumps(optimizer.state_dict())
    with pytest.raises(ValueError, match="shape"):
        optimizer.step({"w": np.ones(3), "b": np.ones(4)})
    assert equal(x, before) and pickle.dumps(optimizer.state_dict()) == state


def test_a_state_shares_nothing_with_the_wrapper(wrap):
    optimizer = wrap(ss.Adam(x := nest(), lr=0.1))
    optimizer.step(gradients(0, x))
    taken = optimizer.state_dict()
    before = pickle.dumps(taken)
    for step in (None, optimizer.load_state_dict):
        if step:
            step(taken)
        for value in taken["wrappers"][-1]["numbers"].values():
            if isinstance(value, list):
                value[:] = [77.0] * len(value)
        for arrays in taken["wrappers"][-1]["arrays"].values():
            for array in arrays.values():
                array[...] = 77
        assert pickle.dumps(optimizer.state_dict()) == before
        taken = pickle.loads(before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_refused_without_a_warning(wrap, value):
    optimizer = wrap(ss.Adam(x := nest(), lr=0.1))
    before, grads = pickle.dumps(optimizer.state_dict()), gradients(0, x)
    grads["w"][1] = value
    with pytest.raises(ss.NonFiniteGradientError, match="gradient of w"):
        optimizer.step(grads)
    assert pickle.dumps(optimizer.state_dict()) == before
    optimizer.step(gradients(1, x))
    optimizer = wrap(ss.Adam(x := nest(), lr=0.1, on_nonfinite="skip"))
    for seed in range(4):
        optimizer.step(grads if seed == 1 else gradients(seed, x))
    assert all(np.isfinite(leaf).all() for leaf in x.values()) and optimizer.step_count >= 1


def test_training_goes_through_a_wrapper(wrap):
    x = nest()
    optimizer = wrap(ss.Adam(x, lr=0.05))

    def value_and_grad(params, batch):
        loss = sum(float((leaf**2).sum()) for leaf in params.values())
        return loss, {name: 2 * leaf for name, leaf in params.items()}

    history = ss.fit(value_and_grad, x, optimizer, [0] * 8, epochs=5)
    assert len(history["loss"]) == 40


def test_ema_and_swa_average_what_was_passed():
    x = np.zeros(2)
    ema = ss.EMA(ss.SGD(x, lr=1.0), 0.75)
    swa = ss.SWA(ema, start=1)
    points = []
    for g in np.random.default_rng(1).normal(size=(6, 2)):
        swa.step(g)
        points.append(x.copy())
    expected = np.zeros(2)
    for point in points:
        expected = 0.75 * expected + 0.25 * point
    np.testing.assert_allclose(ema.eval_params(), expected, rtol=1e-12)
    np.testing.assert_allclose(swa.eval_params(), np.mean(points[1:], axis=0), rtol=1e-12)
    with swa.averaged() as averaged:
        assert np.array_equal(averaged, swa.eval_params())
        with pytest.raises(RuntimeError, match="hold the average"):
            swa.step(np.ones(2))
    assert np.array_equal(x, points[-1])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.75, 0.9, 0.9999, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_is_a_lerp_bit_for_bit_and_a_clone_has_its_own(decay, dtype):
    x = nest(dtype)
    optimizer = ss.EMA(ss.SGD(x, lr=0.1), decay)
    expected = optimizer.eval_params()
    for seed in range(5):
        optimizer.step(gradients(seed, x))
        expected = {name: lerp(expected[name], x[name], 1.0 - decay) for name in x}
        assert equal(optimizer.eval_params(), expected)
    other = optimizer.clone(ss.arrays.copy(x))
    other.step(gradients(9, x))
    assert equal(optimizer.eval_params(), expected)
    assert decay == 1.0 or not equal(other.eval_params(), expected)


def test_ema_with_warmup_starts_at_the_first_point():
    x = np.zeros(1)
    optimizer = ss.EMA(ss.SGD(x, lr=1.0), 0.9999, warmup=True)
    optimizer.step(np.array([5.0]))
    assert optimizer.eval_params() == x


def test_accumulating_equal_parts_is_one_step_of_the_whole():
    x, y = nest(), nest()
    lr = ss.schedules.linear(0.1, 0.0, 4)
    parts, whole = ss.Accumulate(ss.AdamW(x, lr=lr), 4), ss.AdamW(y, lr=lr)
    for step in range(3):
        grads = gradients(step, x)
        for _ in range(3):
            assert parts.step(grads, stats=True).update_norm == 0
        assert parts.step(grads, stats=True) == whole.step(grads, stats=True)
    assert equal(x, y) and parts.step_count == 3 and parts.lr == whole.lr


def test_lookahead_goes_half_way_back():
    x = np.array([10.0])
    optimizer = ss.Lookahead(ss.SGD(x, lr=1.0), k=3, alpha=0.5)
    found = []
    for _ in range(6):
        optimizer.step(np.array([1.0]))
        found.append(float(x[0]))
    assert found == [9.0, 8.0, 8.5, 7.5, 6.5, 7.0]


def torch_sgd(x, steps, lr, momentum, nesterov, inner=1):
    """torch.optim.SGD on where a step of 1 along each gradient leads from x, and back."""
    x, b = x.copy(), 0.0
    for g in np.reshape(steps, (-1, inner, *x.shape)).sum(axis=1):
        b = momentum * b + g
        x = x - lr * (g + momentum * b if nesterov else b)
    return x


def test_outer_momentum_is_the_momentum_of_torch_on_the_way_of_some_steps():
    steps = np.random.default_rng(3).normal(size=(12, 5))
    for form in ("nesterov", "heavy_ball"):
        x = np.ones(5)
        optimizer = ss.OuterMomentum(ss.SGD(x, lr=1.0), 3, 0.7, 0.9, form=form)
        for g in steps:
            optimizer.step(g)
        expected = torch_sgd(np.ones(5), steps, 0.7, 0.9, form == "nesterov", 3)
        np.testing.assert_allclose(x, expected, rtol=1e-12)
        assert np.array_equal(optimizer.eval_params(), x)


def test_outer_momentum_of_0_is_lookahead():
    one, two = np.linspace(-1, 2, 7), np.linspace(-1, 2, 7)
    first = ss.Lookahead(ss.Adam(one, lr=0.1), k=3, alpha=0.25)
    second = ss.OuterMomentum(ss.Adam(two, lr=0.1), every=3, outer_lr=0.25, outer_momentum=0.0)
    for _ in range(30):
        first.step(2 * one)
        second.step(2 * two)
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_ema_nesterov_as_its_authors_state_it():
    """x+ = A(x + b m), m+ = c m + (1 - c) (x+ - x), by three points of their own."""
    y, rate = np.array([1.0, -2.0, 3.0]), ss.schedules.linear(0.9, 0.0, 60)
    optimizer = ss.OuterMomentum(ss.SGD(y, lr=0.03), outer_lr=rate, form="ema")
    x, m = y.copy(), np.zeros(3)
    for t in range(100):
        before = x
        ahead = x + rate(t) * m
        x = ahead - 0.03 * (2 * ahead + np.cos(t))
        m = 0.99 * m + 0.01 * (x - before)
        optimizer.step(2 * y + np.cos(t))
        np.testing.assert_allclose(optimizer.eval_params(), x, rtol=1e-12, atol=1e-15)


def test_primal_averaging_as_gpa_adamw():
    """facebookresearch/optimizers, gpa/gpa_adamw.py: y without x, as its code has it."""
    numbers = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}
    point = np.array([1.0, -2.0, 3.0])
    optimizer = ss.OuterMomentum(
        ss.AdamW(point, **numbers), outer_lr=0.05, outer_momentum=0.7, form="gpa"
    )
    y, z, m, v = point.copy(), point.copy(), 0.0, 0.0
    for t in range(1, 101):
        g = 2 * y + np.cos(t)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        d = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8) + 0.1 * y
        y = y + 0.05 * (z - y) + 0.02 * (0.7 * 0.95 - 1) * d
        z = z - 0.02 * d
        optimizer.step(2 * point + np.cos(t))
        np.testing.assert_allclose(point, y, rtol=1e-11)
    np.testing.assert_allclose(optimizer.eval_params(), y + (1 - 1 / 0.7) * (z - y), rtol=1e-11)


def test_outer_momentum_refuses_what_it_would_leave():
    with pytest.raises(ValueError, match="OuterMomentum: bounds and l1 of SGD would not hold"):
        ss.OuterMomentum(ss.SGD(np.zeros(3), bounds=(-1, 1)))
    inside = ss.Project(ss.SGD(np.zeros(3)), ss.projections.box(-1.0, 1.0))
    with pytest.raises(ValueError, match="OuterMomentum: the set of Project of EMA would not hold"):
        ss.OuterMomentum(ss.EMA(inside))


def test_a_rate_of_outer_momentum_that_is_none_changes_nothing():
    x = np.ones(3)
    with pytest.raises(ValueError, match="OuterMomentum: form must be one of 'nesterov'"):
        ss.OuterMomentum(ss.SGD(x), form="nesterow")
    with pytest.raises(ValueError, match=r"OuterMomentum: outer_lr must be in \[0, 1\], got 2"):
        ss.OuterMomentum(ss.SGD(x), outer_lr=2.0, form="gpa")
    optimizer = ss.OuterMomentum(ss.SGD(x), 1, lambda step: 0.5 if step < 3 else -1.0)
    for _ in range(2):
        optimizer.step(np.ones(3))
    before = x.copy(), optimizer.state_dict()
    with pytest.raises(ValueError, match="OuterMomentum: outer_lr must be a finite number >= 0"):
        optimizer.step(np.ones(3))
    assert np.array_equal(x, before[0]) and optimizer.step_count == 2
    assert str(optimizer.state_dict()) == str(before[1])


def test_noise_is_the_same_again_and_fades():
    first, second = np.zeros(4000), np.zeros(4000)
    one, two = (ss.GradientNoise(ss.SGD(x, lr=1.0), 0.04, 1.0) for x in (first, second))
    sizes = []
    for _ in range(4):
        before = first.copy()
        one.step(np.zeros(4000))
        two.step(np.zeros(4000))
        sizes.append((first - before).std())
    assert np.array_equal(first, second)
    np.testing.assert_allclose(sizes, 0.2 / np.sqrt([1, 2, 3, 4]), rtol=0.1)


def test_adaptive_clip_bounds_rows_and_leaves_small_ones():
    x = nest()
    grads = {"w": np.array([[100.0, 0.0], [1e-4, 0.0], [0.0, -50.0]]), "b": np.full(4, 9.0)}
    wrapped = ss.AdaptiveClip(ss.SGD(x, lr=1.0), 0.1)
    before = ss.arrays.copy(x)
    wrapped.step(grads)
    moved = np.linalg.norm(x["w"] - before["w"], axis=1)
    norms = np.linalg.norm(before["w"], axis=1)
    np.testing.assert_allclose(moved, [0.1 * norms[0], 1e-4, 0.1 * norms[2]], rtol=1e-9)
    assert np.linalg.norm(x["b"] - before["b"]) == pytest.approx(0.1 * np.linalg.norm(before["b"]))


def test_sam_steps_with_the_gradient_nearby_and_comes_back_on_errors():
    x = {"w": np.array([3.0, 4.0])}
    optimizer = ss.SAM(ss.SGD(x, lr=0.1), rho=0.5)

    def bowl(params):
        return float((params["w"] ** 2).sum()), {"w": 2 * params["w"]}

    assert optimizer.step(bowl) == 25.0
    np.testing.assert_allclose(x["w"], np.array([3.0, 4.0]) * (1 - 0.2 * 5.5 / 5))
    before, calls = x["w"].copy(), []

    def breaks(params):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("broken")
        return bowl(params)

    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step(breaks)
    assert np.array_equal(x["w"], before)
    with pytest.raises(TypeError, match="value_and_grad"):
        optimizer.step({"w": np.ones(2)})


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_mechanic_finds_the_scale(scale):
    x = scale * np.array([1.0, -2.0, 3.0])
    first = np.abs(x).max()
    optimizer = ss.Mechanic(ss.Adam(x, lr=1.0))
    for _ in range(3000):
        optimizer.step(np.array([1.0, 0.3, 0.1]) * x)
    assert np.abs(x).max() < 0.2 * first
    assert optimizer.lr_effective > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda opt: ss.EMA(opt, 1.5),
        lambda opt: ss.SWA(opt, every=0),
        lambda opt: ss.Lookahead(opt, k=2.5),
        lambda opt: ss.Lookahead(opt, alpha=0.0),
        lambda opt: ss.OuterMomentum(opt, every=0),
        lambda opt: ss.OuterMomentum(opt, outer_momentum=1.0),
        lambda opt: ss.Accumulate(opt, every=0),
        lambda opt: ss.SAM(opt, rho=-1.0),
        lambda opt: ss.Mechanic(opt, num_betas=0),
        lambda opt: ss.AdaptiveClip(opt, clip=0.0),
        lambda opt: ss.AdaptiveClip(opt, clip="tight"),
        lambda opt: ss.SAM(opt, rho=None),
        lambda opt: ss.group(3),
    ],
)
def test_bad_arguments_are_named(make):
    with pytest.raises((TypeError, ValueError), match=r"must be .*, got"):
        make(ss.SGD(np.ones(2)))


@pytest.mark.parametrize("wrap", (ss.EMA, ss.SWA, ss.Lookahead, ss.OuterMomentum))
def test_averages_step_on_bound_gradients(wrap):
    x, y, g = np.ones(4), np.ones(4), np.full(4, 0.5)
    bound, given = wrap(ss.SGD(x, lr=0.1)), wrap(ss.SGD(y, lr=0.1))
    bound.bind(g)
    for _ in range(6):
        bound.step()
        given.step(g)
    assert np.array_equal(x, y) and bound.step_count == 6


def test_a_wrapper_of_a_user_keeps_what_its_class_annotates(tmp_path):
    class Scaled(Wrapper):
        factor: float
        seen: int = 0

        def __init__(self, optimizer, factor):
            super().__init__(optimizer)
            self.factor = factor

        def step(self, grads, **options):
            self.seen += 1
            return self.inner.step(self.factor * grads, **options)

    x = np.array([1.0])
    opt = Scaled(ss.EMA(ss.SGD(x, lr=1.0)), 0.5)
    opt.step(np.array([0.5]))
    opt.factor, opt.lr = 2.0, 0.25
    opt.step(np.array([0.5]))
    assert x == [0.5] and opt.seen == 2 and opt.inner.lr == 0.25
    assert not {"factor", "seen"} & {*vars(opt.inner), *vars(opt.inner.inner)}
    twin = opt.clone(np.array([0.5]))
    assert (twin.factor, twin.seen, twin.lr) == (2.0, 2, 0.25)
    opt.save(tmp_path / "o.safetensors")
    twin.load(tmp_path / "o.safetensors")


def test_a_wrapper_that_annotates_nothing_is_told_how():
    class Scaled(Wrapper):
        def __init__(self, optimizer, factor):
            super().__init__(optimizer)
            self.factor = factor

    with pytest.raises(AttributeError, match="annotates it, factor:"):
        Scaled(ss.SGD(np.ones(1)), 0.5)


@pytest.mark.parametrize("loss", [True, np.True_, np.array(False)])
def test_a_truth_value_is_no_loss_of_a_step(loss):
    x = np.ones(2)
    doors = [ss.PolyakSGD(x), ss.Accumulate(ss.PolyakSGD(x), every=2), ss.EMA(ss.PolyakSGD(x))]
    for opt in doors:
        with pytest.raises(TypeError, match=r"loss is a \w+, not a number"):
            opt.step(np.ones(2), loss=loss)
    assert x.tolist() == [1.0, 1.0] and [opt.step_count for opt in doors] == [0, 0, 0]


@pytest.mark.parametrize("more", [{}, {"clip_value": 1.0}, {"clip_norm": 1.0}])
@pytest.mark.parametrize("sizes", [(0.03, 0.2), (0.9, -0.9), (0.9, 0.9)])
def test_what_is_accumulated_is_refused_at_once_or_makes_a_step(sizes, more):
    """A mean that no step takes would be kept, and refused at every later call."""
    x = np.ones(3)
    optimizer = ss.Accumulate(ss.SGD(x, lr=0.1, **more), every=2)
    taken = 0
    for size in (*sizes, 0.0, 0.0, 0.0):
        try:
            optimizer.step(np.full(3, size * np.finfo(float).max))
        except ss.NonFiniteGradientError as error:
            assert "nothing was changed" in str(error)
        else:
            taken += 1
    assert optimizer.step_count == taken // 2 and taken >= 3


def test_adaptive_clipping_is_the_same_in_every_layout():
    random = np.random.default_rng(0)
    start, grad = random.standard_normal((7, 40, 9)), random.standard_normal((7, 40, 9))
    found = []
    for layout in (np.array, np.asfortranarray, lambda x: np.repeat(x, 2, axis=2)[..., ::2]):
        x = layout(start)
        ss.AdaptiveClip(ss.SGD(x, lr=1.0)).step(grad)
        found.append(x.tobytes())
    assert len(set(found)) == 1
