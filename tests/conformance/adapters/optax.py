"""optax, its contrib too."""

import jax
import numpy as np

from ..cases import Case
from .base import Adapter, Unsupported, always, both, of

LR = {"learning_rate": "lr"}
DECAYED = {**LR, "weight_decay": "weight_decay"}
BETAS = {**LR, "b1": "beta1", "b2": "beta2", "eps": "eps"}
WEIGHED = {**BETAS, "weight_decay": "weight_decay"}
PAGE = "the docstring, its formula"
NESTEROV = {"average": "by beta1", "second moment": "corrected", "mu": "beta1"}

RULES = {
    "SGD": of("sgd", momentum=lambda n: n.momentum or None, nesterov="nesterov", **LR),
    "SignSGD": of("sign_sgd", **LR),
    "Lion": of("lion", b1="beta1", b2="beta2", **DECAYED),
    "Rprop": of(
        "rprop",
        eta_minus="shrink",
        eta_plus="grow",
        min_step_size="smallest",
        max_step_size="largest",
        **LR,
    ),
    "PolyakSGD": of(
        "polyak_sgd",
        {"scaling": "of the step"},
        PAGE,
        max_learning_rate="lr",
        scaling="scale",
        f_min="f_min",
    ),
    "MoMo": of("contrib.momo", beta="beta", lower_bound="lb", **DECAYED),
    "MoMoAdam": of("contrib.momo_adam", lower_bound="lb", **WEIGHED),
    "Fromage": of("fromage", **LR),
    "Adagrad": of("adagrad", initial_accumulator_value="initial", eps="eps", **LR),
    "RMSprop": of(
        "rmsprop",
        decay="alpha",
        eps="eps",
        centered="centered",
        momentum=lambda n: n.momentum or None,
        **LR,
    ),
    "Adadelta": of("adadelta", rho="rho", eps="eps", **DECAYED),
    "SM3": of("sm3", momentum="momentum", **LR),
    "MADGRAD": of("contrib.madgrad", momentum="momentum", eps="eps", **DECAYED),
    "COCOB": of("contrib.cocob", alpha="alpha", eps="eps"),
    "Adam": of("adam", **BETAS),
    "AdamW": of("adamw", **WEIGHED),
    "Adam: AMSGrad": of("amsgrad", fixed={"amsgrad": True}, **BETAS),
    "Adamax": of("adamax", **BETAS),
    "NAdam": of("nadam", NESTEROV, "the page of nadam", fixed={"momentum_decay": 0.0}, **BETAS),
    "NAdamW": of("nadamw", NESTEROV, "the page of nadam", fixed={"momentum_decay": 0.0}, **WEIGHED),
    "RAdam": of("radam", **BETAS),
    "AdaBelief": of("adabelief", eps_root="eps", **BETAS),
    "Yogi": of("yogi", fixed={"initial": 1e-6}, **BETAS),
    "Adan": of(
        "adan",
        b1="beta1",
        b2="beta2",
        b3="beta3",
        eps="eps",
        eps_root=always(0.0),
        **DECAYED,
    ),
    "AdEMAMix": of("contrib.ademamix", b3="beta3", alpha="alpha", **WEIGHED),
    "ADOPT": of("contrib.adopt", use_clipping="clipped", **BETAS),
    "LARS": of(
        "lars",
        fixed={"eps": 0.0},
        trust_coefficient="trust",
        momentum="momentum",
        nesterov="nesterov",
        **DECAYED,
    ),
    "LAMB": of("lamb", **WEIGHED),
    "NovoGrad": of("novograd", **WEIGHED),
    "Adafactor": of(
        "adafactor",
        fixed={"eps2": 0.001},
        min_dim_size_to_factor=always(1),
        decay_rate="power",
        clipping_threshold="clip",
        eps="eps",
        weight_decay_rate=lambda n: n.weight_decay or None,
        **LR,
    ),
    "ScheduleFreeSGD": of(
        "contrib.schedule_free_sgd",
        fixed={"power": 0.0},
        b1="beta1",
        warmup_steps=lambda n: n.warmup or None,
        without=("moving rate",),
        **DECAYED,
    ),
    "ScheduleFreeAdamW": of(
        "contrib.schedule_free_adamw",
        fixed={"power": 0.0},
        warmup_steps=lambda n: n.warmup or None,
        without=("moving rate",),
        **WEIGHED,
    ),
    "DAdaptAdam": of("contrib.dadapt_adamw", betas=both, eps="eps", estim_lr0="d0", **DECAYED),
    "Prodigy": of("contrib.prodigy", betas=both, eps="eps", estim_lr0="d0", **DECAYED),
    "DoG": of("contrib.dog", init_step=lambda n: ("heuristic", n.first), eps="eps", **DECAYED),
    "LDoG": of(
        "contrib.dog(layer_wise=True)",
        init_step=lambda n: ("heuristic", n.first),
        eps="eps",
        layer_wise=always(True),
        **DECAYED,
    ),
    "DoWG": of(
        "contrib.dowg", init_estim_sq_dist=lambda n: n.first**2, weight_decay="weight_decay"
    ),
    "Muon": of(
        "contrib.muon",
        beta="beta",
        nesterov="nesterov",
        ns_steps="steps",
        eps="small",
        consistent_rms=lambda n: 0.2 if n.scale != "original" else None,
        **DECAYED,
    ),
}


