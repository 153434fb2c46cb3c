"""Complex parameters in what works on an optimizer: training, searches, checks and files."""

import copy

import numpy as np
import pytest

import stepsize as ss
from cases import same_bits
from stepsize.arrays import view_as_complex, view_as_real
from stepsize.errors import CheckpointError
from stepsize.serialization import container

RANDOM = np.random.default_rng(3)
GOAL = RANDOM.standard_normal((4, 2)) @ [1, 1j]
X = RANDOM.standard_normal((64, 4, 2)) @ [1, 1j]
Y = X @ GOAL


def fit_of(params, batch):
    """Least squares in complex numbers; the gradient is the direction of steepest ascent."""
    x, y = batch
    rest = x @ params["z"] - y
    return float(np.mean(np.abs(rest) ** 2)), {"z": 2 * x.conj().T @ rest / len(x)}


def parts_of(params, batch):
    """The same of real parameters, the parts."""
    loss, grads = fit_of({"z": view_as_complex(params["z"], np.dtype(complex))}, batch)
    return loss, {"z": view_as_real(grads["z"]).copy()}


def start():
    return {"z": np.zeros(4, complex)}, {"z": np.zeros((4, 2))}


def test_fit_trains_stops_and_resumes_as_on_the_parts(tmp_path):
    params, twin = start()
    settings = {"batch_size": 16, "seed": 1, "progress": False, "accumulate": 2}
    history = ss.fit(fit_of, params, ss.Adam(params, lr=0.05), (X, Y), epochs=4, **settings)
    other = ss.fit(parts_of, twin, ss.Adam(twin, lr=0.05), (X, Y), epochs=4, **settings)
    assert same_bits(view_as_real(params["z"]).copy(), twin["z"])
    assert all(np.array_equal(history[k], other[k]) for k in ("loss", "grad_norm", "update_ratio"))
    again = start()[0]
    for epochs in (2, 4):
        optimizer = ss.Adam(again, lr=0.05)
        ss.fit(
            fit_of, again, optimizer, (X, Y), epochs=epochs, **settings,
            checkpoint=tmp_path / "run", resume=True,
        )  # fmt: skip
    assert same_bits(again["z"], params["z"])


def test_lr_find_measures_as_on_the_parts():
    params, twin = start()
    batches = [(X[:32], Y[:32]), (X[32:], Y[32:])]
    found = ss.lr_find(fit_of, params, batches, steps=40, progress=False)
    other = ss.lr_find(parts_of, twin, batches, steps=40, progress=False)
    assert found.suggestion == other.suggestion
    assert not params["z"].any()


def test_what_if_branches_as_on_the_parts():
    params, twin = start()
    batches = [(X[k::8], Y[k::8]) for k in range(8)]
    found, other = (
        ss.what_if(function, nest, ss.SGD(nest, lr=0.01), batches, steps=16, held=4)
        for function, nest in ((fit_of, params), (parts_of, twin))
    )
    assert found.table() == other.table()


@pytest.mark.parametrize("rule", ["adam", "lbfgs", "sgd"])
def test_minimize_reaches_the_goal(rule):
    result = ss.minimize(
        lambda z: (float((abs(z - GOAL) ** 2).sum()), 2 * (z - GOAL)), 0 * GOAL, rule
    )
    assert result.converged
    np.testing.assert_allclose(result.x, GOAL, atol=1e-4)
    assert result.x.dtype == complex


def test_minimize_looks_beside_a_saddle_that_only_imaginary_parts_leave():
    def saddle(z):
        return float((z.real**2 - 99 * z.imag**2).sum()), 2 * z.real - 198j * z.imag

    result = ss.minimize(saddle, [0j, 0j])
    assert "lower beside it" in result.message


def test_minimize_refuses_extended_precision():
    with pytest.raises(TypeError, match="complex64 or complex128"):
        ss.minimize(lambda z: (0.0, z), np.ones(2, np.clongdouble))


