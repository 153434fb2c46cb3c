"""The command `what-if`: branches of a run from its checkpoint, and the diagnosis with them."""

from __future__ import annotations

import argparse
import csv
from typing import Any

import stepsize as ss
from stepsize.arrays import data_set
from stepsize.cli.errors import CommandError
from stepsize.cli.loading import load_noted, optimizer_class
from stepsize.cli.output import draw, print_json
from stepsize.training.history import History
from stepsize.validation import prose


def what_if(args: argparse.Namespace) -> int:
    """Go on from a checkpoint at other rates, on copies; neither run nor file is changed."""
    problem, _ = load_noted(args, sized=False)
    history = History.load(args.checkpoint)
    optimizer = _optimizer_of(args, problem, history)
    ss.load(args.checkpoint, problem.params, optimizer)
    result = ss.what_if(
        problem.value_and_grad,
        problem.params,
        optimizer,
        problem.train,
        factors=args.factors,
        steps=args.steps,
        history=history,
        batch_size=_batch_size(args, problem, history),
        progress=None if not args.json else False,
    )
    diagnosis = ss.diagnose(history, what_if=result)
    if args.csv:
        _write(args.csv, result)
    if args.json:
        print_json({**result.to_dict(), **_told(diagnosis)})
    else:
        print(result.table())
        print(prose(result))
        print(f"\n{prose(diagnosis)}")
    draw(args.plot, lambda plots: plots.futures(result, title=problem.name))
    return 0


def _optimizer_of(args: argparse.Namespace, problem: Any, history: Any) -> Any:
    """An optimizer of the rule that the checkpoint names, whose state it is then given."""
    named = history.meta.get("rule")
    if not isinstance(named, str):
        raise CommandError(
            f"--checkpoint {args.checkpoint} does not name a rule: give the file that "
            "train --checkpoint wrote"
        )
    return optimizer_class(named)(problem.params)


def _batch_size(args: argparse.Namespace, problem: Any, history: Any) -> int | None:
    """As given, or as in the run; batches that are given as such have their own."""
    if data_set("train", problem.train) is None:
        return None
    known = history.meta.get("batch_size")
    return args.batch_size or (known if isinstance(known, int) else None)


def _told(diagnosis: Any) -> dict[str, Any]:
    return {
        "verdict": diagnosis.verdict,
        "probabilities": diagnosis.probabilities,
        "suggested_lr": diagnosis.suggested_lr,
        "diagnosis": str(diagnosis),
    }


def _write(path: Any, result: Any) -> None:
    branches = result.to_dict()["branches"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(branches[0]))
        writer.writeheader()
        writer.writerows(branches)
