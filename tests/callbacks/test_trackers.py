"""Trackers, whatever stands behind them: what they get, and that none ends a training."""

import sys

import numpy as np
import pytest

import stepsize as ss
from fitting import X, Y, bits, fit, make_params
from stepsize.callbacks import trackers
from stepsize.serialization import nested


class Book:
    """A tracker that notes what it is given, and fails when it is told to."""

    place = "here"

    def __init__(self, fails=()):
        self.fails = set(fails)
        self.calls, self.rows, self.files = [], [], {}

    def _call(self, name):
        self.calls.append(name)
        if name in self.fails:
            raise OSError(28, "No space left on device")

    def open(self, known, settings, step):
        self._call("open")
        self.known, self.settings, self.first = known, settings, step
        return known or "run-1"

    def write(self, rows):
        self._call("write")
        self.rows += rows

    def close(self, summary):
        self._call("close")
        self.summary = summary
        for path in summary.files:
            with open(path, "rb") as file:
                self.files[path.rpartition("/")[2].rpartition("\\")[2]] = file.read()

    def curve(self, name):
        return {row.step: row.values[name] for row in self.rows if name in row.values}


def track(book, every=1, artifacts=True):
    return trackers.TrackTo(book, every, artifacts)


def test_settings_curves_diagnosis_and_files(tmp_path):
    book, params = Book(), make_params()
    lr = ss.schedules.warmup_cosine(0.1, 5, 30)
    optimizer = ss.AdamW(params, lr=lr, groups=[ss.group("b", weight_decay=0.0)], clip_norm=1.0)
    history = fit(params, optimizer, epochs=6, callbacks=[track(book)], validation=(X, Y))
    assert book.settings["rule"] == "AdamW" and book.settings["batch_size"] == 8
    assert book.settings["group0/lr"] == "warmup_cosine(0.1, 5, 30)"
    weights = {book.settings[f"group{i}/weight_decay"]: i for i in range(2)}
    assert set(weights) == {0.0, 0.01} and book.settings[f"group{weights[0.0]}/leaves"] == "b"
    assert book.settings["clip_norm"] == 1.0 and "clip_value" not in book.settings
    assert list(book.curve("loss").values()) == history["loss"].tolist()
    assert book.curve("val_loss")[30] == history.last("val_loss")
    assert book.curve("epoch/epoch") == {5 * i: i for i in range(1, 7)}
    judged = ss.diagnose(history)
    assert book.summary[:4] == ("finished 6 epochs", False, judged.verdict, str(judged))
    assert set(book.files) == {"history.safetensors", "history.csv", "report.html"}
    (tmp_path / "h").write_bytes(book.files["history.safetensors"])
    assert ss.History.load(tmp_path / "h") == history
    page = book.files["report.html"].decode()
    assert "warmup_cosine(0.1, 5, 30)" in page and "<svg" in page


def test_without_steps_and_without_files():
    book = Book()
    fit(make_params(), callbacks=[track(book, every=None, artifacts=False)])
    assert not book.curve("loss") and len(book.curve("epoch/loss")) == 3 and not book.files


def test_a_schedule_that_is_a_function_is_told_as_text():
    def rate(step):
        return 0.1

    book, params = Book(), make_params()
    fit(params, ss.SGD(params, lr=rate), callbacks=[track(book)])
    assert "rate" in book.settings["lr"]


class Fail:
    def on_step(self, run):
        if run.step == 9:
            raise RuntimeError("broken callback")


def test_a_resumed_run_goes_on_in_the_same_run(tmp_path):
    book = Book()
    keeper = ss.Checkpoint(tmp_path / "c", every_steps=7, every_epochs=None)
    with pytest.raises(RuntimeError):
        fit(make_params(), callbacks=[track(book), Fail()], checkpoint=keeper)
    assert book.known is None and book.summary.failed and "broken" in book.summary.stopped
    later = Book()
    history = fit(make_params(), callbacks=[track(later)], checkpoint=keeper, resume=True)
    assert later.known == "run-1" and later.first == 9
    assert history.meta["trackers"] == [["TrackTo", "here", "run-1"]]
    assert book.curve("loss") | later.curve("loss") == dict(enumerate(history["loss"].tolist(), 1))
    other = Book()
    other.place = "elsewhere"
    fit(make_params(), epochs=4, callbacks=[track(other)], checkpoint=keeper, resume=True)
    assert other.known is None


