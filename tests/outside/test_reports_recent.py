"""Public bug reports of 2025 and 2026, each tried here."""

import copy
import json

import numpy as np
import pytest

import stepsize as ss
from cases import comparable
from fitting import linear as value_and_grad
from reports import report

rng = np.random.default_rng(3)
X = rng.normal(size=(64, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 * rng.normal(size=64)


def start():
    return {"w": np.zeros(3)}


def two():
    return {"w": np.full((4, 3), 0.5), "b": np.full(3, 0.5)}


def grads(seed=0):
    random = np.random.default_rng(seed)
    return {"w": random.normal(size=(4, 3)), "b": random.normal(size=3)}


def fit(params, optimizer, **options):
    common = {"batch_size": 16, "progress": False} | options
    return ss.fit(value_and_grad, params, optimizer, (X, Y), **common)


@report(
    "pytorch/pytorch#196083",
    "a state handed from one optimizer to another in the same process stays shared by both",
)
def test_a_state_that_is_handed_over_is_not_shared():
    one, other = two(), two()
    first, second = ss.Adam(one, lr=0.1), ss.Adam(other, lr=0.1)
    first.step(grads())
    second.load_state_dict(first.state_dict())
    before = comparable(second.state_dict())
    for seed in range(3):
        first.step(grads(seed))
    assert comparable(second.state_dict()) == before


@report(
    "pytorch/pytorch#147288",
    "loading a state puts other tensors in place of those that others hold",
)
def test_loading_writes_into_the_arrays_that_are_there():
    optimizer, saved = ss.Adam(two(), lr=0.1), ss.Adam(two(), lr=0.1)
    held = optimizer.state["w"]["exp_avg"]
    saved.step(grads())
    optimizer.load_state_dict(saved.state_dict())
    assert np.shares_memory(held, optimizer.state["w"]["exp_avg"])
    assert np.array_equal(held, saved.state["w"]["exp_avg"]) and held.any()


@report(
    "pytorch/pytorch#164929",
    "reading the state of a new optimizer makes a step, and training differs from there on",
)
@pytest.mark.parametrize("rule", ss.optimizers.registry())
def test_reading_a_state_changes_nothing(rule):
    read, unread = two(), two()
    optimizers = rule(read), rule(unread)
    for _ in range(3):
        optimizers[0].state_dict()
        copy.deepcopy(optimizers[0].state)
        for optimizer in optimizers:
            if optimizer.needs_closure:
                optimizer.step(lambda p: (1.0, grads()))
            else:
                optimizer.step(grads(), loss=1.0)
    assert comparable(read) == comparable(unread)


@report("KellerJordan/Muon#54", "weight decay moves parameters that have no gradient")
@pytest.mark.parametrize("rule", [r for r in ss.optimizers.registry() if not r.needs_closure])
def test_what_has_no_gradient_does_not_decay(rule):
    params = two()
    keywords = {"weight_decay": 0.1} if "weight_decay" in rule.fields else {}
    optimizer = rule(params, **keywords)
    for seed in range(8):  # ScheduleFreeRAdam waits for a while
        optimizer.step({"w": None, "b": grads(seed)["b"]}, loss=1.0)
    assert (params["w"] == 0.5).all() and (params["b"] != 0.5).all()


@report(
    "ahrefs/ocannl#673",
    "frozen parameters decay, and their gradients count in the norm that the others are clipped by",
)
def test_what_is_frozen_is_in_no_norm():
    def function(params, batch):
        return float(params["b"].sum()), {"w": np.full((4, 3), 1e6), "b": np.full(3, 0.1)}

    params, alone = two(), {"b": np.full(3, 0.5)}
    options = {"lr": 0.1, "weight_decay": 0.1, "clip_norm": 1.0}
    optimizer = ss.AdamW(params, **options)
    common = {"steps": 3, "progress": False}
    ss.fit(function, params, optimizer, [0], callbacks=[ss.Freeze("w")], **common)
    other = ss.AdamW(alone, **options)
    for _ in range(3):
        other.step({"b": np.full(3, 0.1)})
    assert (params["w"] == 0.5).all() and np.array_equal(params["b"], alone["b"])


@report(
    "google-deepmind/optax#1249",
    "Muon scales a matrix by columns over rows, where its weights are stored the other way round",
    "as documented: rows over columns, where a matrix has its outputs in rows, as torch has",
)
def test_muon_scales_by_rows_over_columns():
    tall, wide = ({"w": np.zeros(shape)} for shape in ((16, 4), (4, 16)))
    for params in (tall, wide):
        gradient = np.random.default_rng(0).normal(size=params["w"].shape)
        ss.Muon(params, lr=1.0, weight_decay=0.0).step({"w": gradient})
    norms = [np.linalg.norm(params["w"], 2) for params in (tall, wide)]
    assert norms[0] / norms[1] == pytest.approx(2.0, rel=0.5)


@report(
    "modelscope/ms-swift#10145",
    "options of an optimizer arrive as text: nesterov='false' is true, and trains otherwise",
    "an error names it: nesterov must be True or False",
)
def test_text_is_no_truth_value():
    for name, value in {"nesterov": "false", "momentum": "0.8", "ns_steps": "3"}.items():
        with pytest.raises((TypeError, ValueError), match=f"Muon: {name}"):
            ss.Muon(two(), **{name: value})


@report(
    "LibreYOLO/libreyolo#277",
    "the state in a file is dropped where it is read before the optimizer is made",
)
def test_a_resume_needs_no_order_of_calls(tmp_path):
    whole, parts = start(), start()
    fit(whole, ss.Adam(whole, lr=0.1), epochs=4)
    fit(parts, ss.Adam(parts, lr=0.1), epochs=2, checkpoint=tmp_path / "run")
    again = start()
    fit(again, ss.Adam(again, lr=0.1), epochs=4, checkpoint=tmp_path / "run", resume=True)
    assert np.array_equal(again["w"], whole["w"])


@report(
    "huggingface/accelerate#4159",
    "the evaluation of a schedule-free optimizer that is wrapped is made at the training point",
)
@pytest.mark.parametrize("wrap", [lambda o: o, ss.Centralize, lambda o: ss.Accumulate(o, 1)])
def test_a_wrapped_schedule_free_optimizer_is_evaluated_at_its_average(wrap):
    params = start()
    optimizer = wrap(ss.ScheduleFreeAdamW(params, lr=0.1))
    seen = []

    def evaluate(p, batch):
        seen.append(p["w"].copy())
        return {"loss": value_and_grad(p, batch)[0]}

    fit(params, optimizer, epochs=2, validation=(X, Y), evaluate=evaluate)
    with optimizer.averaged() as average:
        assert np.array_equal(seen[-1], average["w"])
    assert not np.array_equal(seen[-1], params["w"])


@report(
    "paiml/aprender#2135",
    "the rate falls at the last of the epochs that patience allows, one too early",
)
@pytest.mark.parametrize("patience", [0, 1, 3])
def test_patience_is_how_many_bad_epochs_are_borne(patience):
    optimizer = ss.SGD(start(), lr=1.0)
    plateau = ss.Plateau(optimizer, patience=patience, factor=0.5)
    falls = [plateau.update(1.0) for _ in range(patience + 2)]
    assert falls == [False] * (patience + 1) + [True]


@report(
    "bitsandbytes-foundation/bitsandbytes#2010",
    "decoupled weight decay is applied after the update, and so to the update too",
)
@pytest.mark.parametrize("rule", [ss.AdamW, ss.AdEMAMix])
def test_decoupled_decay_does_not_shrink_the_update(rule):
    for dtype in (None, "int8", "bfloat16"):
        plain, decayed = ({"w": np.full(4096, 2.0)} for _ in range(2))
        gradient = {"w": np.linspace(-1, 1, 4096)}
        rule(plain, lr=0.1, weight_decay=0.0, state_dtype=dtype).step(gradient)
        rule(decayed, lr=0.1, weight_decay=0.5, state_dtype=dtype).step(gradient)
        np.testing.assert_allclose(decayed["w"], plain["w"] - 0.1 * 0.5 * 2.0, rtol=1e-12)


@report(
    "tinygrad/tinygrad#15724",
    "betas of 1 are taken: the bias correction divides by 0, without a word",
    "an error names it: betas[1] must be below 1",
)
@pytest.mark.parametrize("rule", [r for r in ss.optimizers.registry() if "betas" in r.fields])
def test_a_beta_of_1_is_refused(rule):
    given = list(rule.fields["betas"].default)
    for k in range(len(given)):
        betas = tuple(1.0 if i == k else value for i, value in enumerate(given))
        with pytest.raises(ValueError, match=rf"{rule.__name__}: betas\[{k}\]"):
            rule(two(), betas=betas)


@report(
    "deepspeedai/DeepSpeed#7969",
    "before the first step a warm-up sets the rate of the first group alone",
)
def test_a_schedule_begins_in_all_groups():
    warm = ss.schedules.warmup_cosine(1.0, 10, 100)
    optimizer = ss.SGD(two(), lr=warm, groups=[ss.group("b", lr=warm * 0.1)])
    assert optimizer.lr == (0.0, 0.0)
    optimizer.step(grads())
    assert optimizer.lr == (0.1, pytest.approx(0.01))


@report(
    "OpenRLHF/OpenRLHF#1225",
    "a group without parameters is removed by one part and counted by another: the schedule fails",
)
def test_a_group_without_parameters_is_a_group_or_refused_at_once():
    with pytest.raises(ValueError, match="matches no leaf"):
        ss.AdamW(two(), groups=[ss.group("*norm*", weight_decay=0.0)])
    params, alone = two(), two()
    warm = ss.schedules.warmup_cosine(1.0, 4, 10)
    optimizer = ss.AdamW([{"params": params}, {"params": {}, "weight_decay": 0.0}], lr=warm)
    other = ss.AdamW(alone, lr=warm)
    for seed in range(5):
        assert optimizer.lr == (other.lr, other.lr)
        optimizer.step([{"params": grads(seed)}, {"params": {}}])
        other.step(grads(seed))
    assert comparable(params) == comparable(alone)


@report(
    "bghira/SimpleTuner#2989",
    "old checkpoints are deleted before the new one is written, and a stale one of a higher number "
    "takes a place for good",
)
def test_checkpoints_are_deleted_after_the_new_one_is_there(tmp_path, monkeypatch):
    def files():
        return sorted(path.name for path in tmp_path.iterdir())

    (tmp_path / "run-5000").write_text("of somebody else")
    params, counts = start(), []

    class Counts:
        def on_step(self, run):
            counts.append(len(files()))

    callback = ss.Checkpoint(tmp_path / "run", every_steps=1, every_epochs=None, keep=3)
    fit(params, ss.Adam(params), steps=8, callbacks=[Counts()], checkpoint=callback)
    assert files() == ["run", "run-5000", "run-6", "run-7"] and max(counts) == 4

    def full(*arguments):
        raise OSError("no space left")

    before = files()
    monkeypatch.setattr("stepsize.serialization.nested.dump", full)
    with pytest.raises(OSError, match="no space"):
        fit(params, ss.Adam(params), steps=12, checkpoint=callback, resume=True)
    assert set(before) <= {*files()} and files()


@report(
    "PrimeIntellect-ai/prime-rl#934",
    "deleting an old checkpoint fails, and the run with it, where a folder has its name",
)
def test_a_folder_in_the_place_of_an_old_checkpoint_is_left_alone(tmp_path):
    params = start()
    for step in range(1, 9):
        (tmp_path / f"run-{step}").mkdir()
    callback = ss.Checkpoint(tmp_path / "run", every_steps=1, every_epochs=None, keep=2)
    fit(params, ss.Adam(params), steps=6, checkpoint=callback)
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 8
    assert sum(path.is_file() for path in tmp_path.iterdir()) == 2


@report(
    "facebookresearch/fairseq2#1155",
    "of the checkpoints beyond those to keep none is ever deleted",
)
@pytest.mark.parametrize("resume", [False, True])
def test_no_more_checkpoints_stay_than_were_asked_for(tmp_path, resume):
    params = start()
    for steps in (5, 9, 14):
        callback = ss.Checkpoint(tmp_path / "run", every_steps=1, every_epochs=None, keep=3)
        optimizer = ss.Adam(params)
        fit(params, optimizer, steps=steps, checkpoint=callback, resume=resume)
        if resume:
            assert len(list(tmp_path.iterdir())) == 3
            params = start()
    assert (tmp_path / "run").exists()


@report(
    "OHDSI/DeepPatientLevelPrediction#141",
    "the finder takes the rate at which the loss rises most, in place of that where it falls most",
)
def test_the_steepest_suggestion_is_of_a_fall():
    def function(params, batch):
        return float(params["w"] @ params["w"]), {"w": 2 * params["w"]}

    found = ss.lr_find(function, {"w": np.array([3.0, -2.0])}, [None], lr_max=100.0)
    at = np.searchsorted(found.lrs, found.suggestions["steepest"])
    assert found.smoothed[min(at + 1, len(found.smoothed) - 1)] < found.smoothed[0]
    assert found.suggestions["steepest"] < 1.0  # from which on gradient descent diverges


@report(
    "Lightning-AI/pytorch-lightning#21923",
    "skipping 0 points at the end of a curve, [a:-0], leaves none of it, and no rate is suggested",
)
def test_a_number_of_0_takes_all(tmp_path):
    history = ss.History.from_arrays(loss=np.linspace(3, 1, 40), lr=np.full(40, 0.1))
    assert len(history["loss"][-0:]) == 40 and ss.diagnose(history).verdict
    params = start()
    callback = ss.Checkpoint(tmp_path / "run", every_steps=1, every_epochs=None, keep=1)
    fit(params, ss.Adam(params), steps=4, checkpoint=callback)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@report(
    "mlx-node/mlx-node#11",
    "the step of the bias correction is counted up once for each parameter of an update",
)
@pytest.mark.parametrize("rule", [ss.Adam, ss.AdamW, ss.NAdam, ss.RAdam, ss.LAMB, ss.AdaBelief])
def test_an_update_of_many_leaves_is_one_step(rule):
    alone, many = {"a": np.ones(3)}, {name: np.ones(3) for name in "abcdefgh"}
    for params in (alone, many):
        optimizer = rule(params, lr=0.1)
        for seed in range(4):
            gradient = np.random.default_rng(seed).normal(size=3)
            optimizer.step({name: gradient.copy() for name in params})
        assert optimizer.step_count == 4
    assert np.array_equal(alone["a"], many["h"])


@report(
    "SWivid/F5-TTS#631",
    "an average of the weights moves at every accumulated batch, not at every update",
)
@pytest.mark.parametrize("by", ["wrapper", "fit"])
def test_an_average_moves_once_an_update(by):
    params, plain = start(), start()
    if by == "wrapper":
        optimizer = ss.EMA(ss.Accumulate(ss.SGD(params, lr=0.1), 4), decay=0.5)
        options = {"batch_size": 16}
    else:
        optimizer, options = ss.EMA(ss.SGD(params, lr=0.1), decay=0.5), {"accumulate": 4}
    fit(params, optimizer, epochs=2, seed=None, **options)
    other = ss.EMA(ss.SGD(plain, lr=0.1), decay=0.5)
    fit(plain, other, epochs=2, seed=None, batch_size=64)
    with optimizer.averaged() as one, other.averaged() as two_:
        np.testing.assert_allclose(one["w"], two_["w"], rtol=1e-12)


@report(
    "ultralytics/ultralytics#19357",
    "the loss is NaN for hundreds of epochs, while the metrics of the last good one are shown",
)
def test_a_loss_of_nan_ends_the_run_and_no_old_metric_is_repeated():
    calls = []

    def function(params, batch):
        calls.append(1)
        loss, gradient = value_and_grad(params, batch)
        return (np.nan if len(calls) > 6 else loss), gradient

    params = start()
    history = ss.fit(
        function, params, ss.SGD(params, lr=0.1), (X, Y), epochs=300, batch_size=16,
        validation=(X, Y), evaluate=lambda p, b: {"m": float(p["w"][0])}, progress=False,
    )  # fmt: skip
    assert history.stopped.startswith("diverged at step 7") and len(calls) < 12
    assert np.isfinite(history["val_m"]).sum() == 1


@report(
    "Bjarten/early-stopping-pytorch#28",
    "a metric of NaN counts as an improvement: the patience begins anew, and NaN is the best",
)
def test_a_metric_of_nan_is_no_improvement():
    values = iter([1.0, np.nan, np.nan, np.nan, 0.5])
    params = start()
    callback = ss.EarlyStopping("val_m", patience=3, mode="min")
    history = fit(
        params, ss.SGD(params, lr=0.1), epochs=5, validation=(X[:16], Y[:16]),
        evaluate=lambda p, b: {"m": next(values)}, callbacks=[callback],
    )  # fmt: skip
    assert history["epoch"][-1] == 3 and history.stopped
    assert json.loads(json.dumps(callback.state_dict()["best"])) == 1.0
