"""From a short race to a whole training: the correction for the short horizon.

A race of some thirty steps does not prefer the rate that is best for a whole training. Wu et al.
2018 (arXiv:1803.02021) describe this short-horizon bias for rates tuned by a few steps of
lookahead, where noise makes it favour rates too small; a race at constant rates from the start of
training errs, for most optimizers, in the other direction and prefers rates too large, because the
noise that they end in has not yet mattered. By how much depends on how the optimizer responds to a
gradient. That is measured, on copies and without the user's function, by `horizon_correction`.

All constants were fitted on the tuning split of bench/advice, those marked (*) with all splits but
the held-out one in view. A decade is a factor of ten of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from stepsize.arrays import Curve, Nest, copy, flatten, norm
from stepsize.curves import TINY
from stepsize.errors import NonFiniteGradientError
from stepsize.finder.trials import TrialRunner, changed

# Decades from the race's rate to that of a training:
HORIZON_BIAS = -0.15  # for an optimizer whose steps neither grow, shrink, nor depend on noise
STEP_DECAY_WEIGHT = -1.6  # per decade by which the step grows while one gradient is repeated:
#                           separates momentum (grows, lower rate) from Adagrad (shrinks, higher)
NOISE_STEP_WEIGHT = -0.45  # for steps that stay as long in pure noise (Adam, Lion) against steps
#                            that shrink with the gradient (SGD, whose correction is 0)
LARGEST_DROP = -1.0  # no correction is larger
LARGEST_RISE = 0.1  # a rate much above the one that was raced may be unstable

# Decades from there to the peak of a schedule, whose end is quiet:
PEAK_LIFT = 0.4  # (*) above the best constant rate
PEAK_LIFT_SHORT = 0.15  # (*) above the race's rate, which is the safer bound
LARGEST_DECAY_LIFT = 0.3  # (*) more for steps that shrink by themselves (Adagrad), at most
REFINED_PEAK_LIFT = 0.25  # (*) above a rate that was raced over the whole training
HALVING_SHIFT = -0.05  # (*) decades per halving of the race's share of the training, refined races

# Decades per decade of length, for steps that ignore the size of the gradient:
LENGTH_EXPONENT = -0.32  # Bjorck et al. 2025, arXiv:2409.19913
BASE = 10.0
LENGTH = 400  # steps of the trainings that the constants above are right for, at the median

# The measurement:
REPEATS = 40  # steps of each response; momentum of 0.9 has settled after 22
SETTLED = 32  # steps whose mean is compared with the last one
SKIPPED = 8  # steps before noisy and steady lengths are compared
SMALL_RATE = 30  # divisor of the rate, so that the weights hardly change
NO_RATE = 1e-25  # a rate at which no rule should move
ERASED = 0.01  # share of the parameters' norm above which a step at no rate has erased the start
FAINT = 1e-3  # factor on the gradient that shows whether its size is ignored
NOISE_RESPONSE = 10.0  # base: a step that shrinks by two decades counts a tenth


def _step_lengths(runner: TrialRunner, lr: float, loss: float, gradients: Iterable[Nest]) -> Curve:
    """Length of each step an optimizer takes on copies when it is shown these gradients."""
    params = copy(runner.params)
    stepper = runner.stepper(params)
    return np.array([stepper.step_length(g, lr, loss) for g in gradients])


def moves_without_rate(runner: TrialRunner, first_batch: int) -> str:
    """What to say of a rule that moves the parameters however small the rate is; else nothing.

    As FTRL, which makes them of its sums alone and so erases where they start. No race tells which
    rate is right for it.
    """
    loss, gradient = runner.at_start(first_batch)
    size = norm(flatten(runner.params)[0])
    try:
        moved = float(_step_lengths(runner, NO_RATE, loss, [gradient])[0])
    except NonFiniteGradientError:
        return ""
    if not moved > ERASED * size or not size:
        return ""
    rule = type(runner.build(copy(runner.params))).__name__
    return (
        f"a step of {rule} changes the parameters by {moved / max(size, TINY):.0%} of their norm "
        "however small the rate is, so the starting point is erased; start from zeros or give lr"
    )


def longer(
    runner: TrialRunner, lr: float, first_batch: int, length: int, steps: int
) -> tuple[float, str]:
    """Decades from the rate of a training of one length to that of another, and the rule."""
    loss, g = runner.at_start(first_batch)
    lr /= SMALL_RATE
    steady = _step_lengths(runner, lr, loss, [g])
    faint = _step_lengths(runner, lr, loss, [_times(FAINT, g)])
    if not faint[0] > math.sqrt(FAINT) * steady[0]:
        return 0.0, (
            f"for {steps} steps as for {length}, as steps that grow with the gradient want the same"
        )
    decades = min(LENGTH_EXPONENT * math.log10(steps / length), LARGEST_RISE)
    return decades, (
        f"for {steps} steps x{BASE**decades:.3g} of that for {length}, steps**{LENGTH_EXPONENT} "
        "(Bjorck et al. 2025)"
    )


def _times(factor: float, gradient: Nest) -> Nest:
    return changed(lambda array: np.asarray(array * factor, array.dtype), gradient)


def horizon_correction(runner: TrialRunner, lr: float, first_batch: int) -> tuple[float, float]:
    """Decades from a short race's rate to the rate, and to the peak, of a whole training.

    Three questions to the optimizer, each answered by its steps on the first gradient g:
    does the step grow (momentum) or shrink (Adagrad) while g is repeated; how long is it when the
    sign of g is random; does it ignore the size of g (Adam, Lion)?
    An optimizer whose steps stay as long when nothing but noise is left needs the largest
    correction. The peak of a schedule, which ends at small rates, makes up for steps that shrink.
    """
    loss, g = runner.at_start(first_batch)
    lr /= SMALL_RATE
    sides = {1: g, -1: _times(-1, g)}
    signs = np.random.default_rng(0).choice([-1, 1], REPEATS)
    steady = _step_lengths(runner, lr, loss, [g] * len(signs))
    noisy = _step_lengths(runner, lr, loss, [sides[int(s)] for s in signs])
    faint = _step_lengths(runner, lr, loss, [_times(FAINT, g)])
    if not (steady > 0).all() or not np.isfinite(steady).all():
        return HORIZON_BIAS, PEAK_LIFT_SHORT
    growth = math.log10(steady[-1] / steady[:SETTLED].mean())
    settled = slice(SKIPPED, None)
    in_noise = float(np.sqrt(np.mean(noisy[settled] ** 2) / np.mean(steady[settled] ** 2)))
    size_ignored = min(max(float(faint[0] / steady[0]), 0.0), 1.0)
    # Steps that shrink by themselves (Adagrad) settle in noise too, if not as far.
    settling = min(1.0, NOISE_RESPONSE ** (growth / 2))
    noise = NOISE_STEP_WEIGHT * min(in_noise, 1.0) * size_ignored * settling
    shift = min(max(HORIZON_BIAS + STEP_DECAY_WEIGHT * growth + noise, LARGEST_DROP), LARGEST_RISE)
    decay_lift = min(max(-growth, 0.0), LARGEST_DECAY_LIFT)
    return shift, min(shift + PEAK_LIFT, PEAK_LIFT_SHORT + decay_lift)