@pytest.mark.parametrize("fails", [{"open"}, {"write"}, {"close"}, {"open", "write", "close"}])
def test_a_tracker_that_fails_does_not_change_the_training(fails):
    whole = make_params()
    expected = fit(whole)
    params = make_params()
    with pytest.warns(UserWarning) as told:
        history = fit(params, callbacks=[track(Book(fails))])
    assert history == expected and bits(params) == bits(whole)
    first = [str(one.message) for one in told if "No space left on device" in str(one.message)]
    assert len(first) == 1 and first[0].startswith("TrackTo: logging failed at step ")
    assert "the training goes on" in first[0]
    last = str(told[-1].message)
    assert "history.save(path)" in last and ("18 rows" in last or fails == {"close"})


def test_what_could_not_be_written_is_written_later():
    book = Book({"open"})

    class Mend:
        def on_epoch(self, run):
            book.fails = set()

    with pytest.warns(UserWarning, match="logging failed at step 0") as told:
        history = fit(make_params(), callbacks=[Mend(), track(book)])
    assert len(told) == 1
    assert list(book.curve("loss").values()) == history["loss"].tolist()


def test_a_dead_tracker_is_not_asked_at_each_step(monkeypatch):
    monkeypatch.setattr(trackers, "PATIENCE", 0.0)
    monkeypatch.setattr(trackers, "REST", 1e9)
    book = Book({"open", "write"})
    with pytest.warns(UserWarning):
        fit(make_params(), callbacks=[track(book)])
    assert book.calls == ["open", "open"]  # at the start and, whatever has been, at the end


def test_waiting_rows_are_bounded_and_the_loss_is_told(monkeypatch):
    monkeypatch.setattr(trackers, "MOST_WAITING", 10)
    book = Book({"open"})

    class Mend:
        def on_end(self, run):
            book.fails = set()

    with pytest.warns(UserWarning) as told:
        history = fit(make_params(), callbacks=[Mend(), track(book)])
    assert "lacks 8 rows of its curves" in str(told[-1].message)
    assert len(book.rows) == 10 and book.rows[-2].values["loss"] == history["loss"][-1]


@pytest.mark.filterwarnings("error")
def test_a_run_that_fails_in_its_first_batch_is_ended():
    def broken(params, batch):
        raise RuntimeError("broken function")

    book, params = Book(), make_params()
    with pytest.raises(RuntimeError, match="broken function"):
        ss.fit(broken, params, ss.Adam(params), (X, Y), epochs=1, callbacks=[track(book)])
    assert book.calls == ["open", "close"] and book.summary.failed
    assert book.summary.diagnosis == "No step was made." and "history.csv" in book.files


def test_a_run_without_a_diagnosis_is_ended(monkeypatch):
    def fail(history):
        raise ZeroDivisionError("in the diagnosis")

    monkeypatch.setattr(trackers, "diagnosis_or_reason", fail)
    book = Book()
    fit(make_params(), callbacks=[track(book)])
    assert book.summary.verdict == "unknown" and "in the diagnosis" in book.summary.diagnosis


def test_ctrl_c_is_not_swallowed():
    class Pressed(Book):
        def write(self, rows):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_params(), callbacks=[track(Pressed())])


def test_a_callback_serves_a_second_run():
    book = Book()
    callback = track(book)
    for _ in range(2):
        book.rows = []
        history = fit(make_params(), callbacks=[callback])
        assert list(book.curve("loss").values()) == history["loss"].tolist()
    assert book.known is None and book.calls.count("open") == 2


def test_what_a_file_says_of_trackers_is_checked(tmp_path):
    path = tmp_path / "c"
    fit(make_params(), callbacks=[track(Book())], checkpoint=path)
    state = nested.load(path, "run")
    state["history"]["meta"]["trackers"] = [["TrackTo", 3]]
    nested.dump(path, "run", state)
    with pytest.raises(ss.CheckpointError, match="meta: trackers"):
        fit(make_params(), epochs=9, callbacks=[track(Book())], checkpoint=path, resume=True)


@pytest.mark.parametrize("name", ["MLflow", "WandB"])
def test_a_missing_extra_says_how_to_install_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name.lower(), None)
    with pytest.raises(ImportError, match=rf'pip install "stepsize\[{name.lower()}\]"'):
        getattr(ss, name)()


@pytest.mark.parametrize("name", ["MLflow", "WandB"])
def test_empty_names_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: name must be text or None, got ''"):
        getattr(ss, name)(name="")


def test_numbers_that_are_not_finite_are_passed_on():
    book = Book()
    params = {"w": np.zeros(3, np.float32), "b": np.zeros(1)}
    fit(params, steps=1, callbacks=[track(book)])
    assert book.curve("update_ratio")[1] == np.inf
