"""bitsandbytes: its optimizers with states of 32 bits, where they run on the CPU."""

from .base import ADAM, DECAYED, TorchLike, both, of

RULES = {
    "SGD": of("SGD32bit", dtype="float32", momentum="momentum", nesterov="nesterov", **DECAYED),
    "Adagrad": of("Adagrad32bit", dtype="float32", eps="eps", **DECAYED),
    "RMSprop": of("RMSprop32bit", dtype="float32", alpha="alpha", eps="eps", **DECAYED),
    "Adam": of("Adam32bit", dtype="float32", **ADAM),
    "AdamW": of("AdamW32bit", dtype="float32", **ADAM),
    "Lion": of("Lion32bit", dtype="float32", betas=both, **DECAYED),
    "AdEMAMix": of("AdEMAMix32bit", dtype="float32", eps="eps", alpha="alpha",
                   betas=lambda n: (n.beta1, n.beta2, n.beta3), t_alpha=lambda n: n.warmup or None,
                   t_beta3=lambda n: n.warmup or None, **DECAYED),
}  # fmt: skip


class BitsAndBytes(TorchLike):
    distribution = "bitsandbytes"
    module = "bitsandbytes.optim"
    rules = RULES


ADAPTER = BitsAndBytes()
