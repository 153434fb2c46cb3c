"""keras.optimizers, on the torch backend in float64."""

import os

import numpy as np

from .base import Adapter, of

DECAYED = {"learning_rate": "lr", "weight_decay": lambda n: n.weight_decay or None}
ADAM = {**DECAYED, "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"}
NADAM = {"average": "by beta1", "second moment": "corrected"}
PAGE = "the docstring of the class"
HAT = {"place of eps": "before the correction"}  # its "epsilon hat"

RULES = {
    "SGD": of("SGD", momentum="momentum", nesterov="nesterov", **DECAYED),
    "Adagrad": of("Adagrad", initial_accumulator_value="initial", epsilon="eps", **DECAYED),
    "RMSprop": of(
        "RMSprop", rho="alpha", epsilon="eps", momentum="momentum", centered="centered", **DECAYED
    ),
    "Adadelta": of("Adadelta", rho="rho", epsilon="eps", **DECAYED),
    "FTRL": of(
        "Ftrl",
        learning_rate="lr",
        beta="beta",
        l1_regularization_strength="l1",
        l2_regularization_strength="l2",
        initial_accumulator_value="initial",
    ),
    "Adam": of("Adam", HAT, PAGE, amsgrad="amsgrad", **ADAM),
    "AdamW": of("AdamW", HAT, PAGE, amsgrad="amsgrad", **(ADAM | {"weight_decay": "weight_decay"})),
    "Adamax": of("Adamax", **ADAM),
    "NAdam": of("Nadam", NADAM, PAGE, fixed={"momentum_decay": 0.004}, **ADAM),
    "Adafactor": of(
        "Adafactor",
        beta_2_decay=lambda n: -n.power,
        epsilon_1="eps",
        epsilon_2="eps2",
        clip_threshold="clip",
        **DECAYED,
    ),
    "LAMB": of("Lamb", **ADAM),
    "Lion": of("Lion", beta_1="beta1", beta_2="beta2", **DECAYED),
    "ScheduleFreeAdamW": of(
        "ScheduleFreeAdamW", fixed={"power": 0.0}, warmup_steps="warmup", **ADAM
    ),
    "Muon": of(
        "Muon",
        fixed={"scale": "match_rms_adamw"},
        momentum="beta",
        nesterov="nesterov",
        ns_steps="steps",
        epsilon="small",
        **DECAYED,
    ),
}


INIT = {"initial_learning_rate": "init"}
DECAY = {**INIT, "decay_steps": "steps", "decay_rate": "rate"}


def planned(name, **arguments):
    return of(f"schedules.{name}", dtype="float32", **arguments)


SCHEDULES = {
    "polynomial": planned(
        "PolynomialDecay", decay_steps="steps", end_learning_rate="end", power="power", **INIT
    ),
    "polynomial, cycled": planned(
        "PolynomialDecay",
        decay_steps="steps",
        end_learning_rate="end",
        power="power",
        cycle=lambda n: True,
        **INIT,
    ),
    "cosine": planned("CosineDecay", decay_steps="steps", alpha=lambda n: n.end / n.init, **INIT),
    "cosine restarts": planned(
        "CosineDecayRestarts",
        first_decay_steps="period",
        t_mul="multiplier",
        m_mul="decay",
        alpha=lambda n: n.end / n.init,
        **INIT,
    ),
    "exponential": planned("ExponentialDecay", **DECAY),
    "exponential staircase": planned("ExponentialDecay", staircase=lambda n: True, **DECAY),
    "piecewise constant": planned(
        "PiecewiseConstantDecay",
        boundaries=lambda n: list(n.boundaries),
        values=lambda n: list(n.levels),
    ),
    "inverse time": planned("InverseTimeDecay", **DECAY),
    "inverse time staircase": planned("InverseTimeDecay", staircase=lambda n: True, **DECAY),
    "warm-up, cosine to 0": planned(
        "CosineDecay",
        warmup_target="peak",
        warmup_steps="warmup",
        decay_steps=lambda n: n.total - n.warmup,
        initial_learning_rate=lambda n: 0.0,
    ),
}


class Keras(Adapter):
    distribution = "keras"
    module = "keras.optimizers"
    rules = RULES
    schedules = SCHEDULES

    def values(self, binding, arguments, numbers, steps):
        made = self.find(binding.name)(**arguments)
        import keras

        return [float(keras.ops.convert_to_numpy(made(s))) for s in range(steps)]

    def find(self, name):
        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras

        keras.config.set_floatx("float64")
        return super().find(name)

    def trajectory(self, binding, case):
        cls = self.find(binding.name)
        import keras

        numbers = self.numbers(binding, case)
        arguments = binding.given(numbers)
        self.checked(binding, numbers)
        optimizer = cls(**arguments)
        params = [keras.Variable(x, dtype="float64") for x in case.x0()]
        optimizer.build(params)
        found = []
        for t in range(case.steps):
            if case.kind == "moving rate":
                optimizer.learning_rate = numbers.lr * case.rate(t)
            grads = [
                keras.ops.convert_to_tensor(case.gradient(t, k, np.zeros(x.shape)))
                for k, x in enumerate(params)
            ]
            optimizer.apply(grads, params)
            found.append([np.array(keras.ops.convert_to_numpy(x)) for x in params])
        return found


ADAPTER = Keras()
