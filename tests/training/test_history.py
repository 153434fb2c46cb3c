"""History: columns of equal length that survive files, growth and comparison."""

import csv
import math

import numpy as np
import pytest

from stepsize.errors import CheckpointError
from stepsize.training.history import History


@pytest.fixture
def history():
    history = History()
    for step in range(1, 6):
        history.append(step, 0, 1 / step, 0.1, 2.0, 0.01)
        if step % 2 == 0:
            history.record("val_loss", 10.0 * step)
    history.meta = {"rule": "Adam", "seed": 0}
    history.stopped = "finished 5 steps"
    return history


def test_every_series_has_one_number_per_step(history):
    assert {name: values.shape for name, values in history.items()} == dict.fromkeys(history, (5,))
    np.testing.assert_array_equal(history["loss"], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    np.testing.assert_array_equal(history["val_loss"], [np.nan, 20, np.nan, 40, np.nan])
    assert history.steps == 5


def test_what_is_handed_out_cannot_be_written_and_does_not_change(history):
    loss = history["loss"]
    with pytest.raises(ValueError, match="read-only"):
        loss[0] = 3
    history.append(6, 0, 7.0, 0.1)
    assert loss.shape == (5,) and history["loss"][-1] == 7
    assert math.isnan(history["grad_norm"][-1])


def test_recording_pads_to_the_last_row(history):
    history.record("late", 3.0)
    np.testing.assert_array_equal(history["late"], [np.nan] * 4 + [3])


def test_recording_twice_keeps_the_later_value(history):
    history.record("loss", 9.0)
    assert history["loss"][-1] == 9
    history.record("loss", 8.0)
    assert history["loss"][-1] == 8


def test_single_values_are_read_without_copying_the_series(history):
    assert history.last("val_loss") == 40
    assert math.isnan(history.last("accuracy")) and history.last("accuracy", 0.0) == 0
    assert [history.at("loss", i) for i in (0, -1)] == [1, 1 / 5]
    assert math.isnan(history.at("val_loss", -1)) and history.at("val_loss", 3) == 40
    assert history.mean_since("loss", 3) == (1 / 4 + 1 / 5) / 2
    assert math.isnan(history.mean_since("loss", 5))


def test_an_unknown_series_is_an_error_that_lists_the_known(history):
    with pytest.raises(KeyError, match=r"'acc' was not recorded; recorded are step, epoch, loss"):
        history["acc"]


def test_from_arrays_counts_steps_from_one():
    history = History.from_arrays(loss=[3, 2], val_loss=[np.nan, 2.5])
    np.testing.assert_array_equal(history["step"], [1, 2])
    assert list(History.from_arrays(loss=[1.0], step=[10])["step"]) == [10]


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "at least one series"),
        ({"loss": [1, 2], "lr": [1]}, r"lr has shape \(1,\), expected \(2,\) as loss"),
        ({"loss": [[1, 2]]}, r"loss has shape \(1, 2\)"),
        ({"loss": 1.0}, r"loss has shape \(\)"),
        ({"loss": [1.0], "lr": ["low"]}, r"lr must be an array of numbers, got \['low'\]"),
    ],
)
def test_from_arrays_refuses_ragged_series(series, message):
    with pytest.raises(ValueError, match=message):
        History.from_arrays(**series)


def test_equality_is_of_bits(history):
    other = History()
    other.load_state_dict(history.state_dict())
    assert other == history
    other.record("loss", np.nextafter(history.at("loss", -1), 1))
    assert other != history
    assert history != {"loss": 1}


def test_save_and_load(history, tmp_path):
    history.save(tmp_path / "h")
    loaded = History.load(tmp_path / "h")
    assert loaded == history
    assert (loaded.meta, loaded.stopped) == (history.meta, history.stopped)
    loaded.append(6, 1, 0.5, 0.1)
    assert loaded["epoch"][-1] == 1 and math.isnan(loaded["val_loss"][-1])


def test_a_history_of_before_goes_on_with_the_series_that_it_lacks(history):
    state = history.state_dict()
    del state["series"]["param_norm"]
    older = History()
    older.load_state_dict(state)
    assert "param_norm" not in older and older["loss"].tobytes() == history["loss"].tobytes()
    older.append(6, 1, 0.5, 0.1, 2.0, 0.01, 3.0)
    np.testing.assert_array_equal(older["param_norm"], [math.nan] * 5 + [3.0])
    assert older.steps == 6 and older["val_loss"].shape == older["loss"].shape == (6,)


def test_load_refuses_other_files(tmp_path):
    (tmp_path / "h").write_bytes(b"step,loss\n1,2\n")
    with pytest.raises(CheckpointError, match=r"h: "):
        History.load(tmp_path / "h")


def test_csv_holds_every_bit(history, tmp_path):
    history.to_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
    back = {name: [float(row[name] or "nan") for row in rows] for name in history}
    assert History.from_arrays(**back) == history


def test_pandas_frame(history):
    frame = history.to_pandas()
    assert frame.index.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(frame["val_loss"], history["val_loss"])


def test_repr_says_how_it_went(history):
    assert repr(history) == (
        "History(5 steps, loss 1 -> 0.2, val_loss 40, stopped: finished 5 steps)"
    )
    assert repr(History()) == "History(0 steps)"


def test_html_has_a_curve_for_each_series_and_escapes(history):
    history.stopped = "<b>"
    text = history._repr_html_()
    assert text.count("<polyline") == 5 and "&lt;b&gt;" in text and "<b>" not in text
    assert "no step was recorded" in History()._repr_html_()


def test_the_picture_shows_the_rate_the_gap_and_where_the_run_was_resumed(history):
    history.meta["resumed"] = [3]
    axes = history.plot()
    (below,) = set(axes.figure.axes) - {axes}
    np.testing.assert_array_equal(below.lines[-1].get_ydata(), history["lr"])
    assert len(axes.collections) == 1
    assert "resumed" in [text.get_text() for text in axes.texts]
    axes.figure.canvas.draw()


def test_pictures(history):
    axes = history.plot()
    assert history.plot(ax=axes) is axes
    assert "loss" in history.plot_text() or "training" in history.plot_text()


def test_growth_is_amortised():
    history = History()
    sizes = set()
    for step in range(20_000):
        history.append(step, 0, 1.0, 0.1)
        sizes.add(history._columns["loss"].buffer_info()[0])
    assert len(sizes) < 1000
