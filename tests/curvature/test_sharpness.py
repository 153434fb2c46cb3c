"""Sharpness along the update and of the Hessian, against Hessians that are known."""

import math

import numpy as np
import pytest

import stepsize as ss

H = np.diag([1.0, 3.0, 10.0]) + 0.5


def quadratic(p, batch):
    return float(p @ H @ p) / 2, H @ p


def network(p, batch):
    x, y = batch
    hidden = np.tanh(x @ p["w"])
    out = hidden @ p["v"] - y
    d = 2 * out / len(y)
    return float((out**2).mean()), {
        "w": x.T @ (np.outer(d, p["v"]) * (1 - hidden**2)),
        "v": hidden.T @ d,
    }


RNG = np.random.default_rng(3)
BATCH = (RNG.normal(size=(20, 4)), RNG.normal(size=20))


def start(dtype=np.float64):
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(4, 3)).astype(dtype), "v": rng.normal(size=3).astype(dtype)}


def hessian(p):
    """By central differences of the gradient, one coordinate after another."""
    flat = np.concatenate([p["v"], p["w"].ravel()])

    def grad(z):
        g = network({"v": z[:3], "w": z[3:].reshape(4, 3)}, BATCH)[1]
        return np.concatenate([g["v"], g["w"].ravel()])

    h = 1e-5
    return np.array([(grad(flat + h * e) - grad(flat - h * e)) / (2 * h) for e in np.eye(15)])


@pytest.mark.parametrize(("dtype", "within"), [(np.float64, 1e-4), (np.float32, 1e-2)])
def test_lanczos_finds_the_largest_eigenvalue(dtype, within):
    found = ss.sharpness(network, start(dtype), BATCH, tolerance=1e-5)
    assert found.value == pytest.approx(np.linalg.eigvalsh(hessian(start()))[-1], rel=within)
    assert found.critical_rate == 2 / found.value == 2 / float(found)
    assert (found.method, found.gradients % 2, found.values) == ("lanczos", 0, 0)


def test_lanczos_stops_when_it_is_close_enough():
    few = ss.sharpness(network, start(), BATCH, tolerance=0.1)
    many = ss.sharpness(network, start(), BATCH, tolerance=0, products=15)
    assert few.gradients < many.gradients == 30
    assert few.value == pytest.approx(many.value, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_lanczos_is_not_content_with_a_smaller_eigenvalue(seed):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    matrix = basis @ np.diag(np.concatenate([rng.uniform(-1, 1, 57), [2.0, 9.0, 10.0]])) @ basis.T

    def bowl(p, batch):
        return float(p @ matrix @ p) / 2, matrix @ p

    found = ss.sharpness(bowl, rng.normal(size=60), seed=seed)
    assert found.value == pytest.approx(10.0, rel=0.01)


@pytest.mark.parametrize("guess", [None, 1e-4, 0.1, 30.0])
def test_along_gradient_descent_on_a_quadratic_it_is_exact(guess):
    x = np.array([1.0, -2.0, 0.5])
    g = H @ x
    found = ss.sharpness(quadratic, x, optimizer=ss.SGD(x, lr=0.01), guess=guess)
    assert found.critical_rate == pytest.approx(2 * (g @ g) / (g @ H @ g), rel=1e-9)
    assert found.value <= np.linalg.eigvalsh(H)[-1]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: ss.SGD(p, lr=0.1, momentum=0.9),
        lambda p: ss.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: ss.Lion(p, lr=0.01),
        lambda p: ss.SGD(p, lr=ss.schedules.linear(0.1, 0.0, 100)),
        lambda p: ss.SGD(p, lr=0.1, groups=[ss.group("w", lr=0.01)]),
        lambda p: ss.EMA(ss.Adam(p, lr=0.01), decay=0.9),
    ],
    ids=["momentum", "AdamW", "Lion", "schedule", "groups", "EMA"],
)
def test_the_loss_crosses_at_the_critical_rate(make):
    params = start()
    opt = make(params)
    for _ in range(3):
        opt.step(network(params, BATCH)[1])
    found = ss.sharpness(network, params, BATCH, optimizer=opt)

    def change(rate):
        moved = {k: v.copy() for k, v in params.items()}
        clone = opt.clone(moved)
        rates = np.atleast_1d(opt.lr)
        shares = tuple(rate * r / rates.max() for r in rates)
        clone.lr = shares if len(shares) > 1 else shares[0]
        clone.step(network(params, BATCH)[1])
        return network(moved, BATCH)[0] - network(params, BATCH)[0]

    assert change(0.9 * found.critical_rate) < 0 < change(1.1 * found.critical_rate)


def test_a_good_guess_costs_four_losses():
    params = start()
    opt = ss.SGD(params, lr=1e-3)
    first = ss.sharpness(network, params, BATCH, optimizer=opt)
    guess = 0.7 * first.critical_rate

    def loss(p, batch):
        return network(p, batch)[0]

    again = ss.sharpness(network, params, BATCH, optimizer=opt, guess=guess, loss=loss)
    assert (again.gradients, again.values) == (1, 5)  # one of them at the start
    assert again.value == pytest.approx(first.value, rel=0.05)


