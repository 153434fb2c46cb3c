"""stepsize."""

import numpy as np

import stepsize as ss

from .base import ADAM, DECAYED, Adapter, always, both
from .base import of as binding

PAGE = "docstring of the class, its equations"


def of(name, documented=None, **arguments):
    return binding(name, documented, PAGE if documented else "", **arguments)


def adams(name, documented=None, **arguments):
    return of(name, documented, **ADAM, **arguments)


OUTSIDE = {"place of eps": "outside the root"}
DOZAT = {"average": "by beta1", "second moment": "corrected"}
FREE = {"weight_decay": "weight_decay", "warmup_steps": lambda n: float(n.warmup), "r": "power"}

RULES = {
    "SGD": of("SGD", momentum="momentum", dampening="dampening", nesterov="nesterov", **DECAYED),
    "SignSGD": of("SignSGD", {"decay": "decoupled"}, **DECAYED),
    "Signum": of("Signum", momentum="momentum", **DECAYED),
    "Lion": of("Lion", betas=both, **DECAYED),
    "Rprop": of(
        "Rprop",
        lr="lr",
        etas=lambda n: (n.shrink, n.grow),
        step_sizes=lambda n: (n.smallest, n.largest),
    ),
    "PolyakSGD": of(
        "PolyakSGD", {"scaling": "of the step"}, lr="lr", scaling="scale", f_min="f_min"
    ),
    "MoMo": of("MoMo", beta="beta", lb="lb", **DECAYED),
    "MoMoAdam": adams("MoMoAdam", lb="lb"),
    "LBFGS": of(
        "LBFGS",
        {"first step": "rate times min(1, 1 / |g|_1)"},
        lr="lr",
        history_size="history",
        max_iter=always(1),
        tolerance_grad=always(0.0),
        tolerance_change=always(0.0),
    ),
    "Adagrad": of(
        "Adagrad", lr_decay="lr_decay", initial_accumulator_value="initial", eps="eps", **DECAYED
    ),
    "RMSprop": of(
        "RMSprop",
        OUTSIDE,
        alpha="alpha",
        eps="eps",
        momentum="momentum",
        centered="centered",
        **DECAYED,
    ),
    "Adadelta": of("Adadelta", rho="rho", eps="eps", **DECAYED),
    "FTRL": of(
        "FTRL",
        {"penalty": "l2"},
        lr="lr",
        beta="beta",
        l1="l1",
        l2="l2",
        initial_accumulator_value="initial",
    ),
    "SM3": of("SM3", momentum="momentum", eps="eps", **DECAYED),
    "MADGRAD": of("MADGRAD", {"rate": "with eps"}, momentum="momentum", eps="eps", **DECAYED),
    "COCOB": of("COCOB", {"first scale": "eps"}, alpha="alpha", eps="eps"),
    "Adam": adams("Adam", amsgrad="amsgrad"),
    "AdamW": adams("AdamW", amsgrad="amsgrad"),
    "Adamax": adams("Adamax", {"place of eps": "in the maximum"}),
    "NAdam": adams("NAdam", DOZAT, momentum_decay="momentum_decay"),
    "NAdamW": adams("NAdamW", DOZAT, momentum_decay="momentum_decay"),
    "RAdam": adams("RAdam", {"threshold": "5", "place of eps": "before the correction"}),
    "AdaBelief": adams("AdaBelief", {"decay": "decoupled"}),
    "Yogi": adams(
        "Yogi", {"bias": "corrected", "start": "of both moments"}, initial_accumulator="initial"
    ),
    "Adan": of(
        "Adan",
        {"bias": "corrected"},
        betas=lambda n: (n.beta1, n.beta2, n.beta3),
        eps="eps",
        **DECAYED,
    ),
    "AdEMAMix": of(
        "AdEMAMix",
        betas=lambda n: (n.beta1, n.beta2, n.beta3),
        alpha="alpha",
        eps="eps",
        alpha_warmup=lambda n: float(n.warmup),
        beta3_warmup=lambda n: float(n.warmup),
        **DECAYED,
    ),
    "ADOPT": adams("ADOPT", use_clipping="clipped", decouple=always(True)),
    "LaProp": adams("LaProp", {"decay": "decoupled"}),
    "LARS": of(
        "LARS",
        {"rate": "outside the momentum", "place of eps": "in the sum of norms"},
        trust_coefficient="trust",
        momentum="momentum",
        nesterov="nesterov",
        eps="eps",
        **DECAYED,
    ),
    "LAMB": adams("LAMB"),
    "NovoGrad": adams("NovoGrad", {"first step": "eps"}),
    "Adafactor": of(
        "Adafactor",
        {"eps1": "a bound of the mean"},
        beta2_decay=lambda n: -n.power,
        eps=lambda n: (n.eps, n.eps2),
        d="clip",
        **DECAYED,
    ),
    "ASGD": of("ASGD", lambd="lambd", alpha="alpha", **DECAYED),
    "ScheduleFreeSGD": of("ScheduleFreeSGD", lr="lr", momentum="beta1", **FREE),
    "ScheduleFreeAdamW": of(
        "ScheduleFreeAdamW",
        {"bias": "in the second moment"},
        lr="lr",
        betas=both,
        eps="eps",
        **FREE,
    ),
    "ScheduleFreeRAdam": adams("ScheduleFreeRAdam", r="power", silent_sgd_phase="silent"),
    "ScheduleFreePlus": adams(
        "ScheduleFreePlus",
        sf_beta1="mu",
        r="power",
        polyak_beta="beta_norm",
        c_warmup=lambda n: float(n.late),
        sf_beta1_anneal_steps=lambda n: float(n.annealed),
        sf_beta1_max="mu_end",
    ),
    "DAdaptSGD": of("DAdaptSGD", momentum="momentum", d0="d0", **DECAYED),
    "DAdaptAdam": adams(
        "DAdaptAdam", {"scale of r": "of the step before"}, d0="d0", decouple=always(True)
    ),
    "Prodigy": adams("Prodigy", d0="d0"),
    "DoG": of("DoG", reps_rel="first", eps="eps", **DECAYED),
    "LDoG": of("LDoG", reps_rel="first", eps="eps", **DECAYED),
    "DoWG": of(
        "DoWG",
        {"place of eps": "outside the root, as the first squared distance"},
        eps=lambda n: n.first**2,
        weight_decay="weight_decay",
    ),
    "Muon": of(
        "Muon",
        {"momentum": "average", "eps": "a bound of the norm"},
        momentum="beta",
        nesterov="nesterov",
        ns_steps="steps",
        eps="small",
        adjust_lr_fn="scale",
        **DECAYED,
    ),
    "Shampoo": of("Shampoo", eps="eps", **DECAYED),
    "SOAP": adams(
        "SOAP",
        {
            "bias": "corrected",
            "place of eps": "before the correction",
            "order": "from the largest eigenvalue",
        },
        precondition_frequency="every",
    ),
}


