"""timm.optim and timm.scheduler."""

from .base import ADAM, DECAYED, TorchLike, always, both, of

RULES = {
    "SGD": of("SGDW(weight_decay=0)", fixed={"weight_decay": 0.0}, lr="lr", momentum="momentum",
              dampening="dampening", nesterov="nesterov"),
    "RMSprop": of("RMSpropTF", alpha="alpha", eps="eps", momentum="momentum", centered="centered",
                  **DECAYED),
    "AdamW": of("AdamWLegacy", amsgrad="amsgrad", **ADAM),
    "NAdam": of("NAdamLegacy", schedule_decay="momentum_decay", **ADAM),
    "NAdamW": of("NAdamW", fixed={"momentum_decay": 0.0}, **ADAM),
    "RAdam": of("RAdamLegacy", **ADAM),
    "AdaBelief": of("AdaBelief", {"decay": "decoupled"}, "the docstring of the class",
                    rectify=always(False), **ADAM),
    "Adan": of("Adan", betas=lambda n: (n.beta1, n.beta2, n.beta3), eps="eps", **DECAYED),
    "ADOPT": of("Adopt", clip_exp=lambda n: 0.25 if n.clipped else None, decoupled=always(True),
                **ADAM),
    "LaProp": of("LaProp", **ADAM),
    "LAMB": of("Lamb", max_grad_norm=always(None), always_adapt=always(True), **ADAM),
    "LARS": of("Lars", momentum="momentum", nesterov="nesterov", trust_coeff="trust", eps="eps",
               always_adapt=always(True), **DECAYED),
    "Lion": of("Lion", betas=both, **DECAYED),
    "MADGRAD": of("MADGRAD", momentum="momentum", eps="eps", **DECAYED),
    "NovoGrad": of("NvNovoGrad", **ADAM),
    "Muon": of("Muon", dtype="bfloat16", momentum="beta", nesterov="nesterov", ns_steps="steps",
               eps="small",
               adjust_lr_fn=lambda n: {"original": "original"}.get(n.scale, n.scale), **DECAYED),
    "Adafactor": of("AdafactorBigVision", fixed={"eps2": 0.001}, decay_rate="power", eps="eps",
                    clipping_threshold="clip", min_dim_size_to_factor=always(1),
                    momentum=always(None), **DECAYED),
}  # fmt: skip


class Timm(TorchLike):
    distribution = "timm"
    module = "timm.optim"
    rules = RULES

    def find(self, name):
        return getattr(__import__("timm.optim", fromlist=["optim"]), name.split("(")[0])


ADAPTER = Timm()