def test_the_noise_scale_counts_both_parts():
    grads = [RANDOM.standard_normal((50, 2)) + 1 for _ in range(16)]
    parts = ss.gradient_noise_scale(grads, batch_size=4)
    whole = ss.gradient_noise_scale(
        [view_as_complex(g, np.dtype(complex)) for g in grads], batch_size=4
    )
    assert whole == parts


def test_callbacks_see_both_parts():
    params = start()[0]
    monitor = ss.DiagnosisMonitor(every=20)
    callbacks = [monitor, ss.StopOnDivergence(), ss.EarlyStopping(monitor="loss", patience=100)]
    ss.fit(
        fit_of, params, ss.SGD(params, lr=0.05), (X, Y), epochs=6, batch_size=16,
        callbacks=callbacks, progress=False,
    )  # fmt: skip
    assert np.abs(params["z"] - GOAL).max() < 1


# check_gradients.


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_right_gradient_fits(dtype):
    params = {"z": np.array([1 + 1j, 2, -1j, 0.5], dtype)}

    def function(p, batch):
        loss, grads = fit_of(p, batch)
        return loss, {"z": grads["z"].astype(dtype)}

    check = ss.check_gradients(function, params, (X, Y), coordinates=4)
    assert check.ok
    assert check.leaves["z"].verdict == "fits"
    assert check.leaves["z"].shape == (4,)


WRONG = {
    "conjugated": lambda g: g.conj(),
    "factor": lambda g: g / 2,
    "sign_flipped": lambda g: -g,
    "zero_in_part": lambda g: g.real + 0j,
}


@pytest.mark.parametrize("cause", WRONG)
def test_a_wrong_gradient_is_told_with_its_cause(cause):
    params = {"z": np.array([1 + 1j, 2, -1j, 0.5])}

    def function(p, batch):
        loss, grads = fit_of(p, batch)
        return loss, {"z": WRONG[cause](grads["z"])}

    check = ss.check_gradients(function, params, (X, Y))
    assert (check.ok, check.leaves["z"].cause) == (False, cause)


# Files.

ARRAYS = {
    "a": np.array([1 + 2j, complex(np.nan, np.inf)], np.complex64),
    "b": np.asfortranarray(np.arange(6).reshape(2, 3) * (1 - 1j)),
    "scalar": np.array(1j),
    "empty": np.zeros((0, 3), complex),
    "real": np.ones(2),
}


def test_complex_arrays_come_back_from_a_file(tmp_path):
    container.write(tmp_path / "f", ARRAYS, {})
    found, _ = container.read(tmp_path / "f")
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable


def test_files_without_complex_arrays_are_as_they_were(tmp_path):
    container.write(tmp_path / "f", {"a": np.ones(2)}, {})
    assert b'"schema":"1"' in (tmp_path / "f").read_bytes()
    container.write(tmp_path / "f", {"a": np.ones(2, complex)}, {})
    assert b'"schema":"2"' in (tmp_path / "f").read_bytes()


@pytest.mark.parametrize("names", ['["r"]', '["x"]', "[1]", "{}", "[", "1"])
def test_a_damaged_list_of_complex_arrays_is_refused(tmp_path, names, monkeypatch):
    real = container._header

    def header(arrays, meta, paired):
        made = real(arrays, meta, [])
        quoted = names.replace('"', '\\"')
        text = made[8:].rstrip().replace(b'"meta":', f'"complex":"{quoted}","meta":'.encode())
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    monkeypatch.setattr(container, "_header", header)
    container.write(tmp_path / "f", {"r": np.ones(3)}, {})
    with pytest.raises(CheckpointError, match="complex"):
        container.read(tmp_path / "f")


def test_a_real_checkpoint_does_not_load_into_complex_parameters(tmp_path):
    params, twin = start()
    ss.save(tmp_path / "f", twin, ss.Adam(twin))
    with pytest.raises(CheckpointError, match="z"):
        ss.load(tmp_path / "f", params)
    with pytest.raises(CheckpointError):
        ss.load(tmp_path / "f", {"z": np.zeros((4, 2), complex)})
    assert copy.deepcopy(params)["z"].dtype == complex
