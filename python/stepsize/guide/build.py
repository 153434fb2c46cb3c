"""Runs the guide's experiments, two at a time, and writes its pages."""

from __future__ import annotations

import importlib.util
import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from types import CodeType
from typing import Any

from stepsize.guide.claim import CONDITION, FAILS, HOLDS, Claim, Result
from stepsize.guide.extras import paths_page, start_page
from stepsize.plots.style import offscreen
from stepsize.report import Page, Tone
from stepsize.serialization.replaceable import check_replaceable

__all__ = ["Result", "build", "pages"]

TONES: dict[str, Tone] = {HOLDS: "good", CONDITION: "fair", FAILS: "bad"}
SEEDS, QUICK_SEEDS = 5, 2


def pages() -> dict[str, Claim]:
    """All pages by name, in reading order."""
    from stepsize.guide import adapting, basics, choosing, decays, judging, rules

    modules: tuple[Any, ...] = (basics, decays, rules, choosing, adapting, judging)
    return {claim.name: claim for module in modules for claim in module.PAGES}


def build(
    out: str | Path = "stepsize-guide",
    *,
    only: Iterable[str] = (),
    quick: bool = False,
    jobs: int | None = None,
    progress: bool | None = None,
) -> list[Result]:
    """Run the experiments and write one page each and an index into `out`; returns the findings.

    `only` names the pages wanted. `quick` takes two seeds and less of everything. The numbers do
    not depend on `jobs`, the number of processes (default: the processors at hand).
    """
    known = pages()
    names = list(only) or list(known)
    check_only(names)
    for name in names:
        _check_needs(known[name])
    for page in (*names, "index", "paths", "start") if Path(out).is_dir() else ():
        check_replaceable("guide: out", Path(out) / f"{page}.html", "report of stepsize")
    seeds = QUICK_SEEDS if quick else SEEDS
    tasks = [(name, seed, quick) for name in names for seed in range(seeds)]
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for (name, seed, _), (values, took) in _watched(_run(tasks, jobs), len(tasks), progress):
        found[name][seed] = values
        seconds[name] += took
    with offscreen():
        return _write(Path(out), known, found, seconds, seeds, quick, extras=not only)


def check_only(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no page of the guide."""
    known = pages()
    for name in names:
        if name not in known:
            raise ValueError(f"there is no page {name!r}; there are: {', '.join(known)}")


def _write(
    out: Path,
    known: dict[str, Claim],
    found: dict[str, dict[int, dict[str, Any]]],
    seconds: dict[str, float],
    seeds: int,
    quick: bool,
    extras: bool,
) -> list[Result]:
    """Judge what was found, and write the pages."""
    results = []
    for name, values in found.items():
        finding = known[name].judge([values[seed] for seed in range(seeds)])
        results.append(Result(known[name], finding, seeds, seconds[name]))
    for number, result in enumerate(results):
        _page(result, results, number).write(out / f"{result.claim.name}.html")
    _index(results, quick, extras).write(out / "index.html")
    if extras:
        paths_page(quick).write(out / "paths.html")
        start_page(results).write(out / "start.html")
    return results


def _check_needs(claim: Claim) -> None:
    for module in ("sklearn", "matplotlib", *claim.needs):
        if importlib.util.find_spec(module) is None:
            raise ImportError(
                f'the page {claim.name} needs {module}: pip install "stepsize[demo,tune]"'
            )


Task = tuple[str, int, bool]
Done = tuple[Task, tuple[dict[str, Any], float]]


def _one(task: Task) -> tuple[dict[str, Any], float]:
    name, seed, quick = task
    # Processor time: what else the machine does is no part of the experiment.
    started = time.process_time()
    values = pages()[name].experiment(seed, quick)
    return values, time.process_time() - started


def _processors() -> int:
    """Those this process may use, where the system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(tasks: list[Task], jobs: int | None) -> Iterator[Done]:
    """Results as they come; the longest-running pages are not known, so the order is as given."""
    jobs = jobs or min(_processors(), len(tasks))
    if jobs == 1:
        for task in tasks:
            yield task, _one(task)
        return
    # One thread each: the processes already fill the processors. Read when NumPy is imported.
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(kept, "1"))
    try:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_one, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result()
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _watched(done: Iterator[Done], total: int, progress: bool | None) -> Iterator[Done]:
    from tqdm import tqdm

    # None lets tqdm decide: a bar in a terminal, silence elsewhere.
    disable = None if progress is None else not progress
    yield from tqdm(done, total=total, desc="guide", unit="run", disable=disable)


