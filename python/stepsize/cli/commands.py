"""What each command does, once its arguments are read; each returns an exit code."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import stepsize as ss
from stepsize.cli.branching import what_if
from stepsize.cli.errors import CommandError, RunError, usage
from stepsize.cli.loading import load_noted, optimizer_class, parse_lr, started_rate
from stepsize.cli.output import columns, draw, print_json
from stepsize.cli.predicting import predict as predictions
from stepsize.cli.predicting import to_extra
from stepsize.cli.reporting import (
    final,
    in_words_of_options,
    labelled,
    next_command,
    story_told,
    told,
    write_report,
    write_trials,
)
from stepsize.cli.tables import Prepared
from stepsize.cli.watch import watch
from stepsize.plots.style import number
from stepsize.schedules import expression
from stepsize.validation import prose

__all__ = [
    "bench", "demo", "find", "info", "predict", "schedule", "train", "tune", "watch", "what_if",
]  # fmt: skip

DIVERGED = 3
_ROWS = 10_000_000  # in a file of numbers
_EXTRAS = {"plot": "matplotlib", "demo": "sklearn", "tune": "optuna", "peers": "torch"}


def demo(args: argparse.Namespace) -> int:
    """The story on digits, or the guide."""
    if args.guide:
        return _guide(args)
    if args.only:
        raise CommandError("--only names pages of the guide: add --guide")
    from stepsize.demo import run

    out = args.out or Path("stepsize-report")
    out.mkdir(parents=True, exist_ok=True)  # what cannot be written to is said first
    story = run(out, seed=args.seed or 0, quick=args.quick)
    if args.json:
        print_json(story_told(story, out / "report.html"))
    return 0


def _guide(args: argparse.Namespace) -> int:
    from stepsize.guide.build import build, check_only

    if args.seed is not None:
        raise CommandError("--seed does not go with --guide: the guide uses seeds of its own")
    out = args.out or Path("stepsize-guide")
    with usage("--only"):
        check_only(args.only or ())
    results = build(out, only=args.only or (), quick=args.quick)
    if args.json:
        print_json(
            {
                "page": out / "index.html",
                "claims": {r.claim.name: r.finding.verdict for r in results},
            }
        )
        return 0
    print(columns([r.claim.name, r.finding.verdict] for r in results))
    print(f"\nGuide: {out / 'index.html'}")
    return 0


def _range_test(args: argparse.Namespace, problem: Any, rule: Any, **settings: Any) -> Any:
    batches = problem.batches(args.batch_size, args.seed)
    return ss.lr_find(problem.value_and_grad, problem.params, batches, optimizer=rule, **settings)


def _found_rate(args: argparse.Namespace, problem: Any, rule: Any) -> float:
    if rule.needs_closure:  # it searches along its line for itself
        return float(rule.fields["lr"].default)
    result = _range_test(args, problem, rule)
    if not math.isfinite(result.suggestion):
        name = rule.__name__
        raise RunError(f"the range test finds no rate for {name}, because {result.why}")
    return float(result.suggestion)


def find(args: argparse.Namespace) -> int:
    """A range test on the user's problem."""
    rule = optimizer_class(args.optimizer)
    if args.lr_min >= args.lr_max:
        raise CommandError(f"--lr-min {args.lr_min:g} must be below --lr-max {args.lr_max:g}")
    problem, prepared = load_noted(args)
    if rule.needs_closure:
        raise CommandError(f"{rule.__name__} searches along each step for itself: just train")
    result = _range_test(
        args,
        problem,
        rule,
        lr_min=args.lr_min,
        lr_max=args.lr_max,
        steps=args.steps,
        repeats=args.repeats,
    )
    if args.csv:
        result.to_csv(args.csv)
    if args.json:
        names = ("suggestion", "suggestions", "confidence", "stopped", "lrs", "losses", "smoothed")
        print_json({name: getattr(result, name) for name in names} | told(prepared))
    else:
        print(result.plot_text())
        print(prose(result))
    draw(args.plot, lambda plots: plots.range_test(result, title=f"{problem.name}: range test"))
    return 0


