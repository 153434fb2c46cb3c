"""The schedules of transformers; its Adafactor."""

from .base import DECAYED, TorchLike, always, of

WARM = {"lr": "peak", "num_warmup_steps": "warmup"}
TOTAL = {**WARM, "num_training_steps": "total"}
WSD = {**WARM, "num_stable_steps": "stable", "num_decay_steps": "decay"}

RULES = {
    "Adafactor": of("optimization.Adafactor", eps=lambda n: (n.eps, n.eps2), clip_threshold="clip",
                    decay_rate=lambda n: -n.power, relative_step=always(False), **DECAYED),
}  # fmt: skip

SCHEDULES = {
    "constant": of("get_constant_schedule", lr="peak"),
    "warm-up, constant": of("get_constant_schedule_with_warmup", **WARM),
    "warm-up, linear": of("get_linear_schedule_with_warmup", **TOTAL),
    "warm-up, cosine to 0": of("get_cosine_schedule_with_warmup", **TOTAL),
    "cosine hard restarts": of("get_cosine_with_hard_restarts_schedule_with_warmup",
                               num_cycles="cycles", **TOTAL),
    "warm-up, polynomial": of("get_polynomial_decay_schedule_with_warmup", lr_end="end",
                              power="power", **TOTAL),
    "inverse sqrt": of("get_inverse_sqrt_schedule", **WARM),
    "WSD": of("optimization.get_wsd_schedule", decay_type=always("linear"), **WSD),
    "WSD, 1-sqrt": of("optimization.get_wsd_schedule", decay_type=always("1-sqrt"), **WSD),
    "WSD, cosine": of("optimization.get_wsd_schedule", decay_type=always("cosine"), **WSD),
    "warm-up, cosine": of("optimization.get_cosine_with_min_lr_schedule_with_warmup",
                          fixed={"init": 0.0}, min_lr="end", **TOTAL),
}  # fmt: skip


class Transformers(TorchLike):
    distribution = module = "transformers"
    rules = RULES
    schedules = SCHEDULES

    def made(self, binding, params, arguments):
        return super().made(binding, params, {**arguments, "scale_parameter": True})


ADAPTER = Transformers()
