"""torch_optimizer (jettify)."""

from .base import ADAM, DECAYED, TorchLike, always, of

RULES = {
    "SGD": of("SGDW(weight_decay=0)", fixed={"weight_decay": 0.0}, lr="lr", momentum="momentum",
              dampening="dampening", nesterov="nesterov"),
    "QHM": of("QHM", momentum="momentum", nu="nu", **DECAYED),
    "AggMo": of("AggMo", betas="betas", **DECAYED),
    "QHAdam": of("QHAdam", nus=lambda n: (n.nu1, n.nu2), **ADAM),
    "AdaBound": of("AdaBound", final_lr="final", gamma="gamma", **ADAM),
    "AdaMod": of("AdaMod", beta3="beta3", **ADAM),
    "DiffGrad": of("DiffGrad", **ADAM),
    "AdaBelief": of("AdaBelief", **ADAM),
    "Yogi": of("Yogi", initial_accumulator="initial", **ADAM),
    "RAdam": of("RAdam", **ADAM),
    "LAMB": of("Lamb", clamp_value=always(1e9), debias=always(True), **ADAM),
    "LARS": of("LARS", momentum="momentum", nesterov="nesterov", trust_coefficient="trust",
               eps="eps", **DECAYED),
    "NovoGrad": of("NovoGrad", **ADAM),
    "Adafactor": of("Adafactor", eps2=lambda n: (n.eps, n.eps2), clip_threshold="clip",
                    decay_rate=lambda n: -n.power, relative_step=always(False), **DECAYED),
    "Shampoo": of("Shampoo", epsilon="eps", **DECAYED),
}  # fmt: skip


class TorchOptimizer(TorchLike):
    distribution = "torch-optimizer"
    module = "torch_optimizer"
    rules = RULES


ADAPTER = TorchOptimizer()