ENDS = {"init": "init", "end": "end", "steps": "steps"}
WARM = {"peak": "peak", "warmup_steps": "warmup"}
TOTAL = {**WARM, "total_steps": "total"}
WSD = {**WARM, "stable_steps": "stable", "decay_steps": "decay"}
CYCLE = {"low": "low", "high": "high", "up": "up", "down": "down"}
ONE = {"peak": "peak", "total_steps": "total", "pct_start": "share", "div": "div",
       "final_div": "final"}  # fmt: skip
POINTS = {"points": "up to share * total - 1"}
DOC = "the docstring of the function"


def planned(name, documented=None, **arguments):
    return binding(name, documented, DOC if documented else "", **arguments)


SCHEDULES = {
    "constant": planned("constant", value="peak"),
    "linear": planned("linear", **ENDS),
    "polynomial": planned("polynomial", power="power", **ENDS),
    "polynomial, cycled": planned("polynomial", power="power", cycle=always(True), **ENDS),
    "cosine": planned("cosine", **ENDS),
    "cosine to a power": planned("cosine", power="power", **ENDS),
    "cosine restarts": planned("cosine_restarts", init="init", period="period", end="end",
                               multiplier="multiplier", decay="decay"),
    "exponential": planned("exponential", init="init", rate="rate", steps="steps"),
    "exponential staircase": planned("exponential", init="init", rate="rate", steps="steps",
                                     staircase=always(True)),
    "step decay": planned("step_decay", init="init", every="every", factor="factor"),
    "multistep": planned("multistep", init="init", milestones="milestones", factor="factor"),
    "piecewise constant": planned("piecewise_constant", boundaries="boundaries", values="levels"),
    "piecewise linear": planned("piecewise_linear", points="points"),
    "inverse time": planned("inverse_time", init="init", rate="rate", steps="steps"),
    "inverse time staircase": planned("inverse_time", init="init", rate="rate", steps="steps",
                                      staircase=always(True)),
    "inverse sqrt": planned("inverse_sqrt", **WARM),
    "Noam": planned("noam", dim="dim", warmup_steps="warmup"),
    "triangular": planned("cyclic", **CYCLE),
    "triangular2": planned("cyclic", mode=always("triangular2"), **CYCLE),
    "exp_range": planned("cyclic", mode=always("exp_range"), gamma="gamma", **CYCLE),
    "triangular momentum": planned("cyclic_momentum()[1]", base_momentum="low", low=always(0.1),
                                   max_momentum="high", high=always(1.0), up="up", down="down"),
    "one cycle": planned("one_cycle", POINTS, **ONE),
    "one cycle, linear": planned("one_cycle", POINTS, shape=always("linear"), **ONE),
    "one cycle, three phases": planned("one_cycle", POINTS, shape=always("linear"),
                                       three_phase=always(True), **ONE),
    "one cycle momentum": planned("one_cycle_momentum()[1]", POINTS, peak="peak", pct_start="share",
                                  total_steps="total", base_momentum="low", max_momentum="high"),
    "warm-up, linear": planned("warmup_linear", **TOTAL),
    "warm-up, cosine": planned("warmup_cosine", init="init", end="end", **TOTAL),
    "warm-up, cosine to 0": planned("warmup_cosine", **TOTAL),
    "WSD": planned("wsd", **WSD),
    "WSD, 1-sqrt": planned("wsd", shape=always("sqrt"), **WSD),
    "WSD, cosine": planned("wsd", shape=always("cosine"), **WSD),
    "flat cosine": planned("flat_cosine", peak="peak", total_steps="total", flat="share"),
    "REX": planned("rex", peak="peak", steps="steps"),
    "tanh": planned("tanh", lower="lower", upper="upper", **ENDS),
}  # fmt: skip


