"""Every threshold of the checks: its unit, what it separates, and what it was fitted on.

Units: "decrease" is a share of how far the training loss fell, "start" a share of its first level,
"run" a share of the run's length, "length" the norm of the weights, "z" standard errors.

All were fitted on labelled runs of bench/advice: those marked *t* on its tuning split alone, those
marked *v* with all of its splits but the held-out one in view, those marked *w* on other runs, with
labels by the counterfactual definitions of the verdicts, and checked on all of its splits, those
marked *x* on the branches of runs of all splits but the held-out one and the fifth.
"""

from __future__ import annotations

# Fewer losses than this are not enough data for a verdict.
FEWEST_STEPS = 20
FEWEST_LOSSES = 5  # of fewer, only the numbers are told

# Diverging, against a loss that batches or a slow start raised.
DIVERGING_PATH = 3  # length, t: a rise of weights that moved less is the noise of the batches
DIVERGING_RISE = 0.05  # decrease, t: the end above the start
DIVERGING_RANGE = 0.02  # the same, of how far any single loss went below the start, t
DIVERGING_PEAK = 3  # decrease, t: highest level above the start, where the validation agrees
RECOVERED_RANGE = -0.3  # range as above, t: a run that ended this far below has recovered
# Before FEWEST_STEPS losses, where noise alone ends above its start in half of the runs: 1 % of
# noise passes (4 % of four losses); of runs that grow by half a step and more, with a noise of a
# fifth, 70 % of five losses and all of eight.
RISING_ORDER = 0.9  # rank correlation of losses and steps
BLOWN_UP = 10  # range of the losses of the first half: the end, the highest, above the start
BLOWN_UP_LOSSES = 6  # for that
# What steps can do to a loss at first order, against batches whose losses differ.
REACH_KNOWN = 0.5  # run; rows with the norms of gradient, update and weights
SWING_REACH = 20  # reach of one step: swings by more are those of the batches
LONG_FIRST_STEP = 0.1  # length, t: first steps to name as the likely cause

# A rate of 0, against a decay that ends there.
IDLE = 0.5  # run; half of the steps did nothing
MOVING = 0.5  # length; weights with a gradient, as a share of all: below it most have none

DECAYED = 0.02  # highest rate; a last one below it is the end of a schedule

# At rest, against still falling.
REST_Z = 2  # z, t: a smaller decrease in the last half may be chance
REST_DECREASE = 0.057  # decrease, t: in the last half
REST_EXTRAPOLATED = 0.02  # decrease, t: what as many steps again would gain
SETTLED_Z = 20  # z, t: a whole decrease this clear, at rest, outweighs a short path
SETTLED_LEVEL = 0.2  # start, t: and so does only so much that is left

# Too low: weights that hardly moved.
SHORT_PATH = 0.5  # length, t: all steps together
FALLING_Z = 2  # z, t: a decrease to speak of

# Too high: a gradient that vanished far from the floor (dead units).
DEAD_LEVEL = 0.5  # start, t

# Overfitting, against a validation loss that wanders.
OVERFIT_DECREASE = 0.8  # decrease, t: of the training loss, that must be kept at the end
OVERFIT_LEVEL = 0.55  # start, t: the training loss must have come below
OVERFIT_RISE = 0.07  # decrease, w: of the validation loss from its lowest level to the end
OVERFIT_RISE_Z = 0.5  # of the noise of one validation, t
OVERFIT_LATEST = 0.72  # run, t: the lowest level must come before
OVERFIT_OWN_RISE = 0.07  # own decrease, w: the same, where it is small beside the training's
OVERFIT_OWN_FALL = 0.04  # decrease, w: a smaller fall of the validation loss is no measure
OVERFIT_OWN_LEAST = 0.01  # decrease, w: a smaller rise is none
OVERFIT_OWN_Z = 1  # of the noise of one validation, w
OVERFIT_OWN_LATEST = 0.6  # run: the definition of overfitting; not fitted
OVERFIT_OWN_GAP = 0.02  # decrease, w: the end of the validation loss above that of the training
OVERFIT_TRAINING = -0.06  # decrease, t: the training loss may have risen since by less
UNLEARNT = 0.5  # decrease; least fall of the training loss after the first of validations that rose
NOTHING = 0.01  # of that fall: the least of the validation loss that counts; not fitted
METRIC_FALL = 0.1  # of an accuracy's own gain: the definition of overfitting; not fitted
METRIC_FALL_Z = 2  # of the noise of one validation; not fitted

