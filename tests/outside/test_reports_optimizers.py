"""Public bug reports about optimizers, state, half precision and estimators, each tried here."""

import warnings

import numpy as np
import pytest

import stepsize as ss
from reports import report

half = np.float16


@report(
    "facebookresearch/fairscale#263",
    "the global norm of float16 gradients is computed in float16: 5000 squared is infinite",
)
@report(
    "tracel-ai/burn#5699",
    "clipping by norm turns a finite float16 gradient of 300 into 0",
)
@report(
    "NVIDIA-NeMo/Automodel#825",
    "norms added in bfloat16 give NaN by overflow and underflow",
)
@pytest.mark.parametrize("value", [300.0, 5000.0, 60000.0, 6e-8])
def test_the_norm_of_half_precision_gradients(value):
    x = {"a": np.zeros(1, half), "b": np.zeros(4, half)}
    opt = ss.SGD(x, lr=1.0, clip_norm=1.0)
    g = half(value)
    stats = opt.step({"a": np.full(1, g), "b": np.full(4, g)}, stats=True)
    norm = float(g) * 5**0.5
    assert stats.grad_norm == pytest.approx(norm)
    moved = -float(g) / max(norm, 1)
    assert x["a"] == pytest.approx(moved, rel=1e-3, abs=6e-8) and x["b"][3] == x["a"][0]


@report(
    "facebookresearch/fairseq#4555",
    "the norm is taken of the scaled gradients: it overflows and the loss scale falls to nothing",
)
@report(
    "facebookresearch/fairseq#2384",
    "in a large model the norm alone makes every step count as an overflow",
)
def test_a_large_norm_of_finite_gradients_is_no_overflow():
    x = np.zeros(10_000, half)
    opt = ss.SGD(x, lr=1e-9, loss_scale="dynamic", clip_norm=1.0)
    for _ in range(5):
        opt.step(np.full(10_000, 60_000, half))
    assert opt.loss_scale == 65536 and opt.step_count == 5


@report(
    "NVIDIA/apex#452",
    "the dynamic loss scale does not fall below 1, where the loss itself is too large for float16",
    "the same limit; an error names it, and a fixed loss_scale below 1 is taken",
)
@report(
    "deepspeedai/DeepSpeed#1599",
    "where every gradient is NaN the loss scale stays at its lowest, every step is left out",
    "an error ends it; mended: the error names the loss scale",
)
def test_a_loss_scale_that_cannot_help_is_told():
    opt = ss.SGD(np.zeros(1, half), lr=0.1, loss_scale="dynamic")
    with pytest.raises(ss.NonFiniteGradientError, match="loss_scale is 1"):
        for _ in range(20):
            opt.step(np.full(1, np.nan, half))
    assert opt.step_count == 0 and opt.loss_scale == 1
    x = np.zeros(1, half)
    ss.SGD(x, lr=1.0, loss_scale=0.25).step(np.full(1, 60_000, half) * half(1e-3))
    assert x == pytest.approx(-240, rel=1e-3)


@report(
    "deepspeedai/DeepSpeed#90",
    "a fixed loss scale crashes where the dynamic one works",
)
def test_a_fixed_loss_scale():
    x = np.zeros(1, half)
    ss.SGD(x, lr=1.0, loss_scale=1024).step(np.full(1, 512, half))
    assert x == -0.5


@report(
    "radixark/miles#611",
    "after an overflow the gradient norm to report is an unbound variable",
)
def test_a_skipped_step_has_statistics():
    opt = ss.SGD(np.zeros(2, half), lr=0.1, loss_scale="dynamic")
    stats = opt.step(np.array([np.inf, 1], half), stats=True)
    assert stats.nonfinite == 1 and stats.update_norm == 0


@report(
    "allenai/OLMo-core#317",
    "a variant of Adam that skips bad steps never counts: no bias correction, 2.2 times the rate",
)
def test_skipped_steps_do_not_disturb_the_bias_correction():
    one, two = np.zeros(3), np.zeros(3)
    plain, skipping = ss.Adam(one, lr=0.1), ss.Adam(two, lr=0.1, on_nonfinite="skip")
    for k in range(4):
        g = np.arange(3.0) + k
        plain.step(g)
        skipping.step(np.full(3, np.nan))
        skipping.step(g)
    assert (one == two).all() and skipping.step_count == 4
    assert abs(two[2]) == pytest.approx(0.4, rel=0.05)


@report(
    "ikostrikov/pytorch-a3c#12",
    "the step of the bias correction is not kept where the moments are: early steps are too long",
)
def test_a_leaf_without_gradients_has_its_own_bias_correction():
    x = {"a": np.zeros(1), "b": np.zeros(1)}
    opt = ss.Adam(x, lr=0.1)
    for _ in range(5):
        opt.step({"a": np.ones(1), "b": None})
    opt.step({"a": np.ones(1), "b": np.full(1, 7.0)})
    assert x["b"] == pytest.approx(-0.1)


