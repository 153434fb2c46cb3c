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


class Torch(TorchLike):
    distribution = "torch"
    module = "torch.optim"
    rules = RULES


ADAPTER = Torch()