INIT = {"init_value": "init"}
DECAY = {**INIT, "transition_steps": "steps"}
WARM = {"init_value": always(0.0), "peak_value": "peak", "warmup_steps": "warmup"}
ONE = {
    "transition_steps": "total",
    "peak_value": "peak",
    "pct_start": "share",
    "div_factor": "div",
    "final_div_factor": "final",
}

SCHEDULES = {
    "constant": of("constant_schedule", value="peak"),
    "linear": of("linear_schedule", end_value="end", **DECAY),
    "polynomial": of("polynomial_schedule", end_value="end", power="power", **DECAY),
    "cosine": of(
        "cosine_decay_schedule", decay_steps="steps", alpha=lambda n: n.end / n.init, **INIT
    ),
    "cosine to a power": of(
        "cosine_decay_schedule",
        decay_steps="steps",
        exponent="power",
        alpha=lambda n: n.end / n.init,
        **INIT,
    ),
    "exponential": of("exponential_decay", decay_rate="rate", **DECAY),
    "exponential staircase": of(
        "exponential_decay", decay_rate="rate", staircase=always(True), **DECAY
    ),
    "multistep": of(
        "piecewise_constant_schedule",
        boundaries_and_scales=lambda n: dict.fromkeys(n.milestones, n.factor),
        **INIT,
    ),
    "piecewise linear": of(
        "piecewise_interpolate_schedule",
        interpolate_type=always("linear"),
        init_value=lambda n: n.points[0][1],
        boundaries_and_scales=lambda n: {
            b: v / u for (_, u), (b, v) in zip(n.points, n.points[1:], strict=False)
        },
    ),
    "one cycle": of("cosine_onecycle_schedule", **ONE),
    "one cycle, three phases": of(
        "linear_onecycle_schedule", pct_final=lambda n: 2 * n.share, **ONE
    ),
    "warm-up, constant": of("warmup_constant_schedule", **WARM),
    "warm-up, cosine": of(
        "warmup_cosine_decay_schedule", decay_steps="total", end_value="end", **(WARM | INIT)
    ),
    "warm-up, cosine to 0": of("warmup_cosine_decay_schedule", decay_steps="total", **WARM),
    "warm-up, exponential": of(
        "warmup_exponential_decay_schedule", transition_steps="steps", decay_rate="rate", **WARM
    ),
}


class Optax(Adapter):
    distribution = module = "optax"
    rules = RULES
    schedules = SCHEDULES

    def values(self, binding, arguments, numbers, steps):
        jax.config.update("jax_enable_x64", True)
        made = self.find(binding.name)(**arguments)
        return [float(made(s)) for s in range(steps)]

    def trajectory(self, binding, case: Case):
        import optax

        jax.config.update("jax_enable_x64", True)
        numbers = self.numbers(binding, case)
        arguments = binding.given(numbers)
        self.checked(binding, numbers)
        params = [jax.numpy.array(x) for x in case.x0()]
        if case.kind == "moving rate":
            if "learning_rate" not in arguments:
                raise Unsupported("no schedule")
            rates = jax.numpy.array([arguments["learning_rate"] * case.rate(t) for t in range(64)])
            arguments["learning_rate"] = lambda count: rates[count]
        method = optax.with_extra_args_support(self.find(binding.name)(**arguments))
        state = method.init(params)
        found = []
        for t in range(case.steps):
            grads = [
                jax.numpy.array(case.gradient(t, k, np.array(x))) for k, x in enumerate(params)
            ]
            updates, state = method.update(grads, state, params, value=case.loss(t))
            params = optax.apply_updates(params, updates)
            found.append([np.array(x, np.float64) for x in params])
        return found


ADAPTER = Optax()
