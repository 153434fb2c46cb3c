"""The page about trainers, with the real libraries; and each resumes from its own checkpoint."""

import copy
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import stepsize as ss
import stepsize.interop.torch as interop

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["KERAS_BACKEND"] = "torch"
PAGE = (Path(__file__).parents[3] / "docs" / "trainers.md").read_text("utf-8")
# What the libraries themselves warn of, and their workers.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def section(title):
    """What the code of a section of the page leaves."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    scope = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, f"trainers.md: {title}", "exec"), scope)
    return scope


def numbers(model):
    return [p.detach().clone() for p in model.parameters()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


RESUMED = ["AdamW", "Lion", "Prodigy", "ScheduleFreeAdamW"]


def test_hugging_face():
    scope = section("Hugging Face")
    expected = [scope["schedule"](i) for i in range(12)]
    np.testing.assert_allclose(scope["rates"], expected, rtol=1e-6)
    trainer = scope["trainer"]
    measured = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
    # The last evaluation was made at the average, which the model holds now.
    assert trainer.evaluate()["eval_loss"] == measured[-1]
    average = numbers(trainer.model)
    trainer.optimizer.train()
    assert not same(numbers(trainer.model), average)
    for name in RESUMED:
        resumed_by_hugging_face(scope, name)
    with pytest.raises(TypeError, match="the rule needs the loss"):
        hugging_face(scope, "PolyakSGD", "needs")


def hugging_face(scope, name, folder, resume=None):
    settings = scope["settings"] | {"eval_strategy": "steps", "eval_steps": 6}
    trainer = scope["Trainer"](
        scope["make_model"](),
        scope["TrainingArguments"](folder, **settings),
        train_dataset=scope["Sentences"](),
        eval_dataset=scope["Sentences"](),
        optimizer_cls_and_kwargs=(getattr(interop, name), {"lr": 1e-2}),
    )
    trainer.train(resume_from_checkpoint=resume)
    return numbers(trainer.model), [log for log in trainer.state.log_history if "loss" in log]


def resumed_by_hugging_face(scope, name):
    whole, logs = hugging_face(scope, name, f"{name}-whole")
    again, later = hugging_face(scope, name, f"{name}-again", f"{name}-whole/checkpoint-6")
    assert same(whole, again), name
    assert [log["loss"] for log in logs] == [log["loss"] for log in later]


def test_lightning():
    scope = section("Lightning")
    found = scope["found"].suggestion
    assert 1e-4 < found < 10 and scope["theirs"] > 0
    assert scope["fresh"].lr == 1e-3
    # The module holds the average that was validated.
    model, trainer = scope["model"], scope["trainer"]
    with torch.no_grad():
        x, y = scope["data"].tensors
        losses = [model.training_step((x[i : i + 16], y[i : i + 16]), 0) for i in range(0, 64, 16)]
    assert trainer.callback_metrics["val_loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    wrapper, own = model.optimizers(), model.optimizers().optimizer
    assert wrapper is not own and isinstance(wrapper, interop.ScheduleFreeAdamW)
    assert wrapper.state is own.state and "training_point" in own.state[model.net.weight]
    wrapper.train()
    assert "training_point" not in own.state[model.net.weight]
    for name in [*RESUMED, "PolyakSGD"]:
        resumed_by_lightning(scope, name)


def resumed_by_lightning(scope, name):
    lightning, quiet = scope["lightning"], scope["quiet"]

    class Model(scope["ScheduleFree"] if "Free" in name else scope["Model"]):
        def configure_optimizers(self):
            return getattr(interop, name)(self.parameters(), lr=0.01)

    def trained(epochs, path=None):
        torch.manual_seed(0)
        model = Model()
        trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", **quiet)
        held = scope["loader"] if "Free" in name else None
        trainer.fit(model, scope["loader"], held, ckpt_path=path)
        return model, trainer

    whole, _ = trained(4)
    _, half = trained(2)
    if "Free" in name:
        half.model.optimizers().eval()  # as after an evaluation
    half.save_checkpoint(f"{name}.ckpt")
    again, _ = trained(4, f"{name}.ckpt")
    assert same(numbers(whole), numbers(again)), name


def test_fabric():
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu")
    fabric.launch()
    torch.manual_seed(0)
    plain = torch.nn.Linear(5, 1)
    model, optimizer = fabric.setup(plain, interop.ScheduleFreeAdamW(plain.parameters(), lr=0.1))

    def step():
        optimizer.zero_grad()
        fabric.backward((model(torch.ones(4, 5)) ** 2).mean())
        optimizer.step()

    step()
    step()
    assert optimizer.state[plain.weight]["step"] == 2
    before = numbers(plain)
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"optimizer\.train\(\)"):
        step()
    fabric.save("f.ckpt", {"model": model, "optimizer": optimizer})
    optimizer.train()
    assert same(numbers(plain), before)
    step()
    after = numbers(plain)
    optimizer.eval()
    fabric.load("f.ckpt", {"model": model, "optimizer": optimizer})
    optimizer.train()
    step()
    assert same(numbers(plain), after)


def test_skorch():
    scope = section("skorch")
    net, schedule = scope["net"], scope["schedule"]
    assert net.optimizer_.param_groups[0]["lr"] == schedule(40)
    assert net.history[-1, "train_loss"] < net.history[0, "train_loss"] / 4
    for name in [*RESUMED, "PolyakSGD"]:
        resumed_by_skorch(scope, name)


def resumed_by_skorch(scope, name):
    def made():
        torch.manual_seed(0)
        module = torch.nn.Linear(5, 1)
        rule = getattr(interop, name)
        return scope["NeuralNetRegressor"](
            module, optimizer=rule, lr=0.05, max_epochs=3, train_split=None, verbose=0
        )

    files = {"f_params": "params.pt", "f_optimizer": "optimizer.pt"}
    net = made().fit(scope["x"], scope["y"])
    net.save_params(**files)
    again = made().initialize()
    again.load_params(**files)
    third = pickle.loads(pickle.dumps(net))
    fourth = copy.deepcopy(net)
    for each in (net, again, third, fourth):
        each.partial_fit(scope["x"], scope["y"])
        assert same(numbers(each.module_), numbers(net.module_)), name


def test_keras():
    scope = section("Keras 3")
    losses = scope["history"].history["loss"]
    assert losses[-1] < losses[0] / 2
    model, x = scope["model"], scope["x"]
    model.save_weights("model.weights.h5")
    saved = copy.deepcopy(model.by_torch.state_dict())

    def on():
        model.fit(x, x.sum(1, keepdims=True), epochs=2, batch_size=16, verbose=0, shuffle=False)
        return numbers(model)

    first = on()
    model.load_weights("model.weights.h5")
    model.by_torch.load_state_dict(saved)
    assert same(on(), first)


def test_stable_baselines3():
    scope = section("stable-baselines3")
    agent, again = scope["agent"], scope["again"]
    one, two = agent.policy.optimizer, again.policy.optimizer
    assert isinstance(two, interop.AdamW) and two.defaults == one.defaults
    assert repr(one.state_dict()) == repr(two.state_dict())
    group = one.param_groups[0]
    assert group["lr"] == scope["schedule"](256) and group["weight_decay"] == 0.01
    for optimizer in (one, two):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.full_like(p, 0.01)
        optimizer.step()
    assert same(numbers(agent.policy), numbers(again.policy))


@pytest.mark.parametrize("name", ["SAC", "DQN"])
def test_other_agents(name):
    import stable_baselines3

    made = getattr(stable_baselines3, name)
    agent = made(
        "MlpPolicy",
        "CartPole-v1" if name == "DQN" else "Pendulum-v1",
        learning_starts=16,
        batch_size=8,
        seed=0,
        device="cpu",
        policy_kwargs={"optimizer_class": interop.ScheduleFreeAdamW, "net_arch": [8]},
    )
    agent.learn(48)
    agent.save("agent.zip")
    again = made.load("agent.zip", device="cpu")
    assert same(numbers(agent.policy), numbers(again.policy))


def test_accelerate():
    from accelerate import Accelerator

    torch.manual_seed(0)
    model = torch.nn.Linear(5, 1)
    optimizer = interop.ScheduleFreeAdamW(model.parameters(), lr=0.1)
    scheduler = interop.ScheduleLR(optimizer, ss.schedules.constant(0.1))
    accelerator = Accelerator(cpu=True)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)

    def step():
        optimizer.zero_grad()
        accelerator.backward((model(torch.ones(4, 5)) ** 2).mean())
        optimizer.step()
        scheduler.step()

    step()
    optimizer.eval()
    accelerator.save_state("state")
    optimizer.train()
    step()
    after = numbers(model)
    optimizer.eval()
    accelerator.load_state("state")
    optimizer.train()
    step()
    assert same(numbers(model), after)


def test_sentence_transformers():
    scope = section("sentence-transformers")
    optimizer = scope["trainer"].optimizer.optimizer
    assert isinstance(optimizer, interop.AdamW)
    (entry,) = optimizer.state.values()
    assert entry["step"] == 6 and scope["result"].training_loss > 0


def test_every_row_of_the_table_has_a_section():
    rows = re.findall(r"^\| (?!Trainer|---)([^|]+?) \|", PAGE, re.MULTILINE)
    for row in rows:
        name = row.removesuffix(" `Trainer`").removesuffix(" on torch")
        assert f"\n## {name}\n" in PAGE, row
