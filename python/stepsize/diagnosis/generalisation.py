"""The checks that ask what is validated: whether it turned, came to rest, or ended the run."""

from __future__ import annotations

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.features import CurveFeatures, ValidationFeatures
from stepsize.diagnosis.verdicts import Finding
from stepsize.diagnosis.wording import apart, percent, series_name, went

STOP_THERE = "Stop there (EarlyStopping), add weight decay, or get more data."


def overfitting(f: CurveFeatures) -> Finding | None:
    """The validation loss turned while the training loss went on falling."""
    levels, v = f.levels, f.validation
    if v is None or levels.remaining > th.OVERFIT_LEVEL:
        return None
    if levels.start - levels.end < th.OVERFIT_DECREASE * levels.decrease:
        return None
    far = v.rise > th.OVERFIT_RISE and v.rise_z > th.OVERFIT_RISE_Z
    far = far and v.best_at < th.OVERFIT_LATEST and v.end >= levels.end
    if not (far or _rose_of_its_own(f)) or v.training_decrease < th.OVERFIT_TRAINING:
        return None
    trained = went(v.training_then, levels.end).replace("rose", "only rose")
    what = f"{_turned(v)} while the training loss {trained}"
    if f.metric is not None:
        better = f.metric.own_rise <= th.METRIC_FALL
        what += f"; the {series_name(f.metric.name)} "
        what += went(-f.metric.first, -f.metric.last) if better else _fell_since(f.metric)
    return Finding("overfitting", "warning", what, STOP_THERE, (v.best_at, 1.0))


def _rose_of_its_own(f: CurveFeatures) -> bool:
    """Whether the validation loss rose by much of its own fall, though the training fell farther.

    As where the training loss goes to nothing; the validation loss then ends clearly above it.
    """
    v, levels = f.validation, f.levels
    # A first value that comes late leaves a fall that is no measure.
    if v is None or v.decrease <= th.OVERFIT_OWN_FALL or v.best_at >= th.OVERFIT_OWN_LATEST:
        return False
    rose = v.own_rise > th.OVERFIT_OWN_RISE and v.rise > th.OVERFIT_OWN_LEAST
    gap = (v.end - levels.end) / levels.decrease
    return rose and v.rise_z > th.OVERFIT_OWN_Z and gap > th.OVERFIT_OWN_GAP


def _turned(v: ValidationFeatures) -> str:
    """That a validation loss was best somewhere and has risen since."""
    best, end = apart(v.lowest, v.last)
    return (
        f"the validation loss was best ({best}) after {percent(v.best_at)} of the run and has "
        f"risen to {end}"
    )


def _fell_since(m: ValidationFeatures) -> str:
    best, end = apart(-m.lowest, -m.last)
    return f"was best ({best}) after {percent(m.best_at)} of the run and has fallen to {end}"


def metric_turned(f: CurveFeatures) -> Finding | None:
    """The same of an accuracy, where no validation loss was recorded."""
    levels, m = f.levels, f.metric
    if m is None or f.validation is not None or f.few is not None:
        return None
    fell = m.own_rise > th.METRIC_FALL and m.rise_z > th.METRIC_FALL_Z
    if not fell or m.best_at >= th.OVERFIT_LATEST or levels.end >= m.training_then:
        return None
    what = f"the {series_name(m.name)} {_fell_since(m)} while the training loss "
    what += went(m.training_then, levels.end)
    return Finding("overfitting", "warning", what, STOP_THERE, (m.best_at, 1.0))


def few_validations(f: CurveFeatures) -> Finding | None:
    """All of two to four validation losses rose while the training loss fell."""
    few, levels = f.few, f.levels
    if few is None or levels.end >= few.training_then:
        return None
    rise = few.values[-1] - few.values[0]
    rising = all(a < b for a, b in zip(few.values, few.values[1:], strict=False))
    if not rising or rise <= th.OVERFIT_RISE * levels.decrease:
        return None
    first, last = apart(few.values[0], few.values[-1])
    what = f"all {len(few.values)} validation losses rise, from {first} to {last}, while the "
    what += f"training loss {went(few.training_then, levels.end)}"
    # Two may be chance; more rarely are.
    severity = "info" if len(few.values) == 2 else "warning"
    return Finding("overfitting", severity, what, STOP_THERE, (few.first_at, 1.0))


def generalises_nothing(f: CurveFeatures) -> Finding | None:
    """A validation loss that ended where it began, or above, while most was learnt."""
    levels, v = f.levels, f.validation
    if v is None or levels.decrease_z < th.START_Z:
        return None
    if v.training_first - levels.end < th.UNLEARNT * levels.decrease:
        return None
    least = th.NOTHING * (min(v.training_first, levels.start) - levels.end)
    if not v.above_start and v.first - v.end > least:
        return None
    end, start = apart(v.last, v.first)
    where = "above" if v.last > v.first else "hardly below"
    what = f"the validation loss ended at {end}, {where} its first value of {start}, while the "
    what += f"training loss {went(v.training_first, levels.end)}"
    return Finding("overfitting", "warning", what, STOP_THERE)


def settled(f: CurveFeatures) -> Finding | None:
    """What is validated has stopped getting better, after it had become good.

    What the training loss still gains then, as classes that are right become more certain, is no
    matter of the rate.
    """
    stop, m = f.stop, f.metric
    if stop is not None and stop.metric == "val_loss":
        m = f.validation
    if m is None or not m.lowest < m.first or f.levels.remaining > th.METRIC_LOSS:
        return None
    stopped = stop is not None and stop.metric == m.name
    rests = m.late_decrease_z < th.LATE_Z and m.late_decrease < th.METRIC_REST
    if not stopped and (m is not f.metric or not rests):
        return None
    best, first = -m.lowest, -m.first
    gain = best - first >= th.METRIC_GAIN * (1 - first)
    if m is f.metric and not (best > 1 or best >= th.METRIC_GOOD or gain):
        return None
    sign = -1 if m is f.metric else 1
    what = f"the {series_name(m.name)} {went(sign * m.first, sign * m.lowest)}, its best"
    what += early(f) if stopped else f", after {percent(m.best_at)} of the run"
    what += f"; the training loss {went(f.levels.start, f.levels.end)}"
    advice = "Stop there: a longer training at this rate gains nothing that is validated."
    return Finding("converged", "info", what, advice, (m.best_at, 1.0))


def early(f: CurveFeatures) -> str:
    """That early stopping ended the run, to follow another reading of it."""
    if f.stop is None:
        return ""
    return (
        f"; early stopping ended the run, since the {series_name(f.stop.metric)} had not improved "
        f"on {f.stop.best:.4g} since step {f.stop.step}"
    )
