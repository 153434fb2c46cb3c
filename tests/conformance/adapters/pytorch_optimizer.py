"""pytorch_optimizer (kozistr)."""

from .base import ADAM, DECAYED, TorchLike, always, both, of

AWAY = {"weight_decouple": always(True)}
PAGE = "the docstring of the class"

RULES = {
    "SGD": of("SGDW", momentum="momentum", dampening="dampening", nesterov="nesterov",
              weight_decouple=always(False), **DECAYED),
    "QHM": of("QHM", momentum="momentum", nu="nu", **DECAYED),
    "AggMo": of("AggMo", betas="betas", **DECAYED),
    "Signum": of("SignSGD", momentum="momentum", **AWAY, **DECAYED),
    "Lion": of("Lion", betas=both, **DECAYED),
    "Tiger": of("Tiger", beta="beta", **DECAYED),
    "Fromage": of("Fromage", lr="lr"),
    "Adadelta": of("AdaDelta", rho="rho", eps="eps", **DECAYED),
    "FTRL": of("FTRL", fixed={"initial": 0.0}, lr="lr", beta="beta", lambda_1="l1", lambda_2="l2"),
    "SM3": of("SM3", lr="lr", momentum="momentum", eps=always(0.0)),
    "MADGRAD": of("MADGRAD", momentum="momentum", eps="eps", **DECAYED),
    "Adamax": of("AdaMax", **ADAM),
    "RAdam": of("RAdam", n_sma_threshold=always(4), weight_decouple=always(False), **ADAM),
    "AdaBelief": of("AdaBelief", weight_decouple=always(False), **ADAM),
    "Yogi": of("Yogi", initial_accumulator="initial", weight_decouple=always(False), **ADAM),
    "Adan": of("Adan", betas=lambda n: (n.beta1, n.beta2, n.beta3), eps="eps", **DECAYED),
    "AdEMAMix": of("AdEMAMix", betas=lambda n: (n.beta1, n.beta2, n.beta3), alpha="alpha",
                   t_alpha_beta3=lambda n: n.warmup or None, eps="eps", **AWAY, **DECAYED),
    "ADOPT": of("ADOPT", fixed={"clipped": True}, **AWAY, **ADAM),
    "LaProp": of("LaProp", weight_decouple=always(False), **ADAM),
    "LAMB": of("Lamb", weight_decouple=always(False), max_grad_norm=always(0.0), **ADAM),
    "LARS": of("LARS", momentum="momentum", nesterov="nesterov", trust_coefficient="trust",
               fixed={"eps": 0.0}, **DECAYED),
    "NovoGrad": of("NovoGrad", **ADAM),
    "Adafactor": of("AdaFactor", betas=always((None, 0.999)), decay_rate=lambda n: -n.power,
                    eps1="eps", eps2="eps2", clip_threshold="clip", relative_step=always(False),
                    **DECAYED),
    "QHAdam": of("QHAdam", nus=lambda n: (n.nu1, n.nu2), **ADAM),
    "AdaBound": of("AdaBound", final_lr="final", gamma="gamma", weight_decouple=always(False),
                   **ADAM),
    "AdaMod": of("AdaMod", betas=lambda n: (n.beta1, n.beta2, n.beta3), eps="eps",
                 weight_decouple=always(False), **DECAYED),
    "DiffGrad": of("DiffGrad", weight_decouple=always(False), **ADAM),
    "Padam": of("PAdam", partial="partial", **ADAM),
    "ScheduleFreeSGD": of("ScheduleFreeSGD", momentum="beta1", warmup_steps="warmup", r="power",
                          **DECAYED),
    "ScheduleFreeAdamW": of("ScheduleFreeAdamW", warmup_steps="warmup", r="power", **ADAM),
    "ScheduleFreeRAdam": of("ScheduleFreeRAdam", silent_sgd_phase="silent", r="power",
                            fixed={"warmup": 0}, **ADAM),
    "DAdaptSGD": of("DAdaptSGD", momentum="momentum", d0="d0", **DECAYED),
    "DAdaptAdam": of("DAdaptAdam", d0="d0", **AWAY, **ADAM),
    "Prodigy": of("Prodigy", d0="d0", **ADAM),
    "Shampoo": of("Shampoo", matrix_eps="eps", **DECAYED),
    "SOAP": of("SOAP", precondition_frequency="every", **ADAM),
    "Muon": of("Muon", dtype="bfloat16", momentum="beta", nesterov="nesterov", ns_steps="steps",
               fixed={"small": 2.0**-23, "scale": "original"}, **DECAYED),
}  # fmt: skip


class PytorchOptimizer(TorchLike):
    distribution = module = "pytorch_optimizer"
    rules = RULES

    def made(self, binding, params, arguments):
        if binding.name == "Muon":
            params = [{"params": params, "use_muon": True}]
        optimizer = super().made(binding, params, arguments)
        if hasattr(optimizer, "train"):
            optimizer.train()
        return optimizer


ADAPTER = PytorchOptimizer()
