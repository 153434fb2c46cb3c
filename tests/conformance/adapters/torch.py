"""torch.optim and torch.optim.lr_scheduler."""

from .base import ADAM, DECAYED, TorchLike, always, of

PAGE = "the page of the class, its algorithm"
NADAM = {"average": "by beta1", "second moment": "corrected"}

RULES = {
    "SGD": of("SGD", momentum="momentum", dampening="dampening", nesterov="nesterov", **DECAYED),
    "Adagrad": of(
        "Adagrad", lr_decay="lr_decay", initial_accumulator_value="initial", eps="eps", **DECAYED
    ),
    "RMSprop": of(
        "RMSprop",
        {"place of eps": "outside the root"},
        PAGE,
        alpha="alpha",
        eps="eps",
        momentum="momentum",
        centered="centered",
        **DECAYED,
    ),
    "Adadelta": of("Adadelta", rho="rho", eps="eps", **DECAYED),
    "Adam": of("Adam", amsgrad="amsgrad", **ADAM),
    "AdamW": of("AdamW", amsgrad="amsgrad", **ADAM),
    "Adamax": of("Adamax", {"place of eps": "in the maximum"}, PAGE, **ADAM),
    "NAdam": of("NAdam", NADAM, PAGE, momentum_decay="momentum_decay", **ADAM),
    "NAdamW": of(
        "NAdam(decoupled_weight_decay=True)",
        NADAM,
        PAGE,
        momentum_decay="momentum_decay",
        decoupled_weight_decay=always(True),
        **ADAM,
    ),
    "RAdam": of("RAdam", {"threshold": "5", "place of eps": "before the correction"}, PAGE, **ADAM),
    "ASGD": of("ASGD", lambd="lambd", alpha="alpha", **DECAYED),
    "Rprop": of(
        "Rprop",
        lr="lr",
        etas=lambda n: (n.shrink, n.grow),
        step_sizes=lambda n: (n.smallest, n.largest),
    ),
    "LBFGS": of(
        "LBFGS",
        {"first step": "rate times min(1, 1 / |g|_1)"},
        "the source of the class",
        lr="lr",
        history_size="history",
        max_iter=always(1),
        tolerance_grad=always(0.0),
        tolerance_change=always(0.0),
    ),
    "Adafactor": of(
        "Adafactor",
        {"eps1": "a bound of the mean"},
        PAGE,
        beta2_decay=lambda n: -n.power,
        eps=lambda n: (n.eps, n.eps2),
        d="clip",
        **DECAYED,
    ),
    "Muon": of(
        "Muon",
        {"momentum": "average"},
        PAGE,
        dtype="bfloat16",
        momentum="beta",
        nesterov="nesterov",
        ns_steps="steps",
        eps="small",
        adjust_lr_fn="scale",
        **DECAYED,
    ),
}


CYCLE = {"base_lr": "low", "max_lr": "high", "step_size_up": "up", "step_size_down": "down"}
ONE = {
    "max_lr": "peak",
    "total_steps": "total",
    "pct_start": "share",
    "div_factor": "div",
    "final_div_factor": "final",
}


POINTS = {"points": "up to share * total - 1"}
SOURCE = "the source of the class"


def rate(name, documented=None, where="", first="init", **arguments):
    """A scheduler; the rate it starts from is the optimizer's."""
    return of(f"lr_scheduler.{name}", documented, where, lr=first, **arguments)


SCHEDULES = {
    "constant": rate("ConstantLR", first="peak", factor=always(1.0)),
    "linear": rate(
        "LinearLR",
        start_factor=always(1.0),
        end_factor=lambda n: n.end / n.init,
        total_iters="steps",
    ),
    "polynomial": of(
        "lr_scheduler.PolynomialLR",
        fixed={"end": 0.0},
        lr="init",
        power="power",
        total_iters="steps",
    ),
    "cosine": rate("CosineAnnealingLR", T_max="steps", eta_min="end"),
    "cosine restarts": of(
        "lr_scheduler.CosineAnnealingWarmRestarts",
        fixed={"decay": 1.0},
        lr="init",
        T_0="period",
        T_mult="multiplier",
        eta_min="end",
    ),
    "exponential": rate("ExponentialLR", gamma=lambda n: n.rate ** (1 / n.steps)),
    "step decay": rate("StepLR", step_size="every", gamma="factor"),
    "multistep": rate("MultiStepLR", milestones="milestones", gamma="factor"),
    "triangular": rate("CyclicLR", first="low", cycle_momentum=always(False), **CYCLE),
    "triangular2": rate(
        "CyclicLR", first="low", mode=always("triangular2"), cycle_momentum=always(False), **CYCLE
    ),
    "exp_range": rate(
        "CyclicLR",
        first="low",
        mode=always("exp_range"),
        gamma="gamma",
        cycle_momentum=always(False),
        **CYCLE,
    ),
    "triangular momentum": of(
        "lr_scheduler.CyclicLR",
        base_momentum="low",
        max_momentum="high",
        base_lr=always(0.1),
        max_lr=always(1.0),
        step_size_up="up",
        step_size_down="down",
    ),
    "one cycle": of("lr_scheduler.OneCycleLR", POINTS, SOURCE, cycle_momentum=always(False), **ONE),
    "one cycle, linear": of(
        "lr_scheduler.OneCycleLR",
        POINTS,
        SOURCE,
        anneal_strategy=always("linear"),
        cycle_momentum=always(False),
        **ONE,
    ),
    "one cycle, three phases": of(
        "lr_scheduler.OneCycleLR",
        POINTS,
        SOURCE,
        anneal_strategy=always("linear"),
        three_phase=always(True),
        cycle_momentum=always(False),
        **ONE,
    ),
    "one cycle momentum": of(
        "lr_scheduler.OneCycleLR",
        POINTS,
        SOURCE,
        max_lr="peak",
        base_momentum="low",
        max_momentum="high",
        total_steps="total",
        pct_start="share",
    ),
}


class Torch(TorchLike):
    distribution = "torch"
    module = "torch.optim"
    rules = RULES
    schedules = SCHEDULES


ADAPTER = Torch()