def train(args: argparse.Namespace) -> int:
    """A training run on the user's problem, with its diagnosis."""
    if args.resume and args.checkpoint is None:
        raise CommandError("--resume needs --checkpoint FILE to continue from")
    rule = optimizer_class(args.optimizer)
    lr = None if args.lr is None else parse_lr(args.lr)
    problem, prepared = load_noted(args)
    if lr is None and args.resume and os.path.exists(args.checkpoint):
        lr = started_rate(args.checkpoint)
    elif lr is None:
        lr = _found_rate(args, problem, rule)
        print(f"learning rate found: {number(lr)}", file=sys.stderr)
    optimizer = rule(problem.params, lr=lr)
    history = ss.fit(
        problem.value_and_grad,
        problem.params,
        optimizer,
        problem.train,
        epochs=args.epochs if args.epochs or args.steps else 10,
        steps=args.steps,
        batch_size=args.batch_size,
        validation=problem.validation,
        evaluate=problem.evaluate,
        seed=args.seed,
        checkpoint=args.checkpoint,
        resume=args.resume,
        callbacks=[ss.JSONLogger(args.log)] if args.log else [],
        progress=sys.stderr.isatty() and not args.json,
    )
    diagnosis = in_words_of_options(ss.diagnose(history))
    if args.csv:
        history.to_csv(args.csv)
    if args.save:
        extra = to_extra(prepared) if prepared else None
        ss.save(args.save, problem.params, optimizer, extra=extra)
    _report_training(args, problem, lr, history, diagnosis, prepared)
    if args.report:
        write_report(args.report, problem, rule.__name__, lr, history, diagnosis)
        print(f"report: {args.report}", file=sys.stderr)
    draw(args.plot, lambda plots: plots.run_curves(history, title=problem.name))
    if str(history.stopped).startswith("interrupted"):
        raise KeyboardInterrupt
    return DIVERGED if diagnosis.verdict == "diverging" else 0


def predict(args: argparse.Namespace) -> int:
    """A prediction for each row of a table."""
    for note in predictions(
        args.model, args.table, args.out, args.decimal, args.json, args.encoding
    ):
        print(note, file=sys.stderr)
    return 0


def _report_training(
    args: argparse.Namespace,
    problem: Any,
    lr: Any,
    history: Any,
    diagnosis: Any,
    prepared: Prepared | None,
) -> None:
    ends = final(history)
    if args.json:
        print_json(
            {
                "problem": problem.name,
                "optimizer": args.optimizer,
                "lr": lr,
                "final": ends,
                "verdict": diagnosis.verdict,
                "suggested_lr": diagnosis.suggested_lr,
                "diagnosis": str(diagnosis),
                **told(prepared),
            }
        )
        return
    from stepsize import plots

    if np.isfinite(history["loss"]).any():
        print(plots.text_learning_curves(history))
    else:
        print("the loss is finite at no step: no curve to draw")
    print(columns(labelled(ends)))
    print()
    print(prose(diagnosis))


def tune(args: argparse.Namespace) -> int:
    """A search over rates, for one rule after the other."""
    if args.retry_failed and not args.storage:
        raise CommandError("--retry-failed is for the trials of a file: give --storage FILE too")
    rules = {name: optimizer_class(name, "--optimizers") for name in args.optimizers}
    problem, prepared = load_noted(args)
    if problem.validation is None:
        raise RunError("tune judges by the validation loss: give the problem validation data")
    results = {}
    for name, rule in rules.items():
        found = _found_rate(args, problem, rule)
        results[name] = ss.tune(
            _Objective(args, problem, rule),
            {"lr": ss.LogUniform(found / 30, found * 30)},
            trials=args.trials,
            method=args.method,
            prior=found if args.method in ("lr", "tpe") else None,
            storage=args.storage and args.storage.with_suffix(f".{name}{args.storage.suffix}"),
            retry_failed=args.retry_failed,
            seed=args.seed,
            on_error="raise",
        )
        if results[name].stopped:
            raise KeyboardInterrupt
    best = min(results, key=lambda name: results[name].best_value)
    if not math.isfinite(results[best].best_value):
        print("stepsize tune: every trial diverged", file=sys.stderr)
        if args.json:
            lost = {n: {"lr": r.best.get("lr"), "loss": None} for n, r in results.items()}
            print_json({"best": None, "rules": lost, "line": None} | told(prepared))
        return DIVERGED
    if args.csv:
        write_trials(args.csv, results)
    line = f"optimizer = ss.{rules[best].__name__}(params, lr={results[best].best['lr']:.3g})"
    if args.json:
        values = {n: {"lr": r.best.get("lr"), "loss": r.best_value} for n, r in results.items()}
        print_json({"best": best, "rules": values, "line": line} | told(prepared))
    else:
        rates = {n: f"{r.best['lr']:.3g}" if r.best else "none" for n, r in results.items()}
        rows = [
            [n, number(float(rates[n])) if r.best else rates[n], f"{r.best_value:.4g}"]
            for n, r in results.items()
        ]
        print(columns([["rule", "best rate", "validation loss"], *rows]))
        print(next_command(args, best, results[best].best["lr"]) if args.target else line)
    draw(args.plot, lambda plots: plots.tuning(results[best], title=f"{problem.name}: {best}"))
    return 0


