"""The statements of schedules: the value for an update is that of the updates applied before it."""

import itertools

from .exact import mp
from .registry import schedule

PEAK = {"peak": 0.5}
WARM = {"peak": 0.5, "warmup": 8, "total": 32}
SGDR = "Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5"


def line(low, high, part):
    return low + (high - low) * part


def part(s, start, end):
    """How much of the way from `start` to `end` is done, from 0 to 1."""
    return min(max(mp.mpf(s - start) / (end - start), mp.zero), mp.one)


def half_wave(high, low, p):
    return low + (high - low) * (1 + mp.cos(mp.pi * p)) / 2


def warmed(s, n, after):
    start = n.values.get("init", mp.zero)
    return line(start, n.peak, mp.mpf(s) / n.warmup) if s < n.warmup else after(s)


@schedule("constant", "Robbins & Monro 1951, a constant gain", **PEAK)
def constant(s, n):
    return n.peak


@schedule("linear", "a straight line", init=0.5, end=0.125, steps=16, ends=lambda n: n["steps"])
def linear(s, n):
    return line(n.init, n.end, part(s, 0, n.steps))


@schedule(
    "polynomial", "Liu, Rabinovich & Berg 2015, arXiv:1506.04579, section 3.2, the poly policy",
    init=0.5, end=0.125, steps=16, power=2.5, ends=lambda n: n["steps"],
    cases=({"power": 0.5},),
)  # fmt: skip
def polynomial(s, n):
    return line(n.end, n.init, mp.power(1 - part(s, 0, n.steps), n.power))


@schedule(
    "polynomial, cycled", "polynomial decay whose end moves on by its length when it is reached",
    init=0.5, end=0.125, steps=16, power=2.5,
)  # fmt: skip
def polynomial_cycled(s, n):
    length = n.steps * max(1, int(mp.ceil(mp.mpf(s) / n.steps)))
    return line(n.end, n.init, mp.power(1 - mp.mpf(s) / length, n.power))


@schedule("cosine", f"{SGDR}, without restarts", init=0.5, end=0.125, steps=16,
          ends=lambda n: n["steps"])  # fmt: skip
def cosine(s, n):
    return half_wave(n.init, n.end, part(s, 0, n.steps))


@schedule("cosine, k-decay", "Zhang & Li 2020, arXiv:2004.05909, equation 5", init=0.5, end=0.125,
          steps=16, k=1.5, ends=lambda n: n["steps"])  # fmt: skip
def cosine_k(s, n):
    return half_wave(n.init, n.end, mp.power(part(s, 0, n.steps), n.k))


@schedule("cosine to a power", "SGDR's half wave to a power, as optax.cosine_decay_schedule",
          init=0.5, end=0.125, steps=16, power=1.5, ends=lambda n: n["steps"])  # fmt: skip
def cosine_power(s, n):
    return line(n.end, n.init, mp.power((1 + mp.cos(mp.pi * part(s, 0, n.steps))) / 2, n.power))


@schedule("cosine restarts", SGDR, init=0.5, end=0.0, period=7, multiplier=2, decay=1.0,
          cases=({"decay": 0.5}, {"multiplier": 1}))  # fmt: skip
def cosine_restarts(s, n):
    length, high = n.period, n.init
    while s >= length:
        s, length, high = s - length, length * n.multiplier, n.end + (high - n.end) * n.decay
    return half_wave(high, n.end, mp.mpf(s) / length)


@schedule("cosine hard restarts", f"{SGDR}, whole cycles after a warm-up", cycles=3, **WARM,
          ends=lambda n: n["total"] - 1)  # fmt: skip
def hard_restarts(s, n):
    def after(s):
        p = mp.mpf(s - n.warmup) / (n.total - n.warmup) * n.cycles
        return half_wave(n.peak, 0, p - int(p)) if s < n.total else mp.zero

    return warmed(s, n, after)


