"""Another verdict in place of the rule's, where what is known of such runs speaks against it.

The rule asks its checks in their order, and the first that answers decides; the probabilities weigh
all features at once. Where they give the rule's verdict next to nothing they are right more often:
of 657 histories whose verdict had less than RUNNER_UP, on tasks that had no say in the fit, it was
right in 25%, the likeliest in 49%.
After branches a margin is asked for, which is smaller for what the past of the run claims.
"""

from __future__ import annotations

from stepsize.diagnosis import thresholds as th
from stepsize.diagnosis.checks import of_batches
from stepsize.diagnosis.doubt import TOLD_BY_BRANCHES
from stepsize.diagnosis.features import CurveFeatures
from stepsize.diagnosis.verdicts import VERDICTS, Finding
from stepsize.diagnosis.wording import percent, words

Shares = dict[str, float]

ADVICE = {
    "too_high": "The steps overshoot: lower the rate, or let it decay.",
    "healthy": "Carry on; a decay of the rate at the end usually gains a little.",
    "too_low": "The steps go the right way but are too short: raise the rate.",
    "plateau": "Let the rate decay to 0 over the steps that are left.",
    "converged": "Stop here: neither more steps nor another rate gains anything to speak of.",
    "underfitting": "This model is too small for its data: try a larger one, or better inputs.",
}


def by_the_curves(found: list[Finding], f: CurveFeatures, shares: Shares) -> list[Finding]:
    """The findings of the curves, after the likeliest where the verdict has next to nothing.

    A rate of 0 is no matter of likelihood, nor is what the probabilities do not know: signs of the
    gradient, the sharpness, swings that batches make, and, of a model that is too small, a path
    that had not got there yet. A plateau is known by branches: few of the labelled runs were on
    one, so that the probabilities of the curves hardly give it any; there it is only doubted.
    """
    first, move = found[0].kind, f.movement
    unknown = move.sign_flip_rate > th.SIGN_FLIPS or move.lr_times_sharpness > th.STABILITY
    if first not in shares or shares[first] >= th.RUNNER_UP or first == "plateau":
        return found
    if move.idle >= th.IDLE or unknown:
        return found
    kind = max(shares, key=lambda name: shares[name])
    if kind == "too_high" and of_batches(f):
        return found
    if kind == "underfitting" and move.relative_path < th.REST_PATH:
        return found
    return _after(kind, found, found, shares, ADVICE, "by all its curves together it is")


def with_branches(
    found: list[Finding], before: list[Finding], shares: Shares, advice: dict[str, str]
) -> list[Finding]:
    """The findings of branches and curves, after what is likelier by both together.

    `before` are those of the curves alone. The rule knows the branches by their signs, and the
    probabilities how sure the curves were.
    """
    own = shares[found[0].kind]
    # That the run went on falling is a claim of its past, which no short branch refutes.
    margins = {"healthy": th.OVERRULED_BY_THE_PAST}
    likelier = [
        name for name in TOLD_BY_BRANCHES if shares[name] > own + margins.get(name, th.OVERRULED)
    ]
    kind = max(likelier, key=lambda name: shares[name], default=found[0].kind)
    return _after(kind, found, before, shares, advice, "together with the curves it is")


def _after(
    kind: str,
    found: list[Finding],
    known: list[Finding],
    shares: Shares,
    advice: dict[str, str],
    by: str,
) -> list[Finding]:
    """The findings after one of another kind, where branches tell both verdicts."""
    first = found[0]
    if kind == first.kind or not {kind, first.kind} <= set(TOLD_BY_BRANCHES):
        return found
    rest = [o for o in known if o.kind not in VERDICTS]
    if own := [o for o in known if o.kind == kind]:
        return [*own, *rest]
    what = f"one sign speaks for {words(first.kind)}: {first.evidence}; but {by} "
    what += f"{VERDICTS[kind].phrase} with {percent(shares[kind])}"
    severity = "info" if VERDICTS[kind].tone == "good" else "warning"
    return [Finding(kind, severity, what, advice[kind], first.span), *rest]
