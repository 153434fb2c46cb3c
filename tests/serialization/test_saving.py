"""Parameters and optimizer in one file: all of it comes back, or nothing changes."""

import threading

import numpy as np
import pytest

import stepsize as ss
from fitting import bits, fit, make_params
from stepsize.serialization import nested


@pytest.fixture
def saved(tmp_path):
    params = make_params()
    opt = ss.AdamW(params, lr=ss.schedules.cosine(0.1, 0.0, 50))
    fit(params, opt)
    ss.save(tmp_path / "m", params, opt)
    return tmp_path / "m", params, opt


def test_a_fresh_model_goes_on_as_the_saved_one(saved):
    path, params, opt = saved
    fresh = make_params()
    other = ss.AdamW(fresh, lr=1.0)
    ss.load(path, fresh, other)
    assert bits(fresh) == bits(params)
    assert fit(fresh, other) == fit(params, opt)
    assert bits(fresh) == bits(params) and other.step_count == 30


def test_the_checkpoint_of_a_run_will_do(tmp_path):
    params, fresh = make_params(), make_params()
    fit(params, checkpoint=tmp_path / "c")
    opt = ss.Adam(fresh)
    ss.load(tmp_path / "c", fresh, opt)
    assert bits(fresh) == bits(params) and opt.step_count == 15


@pytest.mark.parametrize(
    ("change", "rule", "message"),
    [
        (lambda p: p.pop("b"), ss.AdamW, "its parameters differ from this model's in b"),
        (lambda p: p.update(b=np.zeros(2)), ss.AdamW, r"b is float64\[1\], this model's .*\[2\]"),
        (lambda p: p.update(b=np.zeros(1, "f4")), ss.AdamW, r"this model's is float32\[1\]"),
        (lambda p: None, ss.SGD, "AdamW"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(saved, change, rule, message):
    fresh = make_params()
    change(fresh)
    opt = rule(fresh, lr=1.0)
    before = bits(fresh), repr(opt.state_dict())
    with pytest.raises(ss.CheckpointError, match=rf"/m: .*{message}"):
        ss.load(saved[0], fresh, opt)
    assert (bits(fresh), repr(opt.state_dict())) == before


def test_a_file_is_not_read_into_a_read_only_array(saved):
    fresh = make_params()
    opt = ss.AdamW(fresh, lr=1.0)
    fresh["b"].flags.writeable = False
    before = bits(fresh), repr(opt.state_dict())
    with pytest.raises(ss.CheckpointError, match=r"/m: its parameter b cannot be read into a read"):
        ss.load(saved[0], fresh, opt)
    assert (bits(fresh), repr(opt.state_dict())) == before


@pytest.mark.parametrize("leaf", [1.0, [1, 2], np.arange(3), "words"])
def test_what_no_optimizer_takes_is_not_saved_as_parameters(saved, leaf):
    before = saved[0].read_bytes()
    with pytest.raises(TypeError, match=r"^save: (parameter )?w.*float32"):
        ss.save(saved[0], {"w": leaf}, saved[2])
    assert saved[0].read_bytes() == before


def test_a_history_is_not_a_model(saved, tmp_path):
    ss.History.from_arrays(loss=[1.0]).save(tmp_path / "h")
    with pytest.raises(ss.CheckpointError, match=r"/h: it holds a 'history', expected parameters"):
        ss.load(tmp_path / "h", *saved[1:])


def test_parameters_alone(saved, tmp_path):
    path, params, _ = saved
    fresh = make_params()
    assert ss.load(path, fresh) is None and bits(fresh) == bits(params)
    ss.save(tmp_path / "alone", params)
    other = make_params()
    ss.load(tmp_path / "alone", other)
    assert bits(other) == bits(params)
    with pytest.raises(ss.CheckpointError, match="it holds parameters alone; leave the optimizer"):
        ss.load(tmp_path / "alone", other, ss.AdamW(other))


def test_a_model_that_has_gained_and_lost_leaves(saved):
    path, params, _ = saved
    fresh = make_params()
    lost = fresh.pop("b")
    fresh["new"] = np.full(3, 5.0)
    found = ss.load(path, fresh, strict=False)
    assert set(found.loaded) == set(params) - {"b"}
    assert (found.missing, found.unexpected) == (("new",), ("b",))
    assert (fresh["new"] == 5).all() and all((fresh[k] == params[k]).all() for k in found.loaded)
    before = bits(fresh)
    for key, value in (("b", np.zeros(lost.size + 1)), ("b", lost.astype("f2"))):
        with pytest.raises(ss.CheckpointError, match="its parameter b is"):
            ss.load(path, {**fresh, key: value}, strict=False)
    with pytest.raises(ss.CheckpointError, match="it holds none of the parameters x"):
        ss.load(path, {"x": np.zeros(2)}, strict=False)
    with pytest.raises(ValueError, match="leave the optimizer out"):
        ss.load(path, fresh, ss.AdamW(fresh), strict=False)
    with pytest.raises(TypeError, match="load: strict must be True or False, got 'no'"):
        ss.load(path, fresh, strict="no")
    assert bits(fresh) == before


@pytest.mark.parametrize("params", [None, 3, [], {"w": 3}, {"w": {}}])
def test_contents_that_are_no_parameters(tmp_path, params):
    nested.dump(tmp_path / "m", "parameters and optimizer", {"params": params})
    for strict in (True, False):
        with pytest.raises(ss.CheckpointError):
            ss.load(tmp_path / "m", {"w": np.zeros(2)}, strict=strict)


def test_a_file_written_beside_steps_of_another_thread_is_whole(tmp_path):
    params = {"w": np.zeros(1_000_000)}
    opt = ss.SGD(params, lr=1.0)
    grads = {"w": np.full(1_000_000, -1.0)}
    done = threading.Event()

    def steps():
        while not done.is_set():
            opt.step(grads)

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        for _ in range(5):
            ss.save(tmp_path / "m", params, opt)
            ss.save(tmp_path / "alone", params)
            fresh = {"w": np.empty(1_000_000)}
            other = ss.SGD(fresh, lr=1.0)
            ss.load(tmp_path / "m", fresh, other)
            assert (fresh["w"] == other.step_count).all()
            ss.load(tmp_path / "alone", fresh)
    finally:
        done.set()
        thread.join()