class Stepsize(Adapter):
    distribution = module = "stepsize"
    rules = RULES
    schedules = SCHEDULES

    def version(self):
        return ss.__version__

    def trajectory(self, binding, case):
        numbers = self.numbers(binding, case)
        params = [np.array(x) for x in case.x0()]
        arguments = binding.given(numbers)
        self.checked(binding, numbers)
        optimizer = self.find(binding.name)(params, **arguments)
        rate = optimizer.lr
        found = []
        for t in range(case.steps):
            if case.kind == "moving rate":
                optimizer.lr = rate * case.rate(t)
            self.step(optimizer, params, case, t)
            found.append([x.copy() for x in params])
        return found

    def values(self, binding, arguments, numbers, steps):
        name, *item = binding.name.split("()")
        made = getattr(ss.schedules, name)(**arguments)
        made = made[int(item[0][1])] if item else made
        return [made(s) for s in range(steps)]

    def step(self, optimizer, params, case, t):
        def gradients():
            return [case.gradient(t, k, x) for k, x in enumerate(params)]

        if case.rule == "LBFGS":
            optimizer.step(
                lambda p: (case.loss(t), [case.gradient(t, k, x) for k, x in enumerate(p)])
            )
        elif case.rule in ("PolyakSGD", "MoMo", "MoMoAdam", "ScheduleFreePlus"):
            optimizer.step(gradients(), loss=case.loss(t))
        else:
            optimizer.step(gradients())


ADAPTER = Stepsize()