# Overshoot, against a loss that falls from its start.
OVERSHOT_PEAK = 8  # decrease, t: highest level above the start
OVERSHOT_VALIDATION = 2.2  # decrease, t: the fall of the validation loss from its first value
OVERSHOT_VALIDATION_PEAK = 0.3  # decrease, t: highest training level above the start, beside that
OVERSHOT_SWING = 0.006  # decrease, t: at complete rest below it
OVERSHOT_RESTLESS_SWING = 0.3  # decrease, t: an overshoot that ends in swings is a rate too high
OVERSHOT_LEVEL = 0.13  # start, t: and so is one that ends far from zero

# Still falling (healthy), against at rest.
LATE_Z = 1.5  # z, v: a smaller decrease in the last half counts as none
LATE_DECREASE = 0.012  # decrease, w: in the last half
START_Z = 2  # z, t: an end that is not so clearly below the start was not learnt

# At rest by the share of the last half, but what as many steps again may gain is more than what the
# definition of converged leaves.
CREEP = 0.005  # decrease: the definition of converged; not fitted
CREEP_Z = 3  # z: that of a healthy one; not fitted

# Too low, against healthy: a large late decrease for the path and the jitter of the weights.
TOO_LOW_DECREASE = 1.5  # decrease / sqrt(path x jitter), w
LEAST_JITTER = 2e-3  # decrease, v: jitter counts as at least this
GRADIENT_KEPT = (0.7, 1.5)  # end / start of the gradient norm, t: "as long as at the start"

# Too high: what was reached is lost again, or a swing far from the floor.
REBOUND = 0.08  # decrease, t: end above the best level
REBOUND_Z = 1.7  # z, t: the best of many levels is two errors below the others by chance alone
REBOUND_CALM_Z = 4  # z, t: the same where the weights hardly jitter
REBOUND_JITTER = 0.02  # decrease, t: the line between the two
SWING_LEVEL = 0.27  # start, t: swings above it are a rate too high, below it a plateau
SIGN_FLIPS = 0.75  # share of gradient signs, t: half is noise
STABILITY = 2  # rate x sharpness: the limit of stability of gradient descent

# Swings of the weights (plateau), against noise of the batches.
SWING = 0.11  # decrease, t: tenth to ninetieth percentile of the last quarter
SWING_JITTER = 0.027  # decrease, t: residual around the trend
SWING_GRADIENT_JITTER = 0.085  # log of the gradient norm, t: weights that swing change it

# A validation metric that has come to rest where it is good, whatever the loss still does.
METRIC_GOOD = 0.9  # metric, w: of those that end at 1
METRIC_GAIN = 0.25  # of the way from the first value to 1, w: a smaller gain may be chance
METRIC_REST = 0.05  # gain, w: in the last half
METRIC_LOSS = 0.35  # start, w: with more of the loss left, a higher rate may still do better

# At rest: converged, underfitting, or too low after all.
REST_LEVEL = 0.1  # start, w: more left is underfitting
REST_LEVEL_BOTH = (0.05, 0.5)  # start, w: converged and underfitting are both told between these
REST_PATH = 1  # length, v: a shorter one may not have got there yet
REST_VALIDATION = 1.5  # of the end of the training loss, t: a higher validation loss is another gap
GRADIENT_FELL = 0.1  # end / start of the gradient norm, t: worth telling

# Units without a gradient, at the looks of `fit`.
SILENT = 0.1  # of the units of their layers: fewer are usual, and not told; not fitted
SILENT_MOST = 0.5  # so many are told in place of a rate; not fitted

