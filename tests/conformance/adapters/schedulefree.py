"""schedulefree, the authors' package of schedule-free learning."""

from .base import ADAM, DECAYED, TorchLike, of

FREE = {"r": "power", "warmup_steps": "warmup"}
ADAMW = {"bias": "in the second moment"}

RULES = {
    "ScheduleFreeSGD": of("SGDScheduleFree", momentum="beta1", **FREE, **DECAYED),
    "ScheduleFreeAdamW": of("AdamWScheduleFree", **FREE, **ADAM),
    "ScheduleFreeAdamW: Paper": of("AdamWScheduleFreePaper", **FREE, **ADAM),
    "ScheduleFreeRAdam": of("RAdamScheduleFree", r="power", silent_sgd_phase="silent",
                            fixed={"warmup": 0}, **ADAM),
}  # fmt: skip


class ScheduleFree(TorchLike):
    distribution = module = "schedulefree"
    rules = RULES

    def made(self, binding, params, arguments):
        optimizer = super().made(binding, params, arguments)
        optimizer.train()
        return optimizer


ADAPTER = ScheduleFree()