def test_no_critical_rate():
    def line(p, batch):
        return float(p.sum()), np.ones(2)

    def uphill(p, batch):
        return float(p @ p), -2 * p

    x = np.ones(2)
    assert ss.sharpness(line, x, optimizer=ss.SGD(x, lr=0.1)).critical_rate == math.inf
    assert ss.sharpness(line, x, optimizer=ss.SGD(x, lr=0.1)).value == 0
    assert ss.sharpness(uphill, x, optimizer=ss.SGD(x, lr=0.1)).critical_rate == 0


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("along", [False, True])
def test_everything_is_as_it_was(fails, along):
    rng = np.random.default_rng(0)
    params = start(np.float32)
    opt = ss.Adam(params, lr=0.01)
    calls = []

    def noisy(p, batch):
        calls.append(rng.normal())
        if fails and len(calls) == 4:
            raise RuntimeError("no")
        loss, grads = network(p, batch)
        return loss, {name: g.astype(np.float32) for name, g in grads.items()}

    opt.step(noisy(params, BATCH)[1])
    rng, calls = np.random.default_rng(0), []

    before = [v.tobytes() for v in params.values()], opt.state_dict(), rng.bit_generator.state
    try:
        ss.sharpness(noisy, params, BATCH, optimizer=opt if along else None)
        assert not fails
    except RuntimeError:
        assert fails
    after = [v.tobytes() for v in params.values()], opt.state_dict(), rng.bit_generator.state
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert repr(before[1]) == repr(after[1])
    assert len(set(calls)) == 1  # the same random numbers in every call


def trained(*callbacks, lr=0.05, accumulate=1):
    params = start()
    opt = ss.SGD(params, lr=lr, momentum=0.5)
    return params, ss.fit(
        network, params, opt, [BATCH] * 40, epochs=1, callbacks=callbacks, accumulate=accumulate
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_monitor_records_and_changes_nothing(accumulate):
    monitor = ss.SharpnessMonitor(network, every=5)
    params, plain = trained(accumulate=accumulate)
    watched, history = trained(monitor, accumulate=accumulate)
    assert all(params[k].tobytes() == watched[k].tobytes() for k in params)
    assert history["loss"].tobytes() == plain["loss"].tobytes()
    found = history["sharpness"]
    due = np.arange(len(found)) % 5 == 4
    assert np.isfinite(found[due]).all()
    assert np.isnan(found[~due]).all()


def test_the_monitor_measures_as_the_function_does():
    x = np.array([1.0, -2.0, 0.5])
    monitor = ss.SharpnessMonitor(lambda p, b: quadratic(p, b)[0], every=1)
    opt = ss.SGD(x, lr=0.01)
    g = H @ x
    history = ss.fit(quadratic, x, opt, [None] * 20, epochs=1, callbacks=[monitor])
    assert history["sharpness"][0] == pytest.approx((g @ H @ g) / (g @ g), rel=1e-9)
    assert monitor.calls <= 5 * 20 + 5


def test_the_monitor_can_be_used_again_and_resumes_bit_for_bit(tmp_path):
    def run(monitor, steps=40, **options):
        params = start()
        opt = ss.SGD(params, lr=0.05, momentum=0.5)
        callbacks = [monitor]
        return ss.fit(
            network, params, opt, [BATCH] * 8, steps=steps, callbacks=callbacks, **options
        )

    monitor = ss.SharpnessMonitor(network, every=3)
    whole = run(monitor)
    assert run(monitor) == whole
    assert monitor.calls < 9 * 14
    path = tmp_path / "run"
    run(ss.SharpnessMonitor(network, every=3), steps=16, checkpoint=path)
    again = ss.SharpnessMonitor(network, every=3)
    assert run(again, checkpoint=path, resume=True) == whole
    assert again.calls == monitor.calls
    with pytest.raises(ValueError, match="guess"):
        again.load_state_dict({"guess": "x", "calls": 1})


def test_diagnose_reads_the_series():
    # In two dimensions a bowl that is steep one way: at 2.02 / 10 gradient descent climbs there.
    def bowl(p, batch):
        return 1 + float(p @ (np.array([0.1, 10.0]) * p)) / 2, np.array([0.1, 10.0]) * p

    said = {}
    for lr in (0.05, 0.2005):
        x = np.array([1.0, 0.1])
        monitor = ss.SharpnessMonitor(bowl, every=1)
        history = ss.fit(bowl, x, ss.SGD(x, lr=lr), [None] * 200, epochs=1, callbacks=[monitor])
        said[lr] = float((history["sharpness"] * lr)[-20:].mean())
    assert said[0.05] < 2 < said[0.2005]


REFUSED = {
    "function": (lambda: ss.sharpness(3, start()), "value_and_grad must be a function"),
    "optimizer": (lambda: ss.sharpness(network, start(), BATCH, optimizer=3), "optimizer must be"),
    "closure": (
        lambda: ss.sharpness(network, start(), BATCH, optimizer=ss.LBFGS(start())),
        "LBFGS evaluates the function itself",
    ),
    "loss": (lambda: ss.sharpness(network, start(), BATCH, loss=3), "loss must be a function"),
    "guess": (
        lambda: ss.sharpness(network, start(), BATCH, optimizer=ss.SGD(start()), guess=0),
        "guess must be",
    ),
    "products": (lambda: ss.sharpness(network, start(), BATCH, products=0), "products must be"),
    "nan": (lambda: ss.sharpness(lambda p, b: (math.nan, p), np.ones(2)), "the loss at params"),
    "monitor": (lambda: ss.SharpnessMonitor(3), "loss must be a function"),
    "every": (lambda: ss.SharpnessMonitor(network, every=0), "every must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