# A loss without a floor in view.
LINEAR = (0.7, 1.4)  # decrease of the last quarter over that of the second; not fitted
LINEAR_Z = 6  # z of the decrease in the last half; not fitted

# Branches of an experiment (`what_if`), of a twentieth of the run each.
AHEAD_Z = 0.5  # z, x: of a difference between two branches, whose errors are cautious
AHEAD_RAISED = 1.0  # of what the run gained on average in as many steps, x
AHEAD_RAISED_LEAD = 0.02  # decrease, x: ten times the rate below the present one
OUTRUN = 2.0  # of that pace, x: the same against what the curves show beyond doubt,
OUTRUN_SURE = 0.95  # probability: at least, of that; not fitted
HIDDEN_SURE = 0.95  # the same, of steps too short to be seen: 176 of 176 runs, x
OUTRUN_Z = 5  # z: where it and the fall at the present rate are so clear; not fitted
PROPORTIONAL = 5  # times the gain at the present rate: at ten times it, of a run not seen to fall
AHEAD_TOO_HIGH = 0.11  # decrease, x: a lower rate below the present one; less is a plateau
AHEAD_PLATEAU = 0.02  # decrease, x: less is nothing,
AHEAD_PLATEAU_LEVEL = 0.17  # of the loss that is left, x: unless it is so much of that
AHEAD_PLATEAU_GAINED = 0.3  # of the gain of the last half, x: less of it is short-horizon bias
AHEAD_NOTHING = 0.004  # decrease, x: and no lead whatever the loss that is left
AHEAD_CALM = 0.0  # decrease, x: a claim is refuted where no calm branch may gain more
CALM_Z = 2  # z: what a branch may gain within its error; not fitted
CLEAR_Z = 2  # z: a branch that words call clearly lower; not fitted
AHEAD_LATE_LEVEL = 0.3  # of the loss that is left, x: a gain of the last half that claims as much
AHEAD_LATE_Z = 6  # z, x: where it is clear
AHEAD_LATE_LEAST = 0.005  # decrease, x: and no rounding
AHEAD_MEMORISED = 0.65  # of the loss of one batch, x: more left is a model too small
OVERRULED = 0.4  # probability, x: what is so much likelier takes the place of the rule's verdict
OVERRULED_BY_THE_PAST = 0.1  # the same, x: for healthy
ASK_BELOW = 0.95  # probability of a verdict, x: with less an experiment is worth its cost
ASK_OVERFITTING_BELOW = 0.7  # the same, x: a validation loss that a rate too high has turned
SAY_BELOW = 0.8  # probability: with less that is said in words too; not fitted

LOWER_ABOVE = 0.5  # probability of the verdicts that ask for a lower rate; not fitted
# A verdict of the curves with less than the first gives way to the likeliest: in folds with whole
# tasks held out it was right in 25 %, the likeliest in 49 %.
RUNNER_UP = 0.2  # probability of another verdict that is worth saying; not fitted
UNSURE = 0.5  # probability of a verdict: with less it is said with a "may"; not fitted

# The next rate: a long way only where the signs are strong. Factors of the rate, all t.
RAISE, RAISE_FAR, RAISE_FARTHEST = 3, 10, 100
RAISE_FAR_PATH, RAISE_FARTHEST_PATH = 0.3, 0.01  # length: paths so short ask for more
LOWER, LOWER_FAR = 0.25, 0.03
LOWER_FAR_PEAK = 100  # decrease: a highest level above the start that asks for LOWER_FAR
LOWER_PLATEAU = 0.2
LOWER_DIVERGED, LOWER_DIVERGED_LEAST, LOWER_DIVERGED_MOST = 0.1, 0.1, 1e-3
GOOD_FIRST_STEP = 0.01  # length: trainings that go well begin with steps of about this
USUAL_RATES = (1e-7, 10)  # where `lr_find` looks: a next rate outside is a shot in the dark

# A level so far below 0 is no floor, whatever the curve looks like.
ENDLESS = 1e30  # times the start, or 1 where that is less; not fitted
