"""keras.optimizers, on the torch backend in float64."""

import os

import numpy as np

from .base import Adapter, of

DECAYED = {"learning_rate": "lr", "weight_decay": lambda n: n.weight_decay or None}
ADAM = {**DECAYED, "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"}
NADAM = {"average": "by beta1", "second moment": "corrected"}
PAGE = "the docstring of the class"

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
    "Adam": of("Adam", amsgrad="amsgrad", **ADAM),
    "AdamW": of("AdamW", amsgrad="amsgrad", **(ADAM | {"weight_decay": "weight_decay"})),
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


class Keras(Adapter):
    distribution = "keras"
    module = "keras.optimizers"
    rules = RULES

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
            grads = [keras.ops.convert_to_tensor(case.gradient(t, k, np.zeros(x.shape)))
                     for k, x in enumerate(params)]  # fmt: skip
            optimizer.apply(grads, params)
            found.append([np.array(keras.ops.convert_to_numpy(x)) for x in params])
        return found


ADAPTER = Keras()
