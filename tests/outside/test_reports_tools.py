"""Public bug reports about averages, searches, tables and line searches, each tried here."""

import json
import os
import warnings

import ml_dtypes
import numpy as np
import pytest

import stepsize as ss
from cases import RULES
from fitting import linear as value_and_grad
from reports import report
from stepsize.cli import main

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 * rng.normal(size=64)


def start():
    return {"w": np.zeros(3)}


def batches(size):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, 64, size)]


@report(
    "frgfm/holocron#504",
    "the learning-rate finder raises the rate at every accumulated batch, not at every update",
)
def test_the_finder_counts_updates_where_batches_are_accumulated():
    def accumulating(params):
        return ss.Accumulate(ss.SGD(params), every=4)

    one = ss.lr_find(value_and_grad, start(), batches(4), optimizer=accumulating, progress=False)
    other = ss.lr_find(value_and_grad, start(), batches(16), progress=False)
    assert len(one.lrs) == len(other.lrs) == len(set(one.lrs))
    assert 0.3 < one.suggestion / other.suggestion < 3


@report(
    "mlverse/luz#63",
    "early stopping with a patience of 1 stops after the first epoch",
)
@report(
    "modelscope/ms-swift#5326",
    "early stopping does not forget earlier failures when the loss is better than ever",
)
@report(
    "CoderPat/structured-neural-summarization#7",
    "a better epoch counts as one without improvement: training stops an epoch early",
)
@pytest.mark.parametrize(
    ("patience", "losses", "steps"),
    [
        (1, [3.0, 2.0, 1.0, 1.5, 0.5], 4),
        (2, [3.0, 4.0, 2.0, 2.5, 1.0, 1.5, 1.2, 0.5], 7),
        (2, [3.0, 4.0, 2.0, 2.5, 1.0, 1.5], 6),
        (3, [1.0, 2.0, 2.0, 2.0, 0.5], 4),
    ],
)
def test_patience_counts_failures_since_the_best(patience, losses, steps):
    params, left = start(), iter(losses)
    history = ss.fit(
        value_and_grad, params, ss.SGD(params, lr=0.01), (X, Y), epochs=len(losses),
        batch_size=64, validation=(X, Y), evaluate=lambda params, batch: {"loss": next(left)},
        callbacks=[ss.EarlyStopping(patience=patience)], progress=False,
    )  # fmt: skip
    assert len(history["loss"]) == steps


@report(
    "ray-project/ray#40318",
    "a grid over more than three parameters runs one combination several times",
)
def test_a_grid_has_each_combination_once():
    seen = []
    space = {name: ss.Choice(1, 2) for name in "abcd"}

    def objective(point):
        seen.append(tuple(point.values()))
        return 0.0

    ss.tune(objective, space, trials=16, method="grid")
    assert len(seen) == len(set(seen)) == 16


@report(
    "sinzlab/nnfabrik#137",
    "a random search draws a parameter on a log scale as if the scale were linear",
)
def test_a_random_search_is_uniform_in_the_logarithm():
    space = {"lr": ss.LogUniform(1e-6, 1.0)}
    result = ss.tune(lambda point: 0.0, space, trials=200, method="random")
    logs = np.log10([trial.point["lr"] for trial in result.trials])
    shares = np.histogram(logs, bins=6, range=(-6, 0))[0] / 200
    assert len(logs) == 200 and shares.min() > 0.08 and shares.max() < 0.27


