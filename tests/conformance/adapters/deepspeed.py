"""DeepSpeed: its optimizers for the CPU, in float32, and its schedules."""

import importlib
import os

import numpy as np

from .base import ADAM, DECAYED, TorchLike, always, both, of

WARM = {"warmup_min_lr": always(0.0), "warmup_max_lr": "peak", "warmup_num_steps": "warmup"}

# Long enough for the instructions of vectors, and not a multiple of their length.
LONG = {"dtype": "float32", "shapes": ((67,),)}

RULES = {
    "Adam": of("adam.DeepSpeedCPUAdam", **LONG, adamw_mode=always(False), **ADAM),
    "AdamW": of("adam.DeepSpeedCPUAdam(adamw_mode)", **LONG, **ADAM),
    "Adagrad": of("adagrad.DeepSpeedCPUAdagrad", **LONG, eps="eps", **DECAYED),
    "Lion": of("lion.DeepSpeedCPULion", **LONG, betas=both, **DECAYED),
    "AdamW, undone": of("adam.DeepSpeedCPUAdam", without=("moving rate",), **LONG, **ADAM),
}

SCHEDULES = {
    "warm-up, constant": of("WarmupLR", warmup_type=always("linear"), **WARM),
    "warm-up, logarithmic": of("WarmupLR", **WARM),
    "warm-up, linear": of("WarmupDecayLR", warmup_type=always("linear"), total_num_steps="total",
                          **WARM),
    "warm-up, cosine to 0": of("WarmupCosineLR", lr="peak", total_num_steps="total",
                               warmup_num_steps="warmup", warmup_type=always("linear"),
                               warmup_min_ratio=always(0.0), cos_min_ratio=always(0.0)),
    "range test": of("LRRangeTest", lr_range_test_min_lr="init", lr_range_test_step_size="every",
                     lr_range_test_step_rate="rate"),
    "one triangle": of("OneCycle", cycle_min_lr="low", cycle_max_lr="high",
                       cycle_first_step_size="up", cycle_second_step_size="down",
                       cycle_momentum=always(False)),
}  # fmt: skip


class DeepSpeed(TorchLike):
    distribution = "deepspeed"
    rules = RULES
    schedules = SCHEDULES

    def find(self, name):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        name = name.split("(")[0]
        if "." not in name:
            return getattr(importlib.import_module("deepspeed.runtime.lr_schedules"), name)
        package, name = name.split(".")
        return getattr(importlib.import_module(f"deepspeed.ops.{package}"), name)

    def trajectory(self, binding, case):
        if case.rule == "AdamW, undone":
            return self.undone(binding, case)
        return super().trajectory(binding, case)

    def undone(self, binding, case):
        """Every step is made, undone and made again, by the calls for speculative updates."""
        import torch

        numbers = self.numbers(binding, case)
        arguments = binding.given(numbers)
        self.checked(binding, numbers)
        params = [torch.nn.Parameter(torch.tensor(x, dtype=torch.float32)) for x in case.x0()]
        optimizer = self.find(binding.name)(params, **arguments)
        found = []
        for t in range(case.steps):
            for call in ("step_subgroup", "rollback_subgroup", "step_subgroup"):
                for k, p in enumerate(params):
                    optimizer.param_groups[0]["params"] = [p]
                    p.grad = torch.tensor(case.gradient(t, k, np.zeros(p.shape)), dtype=p.dtype)
                    getattr(optimizer, call)(k)
            found.append([p.detach().numpy().astype(np.float64).copy() for p in params])
        return found


ADAPTER = DeepSpeed()
