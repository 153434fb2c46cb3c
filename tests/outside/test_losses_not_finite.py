"""A loss of NaN or infinity beside finite gradients: refused by name with nothing changed, or of no
consequence, where a rule uses gradients alone."""

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from hostile import MAKERS, X, Y, clean, make_params
from together import alike, together

ROWS = (X, Y)
LOSSES = [np.nan, np.inf, -np.inf]
CLOSED = {
    "LBFGS": ss.LBFGS,
    "LBFGS, line search": lambda p: ss.LBFGS(p, line_search_fn="strong_wolfe"),
    "SAM": lambda p: ss.SAM(ss.Adam(p, lr=0.1)),
    "SAM of MoMo": lambda p: ss.SAM(ss.MoMo(p)),
}
EVERY = MAKERS | CLOSED
POLICIES = ["raise", "skip", "ignore"]


def whole(optimizer):
    leaves = ss.arrays.flatten(optimizer.params)[0]
    return comparable([optimizer.state_dict(), *(np.array(leaf) for leaf in leaves)])


def finite(optimizer):
    return all(np.isfinite(leaf).all() for leaf in ss.arrays.flatten(optimizer.params)[0])


def step(optimizer, loss):
    """A step at which the loss is this one and the gradients are as ever."""
    grads = clean(optimizer.params, ROWS)[1]
    if optimizer.needs_closure:
        return optimizer.step(lambda p: (loss, clean(p, ROWS)[1]))
    return optimizer.step(grads, loss=loss)


@together("loss", LOSSES, alike)
@pytest.mark.parametrize("rule", EVERY)
def test_a_step_is_refused_by_name_or_does_not_see_it(rule, loss):
    optimizer, plain = (EVERY[rule](make_params()) for _ in range(2))
    for one in (optimizer, plain):
        step(one, 1.0)
    before = whole(optimizer)
    try:
        step(optimizer, loss)
    except (ValueError, ss.NonFiniteGradientError) as error:
        assert "loss is" in str(error) and whole(optimizer) == before
    else:
        assert finite(optimizer)
        if rule != "LBFGS":  # it ends where the loss hardly changes, which NaN never says
            step(plain, 1.0)
            assert whole(optimizer) == whole(plain)
    step(optimizer, 1.0)  # and nothing of it stays
    assert finite(optimizer)


@pytest.mark.parametrize("rule", [cls for cls in ss.optimizers.registry() if cls.needs_loss])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_rule_that_needs_the_loss_refuses_it_under_each_policy(rule, policy):
    optimizer = rule(make_params(), on_nonfinite=policy)
    step(optimizer, 1.0)
    before = whole(optimizer)
    for loss in LOSSES:
        with pytest.raises(ValueError, match=f"^{rule.__name__}: loss is"):
            step(optimizer, loss)
        assert whole(optimizer) == before


@together("loss", LOSSES, alike)
@together("accumulate", [1, 2], alike)
@pytest.mark.parametrize("rule", EVERY)
def test_a_run_ends_before_the_step(rule, accumulate, loss):
    params = make_params()
    optimizer, states, calls = EVERY[rule](params), [], []

    class Keeps:
        def on_start(self, run):
            states.append(whole(optimizer))

        def on_step(self, run):
            states.append(whole(optimizer))
            calls.append(run.step)

    def function(p, batch):
        value, grads = clean(p, batch)
        return (loss if len(calls) == 2 else value), grads

    history = ss.fit(
        function, params, optimizer, ROWS, epochs=4, accumulate=accumulate,
        callbacks=[Keeps()], progress=False,
    )  # fmt: skip
    assert history.stopped.startswith("diverged at step 3") and "the loss is" in history.stopped
    assert calls == [1, 2] and whole(optimizer) == states[-1]