@report(
    "PennyLaneAI/pennylane#1928",
    "Adagrad over several arguments applies the first one's sum to all: an index is not counted up",
)
@report(
    "nntrainer/nntrainer#219",
    "the bias is updated twice in a step by Adam, and not at all by SGD",
)
@pytest.mark.parametrize("rule", [ss.SGD, ss.Adagrad, ss.Adam])
def test_every_leaf_is_updated_once_with_its_own_state(rule):
    shapes = [(3, 2), (2,), (), (4,)]
    rng = np.random.default_rng(0)
    grads = [[rng.normal(size=shape) for shape in shapes] for _ in range(3)]
    together = [np.ones(shape) for shape in shapes]
    alone = [np.ones(shape) for shape in shapes]
    opt, single = rule(together, lr=0.1), [rule(leaf, lr=0.1) for leaf in alone]
    for step in grads:
        opt.step(step)
        for one, g in zip(single, step, strict=True):
            one.step(g)
    assert all((a == b).all() for a, b in zip(together, alone, strict=True))


@report(
    "bitsandbytes-foundation/bitsandbytes#1992",
    "Lion adds the weight decay to the gradient, before the sign",
)
def test_the_decay_of_lion_is_decoupled():
    x = np.array([10.0])
    opt = ss.Lion(x, lr=0.1, weight_decay=0.5)
    opt.step(np.array([-1e-3]))
    assert x == 10 * (1 - 0.05) + 0.1


@report(
    "bitsandbytes-foundation/bitsandbytes#1261",
    "8-bit Adam takes amsgrad= and does not use it",
)
def test_amsgrad_is_used_with_8_bit_state():
    ends = []
    for amsgrad in (False, True):
        x = np.zeros(512, np.float32)
        opt = ss.Adam(x, lr=0.1, betas=(0.9, 0.9), amsgrad=amsgrad, state_dtype="int8")
        for k in range(51):
            opt.step(np.full(512, 0.1 if k else 100.0, np.float32))
        ends.append(float(x.mean()))
    assert abs(ends[0]) > 1.5 * abs(ends[1])


@report(
    "bitsandbytes-foundation/bitsandbytes#121",
    "after a release 8-bit Adam trains badly: its table of codes was built wrongly",
)
@report(
    "bitsandbytes-foundation/bitsandbytes#227",
    "the cause of it: half of the codes of unsigned numbers is missing",
)
def test_8_bit_adam_follows_float32_adam():
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=4096).astype(np.float32) * 0.1 + 0.05 for _ in range(100)]
    ends = []
    for dtype in (None, "int8"):
        x = np.zeros(4096, np.float32)
        opt = ss.Adam(x, lr=0.01, state_dtype=dtype)
        for g in grads:
            opt.step(g)
        ends.append(x)
    apart, way = ends[1] - ends[0], np.abs(ends[0]).mean()
    assert way > 0.1 and np.abs(apart).mean() < 0.03 * way and abs(apart.mean()) < 0.003 * way


@report(
    "ooples/AiDotNet#1238",
    "8-bit Adam keeps its moments in full precision beside the codes",
)
def test_8_bit_state_takes_the_bytes_it_says():
    opt = ss.Adam(np.zeros(1 << 16, np.float32), state_dtype="int8")
    opt.step(np.ones(1 << 16, np.float32))

    def size(part):
        if isinstance(part, dict):
            return sum(map(size, part.values()))
        return part.nbytes if isinstance(part, np.ndarray) else 0

    assert size(opt.state_dict()) <= 2.1 * (1 << 16)


@report(
    "pytorch/pytorch#1489",
    "optimizer state is matched by the order of the parameters: after a reordering it is swapped",
)
@report(
    "facebookresearch/fairscale#380",
    "state is restored in another order than that of the groups",
)
def test_state_belongs_to_names():
    a, b = {"one": np.zeros(2), "two": np.zeros(2)}, {"two": np.zeros(2), "one": np.zeros(2)}
    first = ss.Adam(a, groups=[ss.group("two", lr=0.5)])
    first.step({"one": np.ones(2), "two": np.full(2, 5.0)})
    second = ss.Adam(b, groups=[ss.group("two", lr=0.5)])
    second.load_state_dict(first.state_dict())
    for opt, params in ((first, a), (second, b)):
        for leaf in params.values():
            leaf[:] = 0
        opt.step({"one": np.ones(2), "two": np.ones(2)})
    assert all((a[name] == b[name]).all() for name in a)
    assert (a["one"] != a["two"]).all()


@report(
    "pytorch/pytorch#6031",
    "parameters given as a set come in another order at every start",
)
def test_a_set_of_parameters_is_refused():
    class Leaf(np.ndarray):
        __hash__ = object.__hash__

    leaf = np.zeros(2).view(Leaf)
    with pytest.raises(TypeError):
        ss.SGD({leaf, np.zeros(3).view(Leaf)})