@schedule("exponential", "exponential decay, rate ** (step / steps)", init=0.5, rate=0.75, steps=7)
def exponential(s, n):
    return n.init * mp.power(n.rate, mp.mpf(s) / n.steps)


@schedule("exponential staircase", "rate ** floor(step / steps)", init=0.5, rate=0.75, steps=7)
def staircase(s, n):
    return n.init * mp.power(n.rate, s // n.steps)


@schedule("step decay", "He et al. 2015, arXiv:1512.03385, section 3.4: divided every so often",
          init=0.5, every=7, factor=0.5)  # fmt: skip
def step_decay(s, n):
    return n.init * mp.power(n.factor, s // n.every)


MILESTONES = "a new value from the milestone on"
MOMENTS = ("holds from its step on", "one step later", "one step sooner")


@schedule("multistep", f"He et al. 2015, arXiv:1512.03385, section 3.4; {MILESTONES}", init=0.5,
          milestones=(5, 12, 20), factor=0.5,
          choices={"milestone": MOMENTS})  # fmt: skip
def multistep(s, n):
    moved = {"one step later": -1, "one step sooner": 1}.get(n.milestone, 0)
    return n.init * mp.power(n.factor, sum(s + moved >= m for m in n.milestones))


@schedule("piecewise constant", f"values between boundaries; {MILESTONES}",
          boundaries=(5, 12), levels=(0.5, 0.25, 0.0625),
          choices={"boundary": MOMENTS})  # fmt: skip
def piecewise_constant(s, n):
    moved = {"one step later": -1, "one step sooner": 1}.get(n.boundary, 0)
    return mp.mpf(n.levels[sum(s + moved >= b for b in n.boundaries)])


@schedule("piecewise linear", "interpolation between points",
          points=((0, 0.125), (5, 0.5), (17, 0.0625)),
          ends=lambda n: n["points"][-1][0])  # fmt: skip
def piecewise_linear(s, n):
    points = [(a, mp.mpf(v)) for a, v in n.points]
    for (a, u), (b, v) in itertools.pairwise(points):
        if s < b:
            return line(u, v, part(s, a, b))
    return points[-1][1]


@schedule("inverse time", "Robbins & Monro 1951; Bottou 2012, section 3: 1 / (1 + rate step)",
          init=0.5, rate=0.5, steps=7)  # fmt: skip
def inverse_time(s, n):
    return n.init / (1 + n.rate * mp.mpf(s) / n.steps)


@schedule(
    "inverse time staircase", "1 / (1 + rate floor(step / steps))", init=0.5, rate=0.5, steps=7
)
def inverse_time_staircase(s, n):
    return n.init / (1 + n.rate * (s // n.steps))


@schedule("inverse sqrt", "Raffel et al. 2020, arXiv:1910.10683, section 3.1.2, after a warm-up",
          peak=0.5, warmup=8)  # fmt: skip
def inverse_sqrt(s, n):
    return warmed(s, n, lambda s: n.peak * mp.sqrt(mp.mpf(n.warmup) / s))


@schedule("Noam", "Vaswani et al. 2017, arXiv:1706.03762, equation 3", dim=64, warmup=8)
def noam(s, n):
    t = mp.mpf(s + 1)
    return min(1 / mp.sqrt(t), t * mp.power(n.warmup, "-1.5")) / mp.sqrt(n.dim)


CLR = "Smith 2017, arXiv:1506.01186, section 3"
CYCLE = {"low": 0.125, "high": 0.5, "up": 6, "down": 9}


def triangle(s, n):
    cycle, s = divmod(s, n.up + n.down)
    return cycle, mp.mpf(s) / n.up if s < n.up else 1 - mp.mpf(s - n.up) / n.down


@schedule("triangular", CLR, **CYCLE)
def triangular(s, n):
    return line(n.low, n.high, triangle(s, n)[1])


@schedule("triangular2", CLR, **CYCLE)
def triangular2(s, n):
    cycle, height = triangle(s, n)
    return line(n.low, n.high, height / 2**cycle)


@schedule("exp_range", CLR, gamma=0.96875, **CYCLE)
def exp_range(s, n):
    return line(n.low, n.high, triangle(s, n)[1] * n.gamma**s)


@schedule(
    "triangular momentum", "Smith 2018, arXiv:1803.09820, section 4.3: inverse to the rate", **CYCLE
)
def triangular_momentum(s, n):
    return line(n.high, n.low, triangle(s, n)[1])


ONE = {"peak": 0.5, "total": 41, "share": 0.25, "div": 16.0, "final": 64.0}
SMITH = "Smith & Topin 2018, arXiv:1708.07120"
LAST = {"ends": lambda n: n["total"] - 1}


def one_cycle(s, n, shape, three):
    low, end, last = n.peak / n.div, n.peak / n.div / n.final, n.total - 1
    top = n.share * n.total - 1 if n.points == "up to share * total - 1" else n.share * last
    if n.points == "whole steps to the total":
        top, last = int(n.share * n.total), n.total
    if s <= top:
        return shape(low, n.peak, mp.mpf(s) / top)
    if not three:
        return shape(n.peak, end, part(s, top, last))
    down = 2 * top
    return (
        shape(n.peak, low, part(s, top, down))
        if s <= down
        else shape(low, end, part(s, down, last))
    )


POINTS = {
    "points": ("up to share * (total - 1)", "up to share * total - 1", "whole steps to the total")
}


@schedule("one cycle", f"{SMITH}, with cosines, Howard & Gugger 2020 (fastai)", **ONE, **LAST,
          choices=POINTS)  # fmt: skip
def one_cycle_cosine(s, n):
    return one_cycle(s, n, half_wave, three=False)


@schedule("one cycle, linear", SMITH, **ONE, **LAST, choices=POINTS)
def one_cycle_linear(s, n):
    return one_cycle(s, n, line, three=False)


@schedule("one cycle, three phases", f"{SMITH}, section 3: back to the first value, then below it",
          **ONE, **LAST, choices=POINTS)  # fmt: skip
def one_cycle_three(s, n):
    return one_cycle(s, n, line, three=True)


@schedule("one cycle momentum", "Smith 2018, arXiv:1803.09820, section 4.3: inverse to the rate",
          peak=0.5, low=0.75, high=0.875, total=41, share=0.25, **LAST, choices=POINTS)  # fmt: skip
def one_cycle_momentum(s, n):
    last = n.total - 1
    top = n.share * n.total - 1 if n.points == "up to share * total - 1" else n.share * last
    return (
        half_wave(n.high, n.low, s / top)
        if s <= top
        else half_wave(n.low, n.high, part(s, top, last))
    )


@schedule("warm-up, constant", "Goyal et al. 2017, arXiv:1706.02677, section 2.2, gradual warm-up",
          peak=0.5, warmup=8)  # fmt: skip
def warmup_constant(s, n):
    return warmed(s, n, lambda s: n.peak)


TOTAL = {"ends": lambda n: n["total"]}


@schedule("warm-up, linear", "Devlin et al. 2018, arXiv:1810.04805, appendix A.2", **WARM, **TOTAL)
def warmup_linear(s, n):
    return warmed(s, n, lambda s: n.peak * (1 - part(s, n.warmup, n.total)))


@schedule(
    "warm-up, cosine", f"Goyal et al. 2017, then {SGDR}", init=0.0625, end=0.03125, **WARM, **TOTAL
)
def warmup_cosine(s, n):
    return warmed(s, n, lambda s: half_wave(n.peak, n.end, part(s, n.warmup, n.total)))


@schedule("warm-up, cosine to 0", f"Goyal et al. 2017, then {SGDR}", **WARM, **TOTAL)
def warmup_cosine_zero(s, n):
    return warmed(s, n, lambda s: half_wave(n.peak, 0, part(s, n.warmup, n.total)))


@schedule("warm-up, polynomial", "Goyal et al. 2017, then the poly policy", end=0.0625, power=2.0,
          **WARM, **TOTAL)  # fmt: skip
def warmup_polynomial(s, n):
    return warmed(s, n, lambda s: line(n.end, n.peak, (1 - part(s, n.warmup, n.total)) ** n.power))


@schedule("warm-up, exponential", "Goyal et al. 2017, then exponential decay", peak=0.5, warmup=8,
          rate=0.5, steps=10)  # fmt: skip
def warmup_exponential(s, n):
    return warmed(s, n, lambda s: n.peak * mp.power(n.rate, mp.mpf(s - n.warmup) / n.steps))


WSD = {
    "peak": 0.5,
    "warmup": 8,
    "stable": 12,
    "decay": 10,
    "ends": lambda n: n["warmup"] + n["stable"] + n["decay"],
}


def stable(s, n, shape):
    start = n.warmup + n.stable
    return warmed(s, n, lambda s: n.peak * shape(part(s, start, start + n.decay)))


@schedule("WSD", "Hu et al. 2024, arXiv:2404.06395, section 4; linear, Haegele et al. 2024", **WSD)
def wsd(s, n):
    return stable(s, n, lambda p: 1 - p)


@schedule("WSD, 1-sqrt", "Haegele et al. 2024, arXiv:2405.18392, equation 1", **WSD)
def wsd_sqrt(s, n):
    return stable(s, n, lambda p: 1 - mp.sqrt(p))


@schedule("WSD, cosine", "Hu et al. 2024, section 4, with SGDR's half wave", **WSD)
def wsd_cosine(s, n):
    return stable(s, n, lambda p: (1 + mp.cos(mp.pi * p)) / 2)


@schedule("flat cosine", "constant, then SGDR's half wave (fastai)", peak=0.5, total=32,
          share=0.75, **TOTAL)  # fmt: skip
def flat_cosine(s, n):
    return half_wave(n.peak, 0, part(s, int(n.share * n.total), n.total))


@schedule("REX", "Chen, Wolfe & Kyrillidis 2021, arXiv:2107.04197, section 3", peak=0.5, steps=16,
          ends=lambda n: n["steps"])  # fmt: skip
def rex(s, n):
    p = part(s, 0, n.steps)
    return n.peak * (1 - p) / (1 - p / 2)


@schedule("tanh", "Hsueh, Li & Wu 2019, arXiv:1806.01593, equation 2", init=0.5, end=0.0, steps=16,
          lower=-6.0, upper=3.0, ends=lambda n: n["steps"],
          choices={"at the end": ("as the curve ends", "the end")})  # fmt: skip
def tanh(s, n):
    p = part(s, 0, n.steps)
    if p == 1 and n["at the end"] == "the end":
        return n.end
    return line(n.end, n.init, (1 - mp.tanh(line(n.lower, n.upper, p))) / 2)


@schedule("range test", "Smith 2017, arXiv:1506.01186, section 3.3: a line without an end",
          init=0.125, every=8, rate=1.0,
          choices={"first step": ("0", "1")})  # fmt: skip
def range_test(s, n):
    first = 1 if n["first step"] == "1" else 0
    return n.init * (1 + n.rate * mp.mpf(s + first) / n.every)


@schedule("warm-up, logarithmic", "DeepSpeed's page: log(step + 1) / log(warmup)", peak=0.5,
          warmup=8)  # fmt: skip
def warmup_log(s, n):
    return n.peak * min(mp.log(s + 1) / mp.log(n.warmup), 1)


@schedule("one triangle", f"{SMITH}, a cycle of two lines that is left at its lowest value",
          ends=lambda n: n["up"] + n["down"], **CYCLE)  # fmt: skip
def one_triangle(s, n):
    return line(n.low, n.high, triangle(s, n)[1]) if s < n.up + n.down else n.low
