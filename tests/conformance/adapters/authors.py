"""The authors' packages of single rules: dadaptation, prodigyopt, dog, momo, lion, adan."""

import importlib
import importlib.metadata

from .base import ADAM, DECAYED, TorchLike, always, both, of

PACKAGES = (
    "dadaptation",
    "prodigyopt",
    "dog-optimizer",
    "momo-opt",
    "lion-pytorch",
    "adan-pytorch",
)

RULES = {
    "DAdaptSGD": of("dadaptation.DAdaptSGD", momentum="momentum", d0="d0", **DECAYED),
    "DAdaptAdam": of("dadaptation.DAdaptAdam", d0="d0", decouple=always(True), **ADAM),
    "Prodigy": of("prodigyopt.Prodigy", d0="d0", **ADAM),
    "DoG": of("dog.DoG", reps_rel="first", eps="eps", **DECAYED),
    "LDoG": of("dog.LDoG", reps_rel="first", eps="eps", **DECAYED),
    "MoMo": of("momo.Momo", beta="beta", lb="lb", **DECAYED),
    "MoMoAdam": of("momo.MomoAdam", lb="lb", **ADAM),
    "Lion": of("lion_pytorch.Lion", betas=both, **DECAYED),
    "Adan": of("adan_pytorch.Adan", eps="eps",
               betas=lambda n: (1 - n.beta1, 1 - n.beta2, 1 - n.beta3), **DECAYED),
}  # fmt: skip


class Authors(TorchLike):
    rules = RULES

    def find(self, name):
        module, name = name.split(".")
        return getattr(importlib.import_module(module), name)

    def version(self):
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)

    def apply(self, optimizer, loss):
        if type(optimizer).__name__ in ("Momo", "MomoAdam"):
            optimizer.step(loss=loss)
        else:
            optimizer.step()


ADAPTER = Authors()