class _Objective:
    """The validation loss of a training at one rate; reports every epoch so that it may stop."""

    def __init__(self, args: argparse.Namespace, problem: Any, rule: Any) -> None:
        self.args, self.problem, self.rule = args, problem, rule

    def __call__(self, point: dict[str, Any], trial: Any) -> float:
        problem = self.problem.fresh()

        class Report:
            def on_epoch(self, run: Any) -> None:
                trial.report(run.epoch, run.history.last("val_loss"))

        history = ss.fit(
            problem.value_and_grad,
            problem.params,
            self.rule(problem.params, lr=point["lr"]),
            problem.train,
            epochs=self.args.epochs,
            batch_size=self.args.batch_size,
            validation=problem.validation,
            evaluate=problem.evaluate,
            callbacks=(Report(),),
            seed=self.args.seed,
            progress=False,
        )
        if str(history.stopped).startswith("interrupted"):
            raise KeyboardInterrupt
        lost = "val_loss" not in history or not math.isfinite(history["loss"][-1])
        return math.inf if lost else float(history.last("val_loss"))


def bench(args: argparse.Namespace) -> int:
    """Step times on this machine."""
    from stepsize.cli.bench import SHAPES, measure

    found = [optimizer_class(name, "--optimizers") for name in args.optimizers]
    rules = {rule.__name__: rule for rule in found}
    for name, rule in rules.items():
        if rule.needs_closure:
            raise CommandError(f"--optimizers: {name} calls the function of its steps: no bench")
    shapes = [shape for shape in SHAPES if not (args.quick and shape == "1 x 10,000,000")]
    rows = measure(rules, shapes, args.seconds)
    if args.json:
        print_json({"microseconds": rows, "build": ss.build_info()})
        return 0
    names = ["stepsize", *(n for n in ("torch", "numpy") if any(n in row for row in rows))]
    shown = {name: (name, "{:,.1f}") for name in names}
    shown |= {"GB/s": ("gb_s", "{:.0f}"), "of triad": ("share_of_triad", "{:.0%}")}
    cells = [
        [f"{row['tensors']}  {row['rule']}"]
        + [form.format(row[key]) if key in row else "" for key, form in shown.values()]
        for row in rows
    ]
    info = ss.build_info()
    print(f"microseconds per step, float32, {info['target']}, {info['threads']} threads\n")
    print(columns([["tensors and rule", *shown], *cells]))
    triads = [row["triad_gb_s"] for row in rows if "triad_gb_s" in row]
    if triads:
        print(f"\nThe triad, x = x / 2 + y in turns with the step: up to {max(triads):.0f} GB/s.")
    return 0


def schedule(args: argparse.Namespace) -> int:
    """Schedules, each an expression, as text, picture and numbers."""
    with usage():
        schedules = {text: expression.parse(text) for text in args.expressions}
    lengths = [getattr(one, "length", math.inf) for one in schedules.values()]
    finite = [math.ceil(length) for length in lengths if math.isfinite(length)]
    # One step more than the longest shows the value that is held from then on.
    steps = args.steps or (max(finite) + 1 if finite else 1000)
    if (args.csv or args.json) and steps > _ROWS:
        raise CommandError(f"{steps:,} rows are more than {_ROWS:,}; say how many with --steps")
    values = {}
    if args.csv or args.json:
        values = {text: one.values(steps) for text, one in schedules.items()}
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", *values])
            writer.writerows(zip(range(steps), *values.values(), strict=True))
    if args.json:
        print_json({"steps": steps, "schedules": values})
    else:
        _print_schedules(schedules, steps)
    draw(args.plot, lambda plots: plots.schedule(schedules, steps=steps))
    return 0


def _print_schedules(schedules: dict[str, Any], steps: int) -> None:
    from stepsize import plots

    letters = {text: chr(ord("A") + i % 26) for i, text in enumerate(schedules)}
    named = {letters[text] if len(schedules) > 1 else "": one for text, one in schedules.items()}
    print(plots.text_schedule(named, steps=steps))
    print()
    marks = sorted(
        {round(share * (steps - 1)) for share in (0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1)}
    )
    rows = [["step", *(f"{mark:,}" for mark in marks)]]
    rows += [
        [letters[text] if len(schedules) > 1 else "rate", *(f"{one(mark):.4g}" for mark in marks)]
        for text, one in schedules.items()
    ]
    print(columns(rows))
    print()
    for text, one in schedules.items():
        name = f"{letters[text]}  " if len(schedules) > 1 else ""
        print(f"{name}{one!r}")


def info(args: argparse.Namespace) -> int:
    """Versions and build."""
    facts: dict[str, Any] = {
        "stepsize": ss.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    facts |= {name: value for name, value in ss.build_info().items() if name != "version"}
    found = {extra: importlib.util.find_spec(name) is not None for extra, name in _EXTRAS.items()}
    facts["extras"] = [extra for extra, here in found.items() if here]
    facts["optimizers"] = [cls.__name__ for cls in ss.optimizers.registry()]
    if args.json:
        print_json(facts)
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        print(prose(f"{name:<{width}}  {words}", indent=width + 2))
    return 0