def _source(function: Callable[..., Any]) -> str:
    return inspect.getsource(function)


def _names(code: CodeType) -> list[str]:
    """The names that code uses, also in its comprehensions and inner functions."""
    inner = [name for part in code.co_consts if isinstance(part, CodeType) for name in _names(part)]
    return [*code.co_names, *inner]


def _helpers(experiment: Callable[..., Any]) -> str:
    """The source of the package's functions that the experiment calls, and of those they call."""
    found: dict[str, Callable[..., Any]] = {}
    waiting = [experiment]
    while waiting:
        function = waiting.pop()
        for name in _names(function.__code__):
            value = getattr(function, "__globals__", {}).get(name)
            ours = getattr(value, "__module__", "").startswith("stepsize.guide")
            if ours and inspect.isfunction(value) and name not in found:
                found[name] = value
                waiting.append(value)
    return "\n\n".join(_source(function) for function in found.values())


def _page(result: Result, results: list[Result], number: int) -> Page:
    claim, finding = result.claim, result.finding
    page = Page(claim.title)
    page.raw('<p class="note"><a href="index.html">The guide</a></p>')
    page.text(claim.text)
    page.verdict(f"{finding.verdict.capitalize()}.", finding.measured, TONES[finding.verdict])
    page.figures(finding.figures)
    if finding.rows:
        page.table(finding.header, finding.rows)
    page.note(
        f"{result.seeds} seeds; mean, and lowest to highest in brackets. "
        f"{result.seconds:.0f} s of processor time."
    )
    page.heading("How it is judged")
    page.text(finding.criterion)
    page.heading("The experiment")
    page.code(_source(claim.experiment))
    helpers = _helpers(claim.experiment)
    if helpers:
        page.raw("<details><summary>The helpers it uses</summary>")
        page.code(helpers)
        page.raw("</details>")
    page.raw(_neighbours(results, number))
    return page


def _neighbours(results: list[Result], number: int) -> str:
    links = []
    for step, word in ((-1, "Before"), (1, "Next")):
        if 0 <= number + step < len(results):
            other = results[number + step].claim
            links.append(f'{word}: <a href="{other.name}.html">{other.title}</a>')
    return f"<footer>{'<br>'.join(links)}</footer>"


def _index(results: list[Result], quick: bool, extras: bool) -> Page:
    page = Page(
        "The learning rate, claim by claim",
        "What articles and papers say about the learning rate, each as an experiment that ran on "
        "this machine, with its numbers and an honest verdict.",
    )
    counts = [sum(r.finding.verdict == v for r in results) for v in (HOLDS, CONDITION, FAILS)]
    page.cards(
        [
            (f"{counts[0]}", "hold"),
            (f"{counts[1]}", "hold under a condition that the page states"),
            (f"{counts[2]}", "do not hold here"),
        ]
    )
    if extras:
        page.raw(
            '<p><a href="start.html">Which rate, schedule and rule should I start with?</a> · '
            '<a href="paths.html">Paths of the rules over five landscapes</a></p>'
        )
    items = [
        f'<li><a href="{r.claim.name}.html">{r.claim.title}</a> '
        f'<span class="mark {TONES[r.finding.verdict]}">{r.finding.verdict}</span></li>'
        for r in results
    ]
    page.raw(f"<nav><ol>{''.join(items)}</ol></nav>")
    if quick:
        page.note("This is the quick form: two seeds and short runs. Its verdicts are provisional.")
    return page
