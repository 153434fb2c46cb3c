"""Stop anywhere, go on in a new process: the same bits as without the stop."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from fitting import X, Y, batches, bits, fit, make_params, value_and_grad
from sessions import Average, Session
from stepsize.errors import CheckpointError


def test_stopping_after_any_step_changes_no_bit(tmp_path):
    whole = Session(tmp_path / "whole").run(40)
    for step in range(1, 40):
        path = tmp_path / f"{step}"
        Session(path).run(step)
        assert Session(path).run(40).bits() == whole.bits(), f"stopped after step {step}"


def test_many_stops_change_no_bit(tmp_path):
    whole = Session(tmp_path / "whole").run(40)
    for step in (3, 4, 5, 15, 21, 39, 40):
        parts = Session(tmp_path / "parts").run(step)
    assert parts.bits() == whole.bits()
    again = Session(tmp_path / "parts").run(40)
    assert again.history == whole.history and bits(again.params) == bits(whole.params)


@pytest.mark.parametrize("step", [7, 9, 10])
def test_ctrl_c_and_resume_change_no_bit(tmp_path, step):
    class Interrupt:
        def on_step(self, run):
            if run.step == step:
                import signal

                signal.raise_signal(signal.SIGINT)

    whole = Session(tmp_path / "whole").run(20)
    cut = Session(tmp_path / "cut")
    cut.run(20, callbacks=[*cut.options["callbacks"], Interrupt()])
    assert cut.history.stopped == f"interrupted after step {step}"
    assert Session(tmp_path / "cut").run(20).bits() == whole.bits()


@pytest.mark.parametrize("validate_every", [3, None])
def test_a_validation_that_was_cut_short_is_made_up_for(tmp_path, validate_every):
    calls = []

    def evaluate(params, batch):
        calls.append(1)
        if len(calls) == 3:
            import signal

            signal.raise_signal(signal.SIGINT)
        return {"loss": value_and_grad(params, batch)[0]}

    options = {"validate_every": validate_every, "evaluate": evaluate}
    calls.extend([1] * 10)
    whole = Session(tmp_path / "whole", **options).run(20)
    calls.clear()
    cut = Session(tmp_path / "cut", **options).run(20)
    assert "interrupted" in cut.history.stopped
    assert Session(tmp_path / "cut", **options).run(20).bits() == whole.bits()


def test_the_batch_size_may_have_changed(tmp_path):
    class Grow:
        def on_epoch(self, run):
            run.batch_size = run.batch_size + 3

    def run(name, *limits):
        for steps in limits:
            params = make_params()
            history = fit(
                params,
                epochs=None,
                steps=steps,
                callbacks=[Grow()],
                checkpoint=ss.Checkpoint(tmp_path / name, every_epochs=None),
                resume=True,
            )
        return bits(params), history

    whole = run("whole", 25)
    for step in range(1, 25):
        assert run(f"{step}", step, 25) == whole


@pytest.mark.parametrize("kind", ["list", "callable", "global generator"])
def test_streams_go_on_where_they_were(tmp_path, kind):
    def stream():
        # Draws from the generators that the gradient draws from too, its order first of all.
        order = np.random.permutation(5) if kind == "global generator" else range(5)  # noqa: NPY002
        for x, y in (batches()[i] for i in order):
            noise = np.random.normal(size=y.shape) + random.random()  # noqa: NPY002
            yield x, y + (noise if kind == "global generator" else 0)

    def noisy(params, batch):
        loss, grads = value_and_grad(params, batch)
        return loss + random.random(), grads

    def run(name, *limits):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        for steps in limits:
            params = make_params()
            history = ss.fit(
                noisy,
                params,
                ss.SGD(params, lr=0.1, momentum=0.9),
                list(batches()) if kind == "list" else stream,
                steps=steps,
                checkpoint=tmp_path / name,
                resume=True,
                progress=False,
            )
            if steps != limits[-1]:
                random.seed()
                np.random.seed()  # noqa: NPY002
        return bits(params), history

    whole = run("whole", 13)
    for step in range(1, 13):
        assert run(f"{step}", step, 13) == whole


@pytest.mark.parametrize("bits_of", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_generators_of_the_gradient_go_on(tmp_path, bits_of):
    def run(name, *limits):
        for steps in limits:
            rng = np.random.Generator(bits_of(7))

            def dropout(params, batch, rng=rng):
                loss, grads = value_and_grad(params, batch)
                return loss, {"w": grads["w"] * (rng.random(3) < 0.5), "b": grads["b"]}

            params = make_params()
            ss.fit(
                dropout,
                params,
                ss.SGD(params, lr=0.1),
                (X, Y),
                steps=steps,
                callbacks=[ss.KeepGenerators(rng)],
                checkpoint=tmp_path / name,
                resume=True,
                progress=False,
            )
        return bits(params), rng.random()

    whole = run("whole", 9)
    for step in range(1, 9):
        assert run(f"{step}", step, 9) == whole


WRAPPERS = {
    "Accumulate": lambda params: ss.Accumulate(ss.Adam(params), every=2),
    "EMA of Lookahead": lambda params: ss.EMA(ss.Lookahead(ss.Adam(params))),
    "SAM": lambda params: ss.SAM(ss.SGD(params)),
    "Mechanic": lambda params: ss.Mechanic(ss.SGD(params)),
    "LBFGS": ss.LBFGS,
}
EVERY_RULE = {rule.__name__: rule for rule in RULES} | WRAPPERS


@pytest.mark.parametrize("rule", EVERY_RULE.values(), ids=list(EVERY_RULE))
def test_every_rule_resumes(tmp_path, rule):
    def run(name, *limits):
        for steps in limits:
            params = make_params()
            opt = rule(params)
            keeper = ss.Checkpoint(tmp_path / name, every_epochs=None)
            history = fit(params, opt, epochs=None, steps=steps, checkpoint=keeper, resume=True)
        return bits(params), repr(opt.state_dict()), history

    assert run("parts", 3, 7) == run("whole", 7)


def test_accumulation_goes_on_at_a_whole_step(tmp_path):
    def run(name, *limits):
        for steps in limits:
            params = make_params()
            history = fit(
                params,
                epochs=None,
                steps=steps,
                accumulate=2,
                checkpoint=tmp_path / name,
                resume=True,
            )
        return bits(params), history

    whole = run("whole", 8)
    for step in range(1, 8):
        assert run(f"{step}", step, 8) == whole


def test_more_epochs_can_be_asked_for(tmp_path):
    params, expected = make_params(), make_params()
    fit(params, epochs=2, checkpoint=tmp_path / "c")
    fit(params, epochs=5, checkpoint=tmp_path / "c", resume=True)
    history = fit(expected, epochs=5)
    assert bits(params) == bits(expected)
    assert ss.History.load(tmp_path / "c") == history
    assert ss.History.load(tmp_path / "c").stopped == "finished 5 epochs"


def test_resuming_a_finished_run_returns_it(tmp_path):
    history = fit(make_params(), epochs=2, checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    params = make_params()
    again = fit(params, epochs=2, checkpoint=tmp_path / "c", resume=True)
    assert again == history and (tmp_path / "c").read_bytes() == before


def test_resuming_a_run_that_was_stopped_for_a_reason_keeps_it_stopped(tmp_path):
    def run():
        params = make_params()
        opt = ss.SGD(params, lr=0.3)
        history = fit(
            params,
            opt,
            epochs=50,
            callbacks=[ss.EarlyStopping("loss", patience=2)],
            checkpoint=tmp_path / "c",
            resume=True,
        )
        return bits(params), history, history.stopped

    first = run()
    assert "has not improved on" in first[2]
    assert run() == first


def test_resume_starts_where_there_is_nothing(tmp_path):
    history = fit(make_params(), checkpoint=tmp_path / "c", resume=True)
    assert history == fit(make_params())


def other(**changes):
    options = {"train": (X, Y), "seed": 0, "callbacks": []} | changes
    params = options.pop("params", make_params)()
    optimizer = options.pop("optimizer", ss.Adam)(params, lr=0.1)
    return params, optimizer, options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "written with seed=0 and this run has seed=1"),
        ({"train": (X[:9], Y[:9])}, "written with 40 training samples and this run has 9"),
        ({"train": batches()}, "40 training samples and this run has an iterable of batches"),
        ({"callbacks": [Average()]}, "callbacks Checkpoint and this run has Average, Checkpoint"),
        ({"optimizer": ss.SGD}, "Adam"),
        ({"params": lambda: {"w": np.zeros(3, "f4"), "c": np.zeros(1)}}, "differ .* in b, c"),
        ({"params": lambda: {"w": np.zeros(3), "b": np.zeros(1)}}, r"w is float32\[3\], this"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(tmp_path, changes, message):
    fit(make_params(), epochs=1, checkpoint=tmp_path / "c")
    params, optimizer, options = other(**changes)
    before = bits(params), repr(optimizer.state_dict())
    with pytest.raises(CheckpointError, match=rf"/c: .*{message}"):
        fit(params, optimizer, checkpoint=tmp_path / "c", resume=True, **options)
    assert (bits(params), repr(optimizer.state_dict())) == before


def test_a_damaged_checkpoint_is_refused_and_changes_nothing(tmp_path):
    fit(make_params(), epochs=1, checkpoint=tmp_path / "c")
    data = bytearray((tmp_path / "c").read_bytes())
    data[-5] ^= 1
    (tmp_path / "c").write_bytes(data)
    params, optimizer, _ = other()
    with pytest.raises(CheckpointError, match="SHA-256"):
        fit(params, optimizer, checkpoint=tmp_path / "c", resume=True)
    assert bits(params) == bits(make_params()) and optimizer.step_count == 0


SUPPORT = Path(__file__).parents[1] / "support"
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sessions import Average, Session
session = Session(sys.argv[2], progress=False)
session.run(int(sys.argv[3]))
Path(sys.argv[4]).write_text(str(session.bits()))
"""


def test_another_process_thread_count_and_instruction_set_change_no_bit(tmp_path):
    def run(name, steps, **environment):
        arguments = [SUPPORT, tmp_path / name, str(steps), tmp_path / "out"]
        subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            env=os.environ | environment,
            check=True,
        )
        return (tmp_path / "out").read_text()

    targets = ss.build_info()["available_targets"]
    best = {"STEPSIZE_TARGET": targets[0], "OMP_NUM_THREADS": "2"}
    least = {"STEPSIZE_TARGET": targets[-1], "OMP_NUM_THREADS": "1"}
    whole = run("whole", 30, **best)
    run("parts", 17, **least)
    assert run("parts", 30, **best) == whole
    assert json.dumps(run("again", 30, **least)) == json.dumps(whole)
