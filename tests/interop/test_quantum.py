"""PennyLane's and Qiskit's signatures, against stand-ins with the same."""

import numpy as np
import pytest

import stepsize as ss
from stepsize.interop.pennylane import RuleOptimizer
from stepsize.interop.qiskit import RuleMinimizer


class Tensor(np.ndarray):
    """As PennyLane's: an array that says whether it is trained."""

    def __new__(cls, values, requires_grad=True):
        made = np.asarray(values, np.float64).view(cls)
        made.requires_grad = requires_grad
        return made

    def __array_finalize__(self, other):
        self.requires_grad = getattr(other, "requires_grad", None)


def cost(a, b, data, scale=1.0):
    return scale * float(((np.asarray(a) - 1) ** 2).sum() + (np.asarray(b) @ np.asarray(data)) ** 2)


def gradient(a, b, data, scale=1.0):
    a, b, data = map(np.asarray, (a, b, data))
    return scale * 2 * (a - 1), scale * 2 * (b @ data) * data


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw", ss.Lion])
def test_steps_are_those_of_the_rule_on_new_arguments(rule):
    a, b = Tensor([3.0, 0.0]), Tensor([1.0, 2.0])
    data = Tensor([0.5, 0.5], requires_grad=False)
    optimizer = RuleOptimizer(rule, lr=0.05)
    own = [np.array([3.0, 0.0]), np.array([1.0, 2.0])]
    cls = (
        rule
        if isinstance(rule, type)
        else {"sgd": ss.SGD, "adam": ss.Adam, "adamw": ss.AdamW}[rule]
    )
    plain = cls(own, lr=0.05)
    for _ in range(5):
        before = np.array(a), np.array(b), cost(a, b, data, 2.0)
        new, value = optimizer.step_and_cost(cost, a, b, data, grad_fn=gradient, scale=2.0)
        assert value == before[2]
        assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])
        plain.step(list(gradient(a, b, data, 2.0)))
        a, b, same = new
        assert same is data
        assert type(a) is Tensor and a.requires_grad is True
        assert np.array_equal(a, own[0]) and np.array_equal(b, own[1])
    again = optimizer.step(cost, a, b, data, grad_fn=gradient)
    assert isinstance(again, list) and len(again) == 3


def test_one_argument_comes_alone_and_autograd_differentiates():
    pytest.importorskip("autograd")
    import autograd.numpy as anp

    weights = np.array([0.5, 2.0])
    optimizer = RuleOptimizer("adam", lr=0.1)
    for _ in range(200):
        weights, value = optimizer.step_and_cost(lambda w: anp.sum(anp.cos(w)), weights)
    assert type(weights) is np.ndarray
    np.testing.assert_allclose(weights, np.pi, atol=1e-2)
    assert float(value) == pytest.approx(-2, abs=1e-3)
    number = RuleOptimizer("sgd", lr=0.1).step(lambda x: x * x, 3.0)
    assert number == pytest.approx(3.0 - 0.6)


def test_what_does_not_fit_is_refused_by_name():
    optimizer = RuleOptimizer("sgd", lr=0.1)
    with pytest.raises(ValueError, match="no argument is trainable"):
        optimizer.step(cost, Tensor([1.0], requires_grad=False), grad_fn=gradient)
    with pytest.raises(ValueError, match="1 gradients for 2 trainable"):
        optimizer.step(cost, np.ones(2), np.ones(2), grad_fn=lambda a, b: (a,))
    optimizer.step(cost, np.ones(2), grad_fn=lambda a: a)
    with pytest.raises(ValueError, match="have shapes .* and had"):  # noqa: RUF043
        optimizer.step(cost, np.ones(3), grad_fn=lambda a: a)
    optimizer.reset()
    optimizer.step(cost, np.ones(3), grad_fn=lambda a: a)
    with pytest.raises(TypeError, match="RuleOptimizer: rule must be"):
        RuleOptimizer(3)


def energy(x):
    return np.array([np.sum(np.cos(x))])  # as an estimator returns it


@pytest.mark.parametrize("grad", ["central", "spsa"])
def test_qiskits_signature(grad):
    for call in (
        RuleMinimizer("adam", grad=grad, lr=0.05, max_iter=300).minimize,
        RuleMinimizer("adam", grad=grad, lr=0.05, max_iter=300),
    ):
        found = call(fun=energy, x0=np.array([0.5, 2.0]), jac=None, bounds=None)
        assert found.fun == pytest.approx(-2, abs=0.05)
        assert found.x.shape == (2,) and found.nit > 0 and found.nfev == found.njev
    inside = call(energy, [0.5, 2.0], bounds=[(0, 3.0), (None, None)])
    assert inside.x[0] <= 3.0


def test_qiskits_jac_and_settings():
    made = RuleMinimizer("lbfgs", tol=1e-8)
    found = made.minimize(energy, [0.5, 2.0], jac=lambda x: list(-np.sin(x)))
    np.testing.assert_allclose(found.x, np.pi, atol=1e-6)
    assert made.settings == {"rule": "lbfgs", "grad": "central", "tol": 1e-8}
    assert RuleMinimizer(**made.settings).settings == made.settings