@report(
    "pytorch/pytorch#11200",
    "the message about a wrong shape in a file swaps the two shapes",
)
@report(
    "X-LANCE/text2sql-lgesql#18",
    "state of another model is loaded without a word; the next step fails with a bare shape error",
)
@report(
    "mks0601/ExAvatar_RELEASE#5",
    "a state with other groups is refused without saying which parameters differ",
)
def test_state_of_another_model_is_refused_when_it_is_loaded():
    saved = ss.Adam({"w": np.zeros(3), "b": np.zeros(1)})
    saved.step({"w": np.ones(3), "b": np.ones(1)})
    other = ss.Adam({"w": np.zeros(4), "b": np.zeros(1)})
    before = other.step_count
    with pytest.raises(ValueError, match=r"w.*(\(3,\)|3).*(\(4,\)|4)|w.*(\(4,\)|4).*(\(3,\)|3)"):
        other.load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match=r"\bv\b|\bw\b"):
        ss.Adam({"v": np.zeros(3), "b": np.zeros(1)}).load_state_dict(saved.state_dict())
    assert other.step_count == before


@report(
    "pytorch/pytorch#5953",
    "L-BFGS gives NaN and stays there",
)
@report(
    "mlverse/torch#516",
    "L-BFGS without a line search throws the point far away and the loss is infinite from then on",
)
def test_lbfgs_comes_back_from_where_the_function_is_not_defined():
    def barrier(x):
        with np.errstate(all="ignore"):
            value = x.sum() - np.log(1 - x @ x)
            return float(value), 1 + 2 * x / (1 - x @ x)

    result = ss.minimize(barrier, np.array([0.9, 0.3]), rule="lbfgs")
    assert np.isfinite(result.fun) and result.x @ result.x < 1 and result.grad_norm < 1e-4

    def norm(x):
        length = np.sqrt(x @ x)
        return float(length), x / length

    result = ss.minimize(norm, np.array([20.0, 20.0]), rule="lbfgs", max_iter=50)
    assert np.isfinite(result.x).all() and result.fun < 28.3


sk = pytest.importorskip("stepsize.interop.sklearn")


def quiet(call, *args, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **keywords)


def regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    return X, X @ [2.0, 3.0, 0.0, 1.0] + rng.normal(size=200)


@report(
    "scikit-learn/scikit-learn#25693",
    "partial_fit after a fit with early stopping fails inside",
)
def test_partial_fit_with_early_stopping_is_refused_by_name():
    X, y = regression()
    model = sk.MLPRegressor(early_stopping=True, max_iter=5, random_state=0)
    quiet(model.fit, X, y)
    with pytest.raises(ValueError, match="early_stopping"):
        model.partial_fit(X, y)


@report(
    "scikit-learn/scikit-learn#6994",
    "partial_fit with a class that is not in the first batch crashes",
)
def test_partial_fit_knows_its_classes_beforehand():
    model = sk.MLPClassifier(random_state=0)
    model.partial_fit([[1.0], [2.0], [3.0]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    model.partial_fit([[4.0]], ["d"])
    assert list(model.classes_) == ["a", "b", "c", "d"]


@report(
    "scikit-learn/scikit-learn#16812",
    "with warm_start a classifier's second fit trains for one epoch only",
)
@report(
    "scikit-learn/scikit-learn#13656",
    "many warm-started fits of one iteration do not learn what one long fit does",
)
def test_a_warm_start_trains_as_long_as_it_is_told():
    X, y = regression()
    for model in (
        sk.MLPRegressor(max_iter=3, warm_start=True, random_state=0),
        sk.MLPClassifier(max_iter=3, warm_start=True, random_state=0),
    ):
        target = y if isinstance(model, sk.MLPRegressor) else (y > 0).astype(int)
        quiet(model.fit, X, target)
        first = model.t_
        quiet(model.fit, X, target)
        assert model.t_ in (2 * first, first)
        assert len(model.loss_curve_) in (3, 6) and len(model.history_["loss"]) >= 3
    short = sk.MLPRegressor(
        solver="lbfgs", max_iter=1, warm_start=True, alpha=0, activation="logistic", random_state=0
    )
    scores = []
    for _ in range(60):
        quiet(short.fit, X, y)
        scores.append(short.score(X, y))
    assert scores[-1] > 0.85 and scores[-1] > scores[5]


@report(
    "scikit-learn/scikit-learn#12505",
    "a network that fits several labels at once cannot be trained by partial_fit",
)
def test_several_labels_by_partial_fit():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 5))
    Y = (X[:, :3] > 0).astype(int)
    model = sk.MLPClassifier(random_state=0, learning_rate_init=0.05)
    for _ in range(60):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert (model.predict(X) == Y).mean() > 0.9
