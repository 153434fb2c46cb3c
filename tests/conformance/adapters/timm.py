"""timm.optim and timm.scheduler."""

import importlib

from .base import ADAM, DECAYED, TorchLike, always, both, of

RULES = {
    "SGD": of(
        "SGDW(weight_decay=0)",
        fixed={"weight_decay": 0.0},
        lr="lr",
        momentum="momentum",
        dampening="dampening",
        nesterov="nesterov",
    ),
    "RMSprop": of(
        "RMSpropTF", alpha="alpha", eps="eps", momentum="momentum", centered="centered", **DECAYED
    ),
    "AdamW": of("AdamWLegacy", amsgrad="amsgrad", **ADAM),
    "NAdam": of("NAdamLegacy", schedule_decay="momentum_decay", **ADAM),
    "NAdamW": of("NAdamW", fixed={"momentum_decay": 0.0}, **ADAM),
    "RAdam": of("RAdamLegacy", **ADAM),
    "AdaBelief": of(
        "AdaBelief",
        {"decay": "decoupled"},
        "the docstring of the class",
        rectify=always(False),
        **ADAM,
    ),
    "Adan": of("Adan", betas=lambda n: (n.beta1, n.beta2, n.beta3), eps="eps", **DECAYED),
    "ADOPT": of(
        "Adopt", clip_exp=lambda n: 0.25 if n.clipped else None, decoupled=always(True), **ADAM
    ),
    "LaProp": of("LaProp", **ADAM),
    "LAMB": of("Lamb", max_grad_norm=always(None), always_adapt=always(True), **ADAM),
    "LARS": of(
        "Lars",
        momentum="momentum",
        nesterov="nesterov",
        trust_coeff="trust",
        eps="eps",
        always_adapt=always(True),
        **DECAYED,
    ),
    "Lion": of("Lion", betas=both, **DECAYED),
    "MADGRAD": of("MADGRAD", momentum="momentum", eps="eps", **DECAYED),
    "NovoGrad": of("NvNovoGrad", **ADAM),
    "Muon": of(
        "Muon",
        dtype="bfloat16",
        momentum="beta",
        nesterov="nesterov",
        ns_steps="steps",
        eps="small",
        adjust_lr_fn=lambda n: {"original": "original"}.get(n.scale, n.scale),
        **DECAYED,
    ),
    "Adafactor": of(
        "AdafactorBigVision",
        fixed={"eps2": 0.001},
        decay_rate="power",
        eps="eps",
        clipping_threshold="clip",
        min_dim_size_to_factor=always(1),
        momentum=always(None),
        **DECAYED,
    ),
}


WARM = {"warmup_t": "warmup", "warmup_prefix": always(True)}

SCHEDULES = {
    "polynomial": of("PolyLRScheduler", t_initial="steps", lr_min="end", power="power", lr="init"),
    "cosine": of("CosineLRScheduler", t_initial="steps", lr_min="end", lr="init"),
    "cosine, k-decay": of(
        "CosineLRScheduler", t_initial="steps", lr_min="end", k_decay="k", lr="init"
    ),
    "cosine restarts": of(
        "CosineLRScheduler",
        t_initial="period",
        lr_min="end",
        cycle_mul="multiplier",
        cycle_decay="decay",
        cycle_limit=always(99),
        lr="init",
    ),
    "step decay": of("StepLRScheduler", decay_t="every", decay_rate="factor", lr="init"),
    "multistep": of(
        "MultiStepLRScheduler", decay_t=lambda n: list(n.milestones), decay_rate="factor", lr="init"
    ),
    "tanh": of(
        "TanhLRScheduler", t_initial="steps", lb="lower", ub="upper", lr_min="end", lr="init"
    ),
    "warm-up, cosine to 0": of(
        "CosineLRScheduler", t_initial=lambda n: n.total - n.warmup, lr="peak", **WARM
    ),
    "WSD": of(
        "WSDLRScheduler",
        lr="peak",
        warmup_t="warmup",
        decay_t="decay",
        decay_fn=always("linear"),
        t_initial=lambda n: n.stable + n.decay,
    ),
    "WSD, 1-sqrt": of(
        "WSDLRScheduler",
        lr="peak",
        warmup_t="warmup",
        decay_t="decay",
        t_initial=lambda n: n.stable + n.decay,
    ),
}


class Timm(TorchLike):
    distribution = "timm"
    module = "timm.optim"
    rules = RULES
    schedules = SCHEDULES

    def find(self, name):
        module = "timm.scheduler" if "Scheduler" in name else "timm.optim"
        if name == "WSDLRScheduler":
            module = "timm.scheduler.wsd_lr"
        return getattr(importlib.import_module(module), name.split("(")[0])

    def scheduler(self, binding, optimizer, arguments):
        made = super().scheduler(binding, optimizer, arguments)
        made.step(0)
        return made

    def advance(self, scheduler, t):
        scheduler.step(t + 1)


ADAPTER = Timm()
