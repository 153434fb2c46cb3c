"""The rules with their arguments; docs/rules_stub.py writes this file."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from stepsize.arrays import Nest
from stepsize.optimizers.groups import GroupSpec
from stepsize.optimizers.optimizer import Optimizer
from stepsize.optimizers.rules.averaging import AveragingOptimizer
from stepsize.schedules import Schedule

_Number: TypeAlias = float | np.floating[Any] | Schedule | Callable[[int], float]

class AdaBelief(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-16,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Adadelta(Optimizer):
    lr: Any
    rho: Any
    eps: Any
    weight_decay: Any
    cautious: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        rho: _Number = 0.9,
        eps: _Number = 1e-06,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Adafactor(Optimizer):
    lr: Any
    beta2_decay: Any
    eps: Any
    d: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        beta2_decay: _Number = -0.8,
        eps: tuple[_Number | None, _Number | None] = (0.0, 0.001),
        d: _Number = 1.0,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Adagrad(Optimizer):
    lr: Any
    lr_decay: Any
    weight_decay: Any
    initial_accumulator_value: Any
    eps: Any
    decoupled: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        lr_decay: _Number = 0.0,
        weight_decay: _Number = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: _Number = 1e-10,
        decoupled: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Adam(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    amsgrad: Any
    decoupled_weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    update_clip: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        amsgrad: bool = False,
        decoupled_weight_decay: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        update_clip: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Adamax(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    cautious: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.002,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class AdamW(Adam):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    amsgrad: Any
    decoupled_weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    update_clip: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.01,
        amsgrad: bool = False,
        decoupled_weight_decay: bool = True,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        update_clip: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Adan(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    no_prox: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number, _Number] = (0.98, 0.92, 0.99),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        no_prox: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class AdEMAMix(Optimizer):
    lr: Any
    betas: Any
    alpha: Any
    eps: Any
    weight_decay: Any
    alpha_warmup: Any
    beta3_warmup: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    update_clip: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number, _Number] = (0.9, 0.999, 0.9999),
        alpha: _Number = 5.0,
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        alpha_warmup: _Number = 0.0,
        beta3_warmup: _Number = 0.0,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        update_clip: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class ADOPT(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    decouple: Any
    use_clipping: Any
    cautious: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.9999),
        eps: _Number = 1e-06,
        weight_decay: _Number = 0.0,
        decouple: bool = False,
        use_clipping: bool = True,
        cautious: bool = False,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class ASGD(AveragingOptimizer):
    lr: Any
    lambd: Any
    alpha: Any
    t0: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        lambd: _Number = 0.0001,
        alpha: _Number = 0.75,
        t0: _Number = 1000000.0,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class COCOB(Optimizer):
    lr: Any
    alpha: Any
    eps: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        alpha: _Number = 100.0,
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class DAdaptAdam(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    decouple: Any
    use_bias_correction: Any
    d0: Any
    growth_rate: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        decouple: bool = False,
        use_bias_correction: bool = False,
        d0: float = 1e-06,
        growth_rate: _Number = ...,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class DAdaptSGD(Optimizer):
    lr: Any
    momentum: Any
    weight_decay: Any
    d0: Any
    growth_rate: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        momentum: _Number = 0.0,
        weight_decay: _Number = 0.0,
        d0: float = 1e-06,
        growth_rate: _Number = ...,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class DoG(Optimizer):
    lr: Any
    reps_rel: Any
    eps: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        reps_rel: float = 1e-06,
        eps: float = 1e-08,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class DoWG(Optimizer):
    lr: Any
    eps: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        eps: _Number = 0.0001,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class FTRL(Optimizer):
    lr: Any
    beta: Any
    l1: Any
    l2: Any
    l2_shrinkage: Any
    initial_accumulator_value: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        beta: _Number = 0.0,
        l1: _Number = 0.0,
        l2: _Number = 0.0,
        l2_shrinkage: _Number = 0.0,
        initial_accumulator_value: float = 0.1,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Kron(Optimizer):
    lr: Any
    momentum: Any
    weight_decay: Any
    preconditioner_update_probability: Any
    precond_lr: Any
    max_size_triangular: Any
    min_ndim_triangular: Any
    memory_save_mode: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        momentum: _Number = 0.9,
        weight_decay: _Number = 0.0,
        preconditioner_update_probability: _Number | None = None,
        precond_lr: _Number = 0.1,
        max_size_triangular: int = 8192,
        min_ndim_triangular: int = 2,
        memory_save_mode: Literal["smart_one_diag", "one_diag", "all_diag"] | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class LAMB(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    adapt: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-06,
        weight_decay: _Number = 0.0,
        adapt: bool = True,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class LaProp(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.0004,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-15,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class LARS(Optimizer):
    lr: Any
    momentum: Any
    weight_decay: Any
    nesterov: Any
    trust_coefficient: Any
    eps: Any
    adapt: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        momentum: _Number = 0.9,
        weight_decay: _Number = 0.0,
        nesterov: bool = False,
        trust_coefficient: _Number = 0.001,
        eps: _Number = 1e-08,
        adapt: bool = True,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class LBFGS(Optimizer):
    lr: Any
    max_iter: Any
    max_eval: Any
    tolerance_grad: Any
    tolerance_change: Any
    history_size: Any
    line_search_fn: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: _Number = 1e-07,
        tolerance_change: _Number = 1e-09,
        history_size: int = 100,
        line_search_fn: Literal["strong_wolfe"] | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...
    def step(  # type: ignore[override]
        self, value_and_grad: Callable[[Nest], tuple[float, Nest]]
    ) -> float: ...

class LDoG(DoG):
    lr: Any
    reps_rel: Any
    eps: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        reps_rel: float = 1e-06,
        eps: float = 1e-08,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Lion(Optimizer):
    lr: Any
    betas: Any
    weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.0001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.99),
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class MADGRAD(Optimizer):
    lr: Any
    momentum: Any
    weight_decay: Any
    eps: Any
    decouple_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        momentum: _Number = 0.9,
        weight_decay: _Number = 0.0,
        eps: _Number = 1e-06,
        decouple_decay: bool = False,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class MoMo(Optimizer):
    lr: Any
    beta: Any
    weight_decay: Any
    lb: Any
    bias_correction: Any
    use_fstar: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        beta: _Number = 0.9,
        weight_decay: _Number = 0.0,
        lb: _Number = 0.0,
        bias_correction: bool = False,
        use_fstar: bool = False,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class MoMoAdam(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    lb: Any
    use_fstar: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        lb: _Number = 0.0,
        use_fstar: bool = False,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Muon(Optimizer):
    lr: Any
    weight_decay: Any
    momentum: Any
    nesterov: Any
    eps: Any
    ns_steps: Any
    ns_coefficients: Any
    adjust_lr_fn: Any
    ns_table: Any
    row_beta2: Any
    use_muon: Any
    flatten: Any
    stacked: Any
    adamw_scale: Any
    adamw_betas: Any
    adamw_eps: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        weight_decay: _Number = 0.1,
        momentum: _Number = 0.95,
        nesterov: bool = True,
        eps: _Number = 1e-07,
        ns_steps: int = 5,
        ns_coefficients: tuple[_Number, _Number, _Number] = (3.4445, -4.775, 2.0315),
        adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = "original",
        ns_table: Literal["polar_express"] | None = None,
        row_beta2: _Number = 0.0,
        use_muon: bool = True,
        flatten: bool = False,
        stacked: int | None = None,
        adamw_scale: _Number = 1.0,
        adamw_betas: tuple[_Number, _Number] = (0.9, 0.95),
        adamw_eps: _Number = 1e-08,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class NAdam(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    momentum_decay: Any
    decoupled_weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    update_clip: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.002,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        momentum_decay: _Number = 0.004,
        decoupled_weight_decay: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        update_clip: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class NAdamW(NAdam):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    momentum_decay: Any
    decoupled_weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    update_clip: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.002,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.01,
        momentum_decay: _Number = 0.004,
        decoupled_weight_decay: bool = True,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        update_clip: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class NovoGrad(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        betas: tuple[_Number, _Number] = (0.95, 0.98),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class PolyakSGD(Optimizer):
    lr: Any
    scaling: Any
    f_min: Any
    eps: Any
    positive: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        scaling: _Number = 1.0,
        f_min: _Number = 0.0,
        eps: _Number = 0.0,
        positive: bool = False,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Prodigy(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    decouple: Any
    use_bias_correction: Any
    safeguard_warmup: Any
    d0: Any
    d_coef: Any
    growth_rate: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-06,
        d_coef: _Number = 1.0,
        growth_rate: _Number = ...,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class RAdam(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    decoupled_weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        decoupled_weight_decay: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class RMSprop(Optimizer):
    lr: Any
    alpha: Any
    eps: Any
    weight_decay: Any
    momentum: Any
    centered: Any
    decoupled: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        alpha: _Number = 0.99,
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        momentum: _Number = 0.0,
        centered: bool = False,
        decoupled: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Rprop(Optimizer):
    lr: Any
    etas: Any
    step_sizes: Any
    cautious: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        etas: tuple[_Number, _Number] = (0.5, 1.2),
        step_sizes: tuple[_Number, _Number] = (1e-06, 50.0),
        cautious: bool = False,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class ScheduleFreeAdamW(AveragingOptimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    warmup_steps: Any
    r: Any
    weight_lr_power: Any
    decoupling: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.0025,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        warmup_steps: _Number = 0.0,
        r: _Number = 0.0,
        weight_lr_power: _Number = 2.0,
        decoupling: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class ScheduleFreePlus(AveragingOptimizer):
    lr: Any
    betas: Any
    sf_beta1: Any
    eps: Any
    weight_decay: Any
    r: Any
    polyak_beta: Any
    c_warmup: Any
    sf_beta1_anneal_steps: Any
    sf_beta1_max: Any
    weight_lr_power: Any
    f_min: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.95),
        sf_beta1: _Number = 0.9,
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        r: _Number = 0.0,
        polyak_beta: _Number = 0.0,
        c_warmup: _Number = 0.0,
        sf_beta1_anneal_steps: _Number = 0.0,
        sf_beta1_max: _Number = 0.965,
        weight_lr_power: _Number = 2.0,
        f_min: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class ScheduleFreeRAdam(AveragingOptimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    r: Any
    weight_lr_power: Any
    silent_sgd_phase: Any
    decoupling: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.0025,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        r: _Number = 0.0,
        weight_lr_power: _Number = 2.0,
        silent_sgd_phase: bool = True,
        decoupling: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class ScheduleFreeSGD(AveragingOptimizer):
    lr: Any
    momentum: Any
    weight_decay: Any
    warmup_steps: Any
    r: Any
    weight_lr_power: Any
    decoupling: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 1.0,
        *,
        momentum: _Number = 0.9,
        weight_decay: _Number = 0.0,
        warmup_steps: _Number = 0.0,
        r: _Number = 0.0,
        weight_lr_power: _Number = 2.0,
        decoupling: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class SGD(Optimizer):
    lr: Any
    momentum: Any
    dampening: Any
    weight_decay: Any
    nesterov: Any
    decoupled: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        momentum: _Number = 0.0,
        dampening: _Number = 0.0,
        weight_decay: _Number = 0.0,
        nesterov: bool = False,
        decoupled: bool = False,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Shampoo(Optimizer):
    lr: Any
    momentum: Any
    eps: Any
    weight_decay: Any
    precondition_frequency: Any
    max_dim: Any
    flatten: Any
    stacked: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.1,
        *,
        momentum: _Number = 0.0,
        eps: float = 0.0001,
        weight_decay: _Number = 0.0,
        precondition_frequency: int = 1,
        max_dim: int = 2048,
        flatten: bool = False,
        stacked: int | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class SignSGD(Optimizer):
    lr: Any
    momentum: Any
    weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        momentum: _Number = 0.0,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Signum(SignSGD):
    lr: Any
    momentum: Any
    weight_decay: Any
    cautious: Any
    cautious_decay: Any
    decay_max_lr: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.001,
        *,
        momentum: _Number = 0.9,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        cautious_decay: bool = False,
        decay_max_lr: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class SM3(Optimizer):
    lr: Any
    momentum: Any
    beta2: Any
    eps: Any
    weight_decay: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        momentum: _Number = 0.9,
        beta2: _Number = 1.0,
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class SOAP(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    weight_decay: Any
    precondition_frequency: Any
    max_dim: Any
    flatten: Any
    stacked: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.003,
        *,
        betas: tuple[_Number, _Number] = (0.95, 0.95),
        eps: _Number = 1e-08,
        weight_decay: _Number = 0.01,
        precondition_frequency: int = 10,
        max_dim: int = 10000,
        flatten: bool = False,
        stacked: int | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...

class Yogi(Optimizer):
    lr: Any
    betas: Any
    eps: Any
    initial_accumulator: Any
    weight_decay: Any
    cautious: Any
    mars_gamma: Any
    def __init__(
        self,
        params: Nest,
        lr: _Number | None = 0.01,
        *,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 0.001,
        initial_accumulator: float = 1e-06,
        weight_decay: _Number = 0.0,
        cautious: bool = False,
        mars_gamma: _Number | None = None,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        state_dtype: Literal["bfloat16", "int8"] | None = None,
        master_weights: bool | Literal["split", "split8"] = True,
        param_rounding: Literal["nearest", "stochastic"] = "nearest",
        loss_scale: float | Literal["dynamic"] | None = None,
        bounds: Any = None,
        l1: float = 0.0,
        groups: Sequence[GroupSpec] = (),
    ) -> None: ...