@report(
    "kozistr/pytorch_optimizer#480",
    "eps is added after the division: where a gradient is 0 the parameters become NaN",
)
@report(
    "chainer/chainer#6299",
    "the default eps is 0 in float16: a step is refused, or divides by 0",
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("cls", [cls for cls in RULES if cls.__name__ != "LBFGS"])
def test_zero_gradients_leave_numbers(cls, dtype):
    x = {"a": np.ones((3, 2), dtype)}
    optimizer = cls(x)
    for value in (0.0, 0.0, 1e-3, 0.0):
        optimizer.step({"a": np.full((3, 2), value, dtype)}, loss=1.0)
        assert np.isfinite(x["a"].astype(float)).all()


@report(
    "m2lines/Samudra#282",
    "after a resume the average of the weights begins anew",
)
@report(
    "cwx-worst-one/EAT#13",
    "after a resume the decay of the average has its initial value again",
)
def test_an_average_that_is_resumed_is_that_of_an_unbroken_run(tmp_path):
    def average(epochs, name):
        params = start()
        optimizer = ss.EMA(ss.SGD(params, lr=0.05), 0.9, warmup=True)
        ss.fit(
            value_and_grad, params, optimizer, (X, Y), epochs=epochs, batch_size=16,
            checkpoint=tmp_path / name, resume=True, progress=False,
        )  # fmt: skip
        with optimizer.averaged():
            return params["w"].tobytes()

    whole = average(6, "whole")
    average(2, "parts")
    assert average(6, "parts") == whole


@report(
    "atomistic-machine-learning/schnetpack#785",
    "a checkpoint written during validation holds the average in place of the trained weights",
    "refused by name: a checkpoint needs the training point",
)
def test_no_checkpoint_is_written_while_the_average_is_validated(tmp_path):
    class Saves:
        def on_validation(self, run):
            run.save(tmp_path / "model")

    params = start()
    optimizer = ss.EMA(ss.SGD(params, lr=0.05), 0.5)
    with pytest.raises(RuntimeError, match="EMA: a checkpoint needs the training point"):
        ss.fit(
            value_and_grad, params, optimizer, (X, Y), epochs=2, validation=(X, Y),
            callbacks=[Saves()], progress=False,
        )  # fmt: skip
    assert not os.listdir(tmp_path)


@report(
    "mgrankin/over9000#6",
    "Lookahead has no state to save, and its slow weights are not in that of the optimizer inside",
)
def test_lookahead_goes_on_from_its_file(tmp_path):
    x = np.zeros(3)
    optimizer = ss.Lookahead(ss.Adam(x, lr=0.1), k=4)
    for _ in range(6):
        optimizer.step(x - 1)
    optimizer.save(tmp_path / "state")
    other = x.copy()
    again = ss.Lookahead(ss.Adam(other, lr=0.1), k=4)
    again.load(tmp_path / "state")
    for _ in range(5):
        optimizer.step(x - 1)
        again.step(other - 1)
    assert x.tobytes() == other.tobytes()


@report(
    "NVIDIA/Megatron-LM#5394",
    "clipping by the global norm shrinks the updates of Muon, and training stalls",
)
def test_clipping_leaves_the_length_of_an_orthogonal_update():
    gradient = 1e4 * rng.normal(size=(8, 8))
    lengths = []
    for options in ({}, {"clip_norm": 1.0}, {"clip_norm": 1e-3}):
        x = np.zeros((8, 8))
        optimizer = ss.Muon(x, lr=0.1, **options)
        for _ in range(3):
            optimizer.step(gradient)
        lengths.append(np.linalg.norm(x))
    # eps beside a norm of 1e-3 is what is left of a difference.
    assert lengths == pytest.approx([lengths[0]] * 3, rel=1e-3)


@report(
    "scipy/scipy#23161",
    "near the minimum, where the loss is noise of rounding, L-BFGS-B tries a point far away",
)
@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-7])
def test_a_line_search_in_the_noise_stays_where_it_is(noise):
    tried = []

    def rosenbrock(x):
        tried.append(np.abs(x).max())
        loss = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + noise * np.sin(1e7 * x.sum())
        slope = -400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)
        return float(loss), np.array(slope)

    result = ss.minimize(rosenbrock, np.array([-1.2, 1.0]), rule="lbfgs")
    assert max(tried) < 3 and result.fun < 1e-3


@report(
    "NVIDIA/cudf#6655",
    "a column of numbers with thousands separators is read as text",
)
def test_thousands_separators_are_numbers(tmp_path, capsys):
    rows = [f'{i * 7 % 11},"{1000 + i * 137:,}",{1 + i * 0.137:.3f}' for i in range(60)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["a,people,y", *rows]) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = ["train", str(table), "--target", "y", "--hidden", "0", "--epochs", "60", "--json"]
        assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["final"]["val_r2"] > 0.99


@report(
    "pandas-dev/pandas#64655",
    "with thousands separators the cell '1 ,' is read as the number 1",
)
def test_a_cell_that_ends_in_a_separator_is_no_number(tmp_path, capsys):
    cells = ["1 ," if i == 5 else f"{i + 1},{i * 7 % 1000:03d}" for i in range(40)]
    table = tmp_path / "table.csv"
    table.write_text("a,y\n" + "".join(f'"{cell}",{i % 3}.5\n' for i, cell in enumerate(cells)))
    assert main(["train", str(table), "--target", "y"]) == 2
    assert "column a holds '1 ,' (line 7) among its numbers" in capsys.readouterr().err


@report(
    "pandas-dev/pandas#8200",
    "a page of the web that is called .xls is read as a table, 5,5 as 55",
)
@pytest.mark.parametrize("name", ["t.xls", "t.xlsx", "t.csv"])
def test_a_page_of_the_web_is_no_table_by_whatever_name(name, tmp_path, capsys):
    page = tmp_path / name
    page.write_text("<html><body><table><tr><td>a</td></tr><tr><td>5,5</td></tr></table></html>")
    assert main(["train", str(page), "--target", "a"]) == 2
    assert "holds a web page (HTML), not its table: save" in capsys.readouterr().err


@report(
    "keras-team/keras#8414",
    "where the output goes to a file as well, by tee, the progress bar is a line for every batch",
)
def test_progress_in_a_pipe_is_no_line_a_step(capsys):
    params = start()
    ss.fit(value_and_grad, params, ss.SGD(params, lr=0.01), batches(8), epochs=50, progress=None)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("\n") + (shown.out + shown.err).count("\r") < 5
