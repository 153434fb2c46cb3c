"""What the object that each command prints with ``--json`` holds."""

from __future__ import annotations

__all__ = ["KEYS"]

_TABLE = {
    "decisions": "of a table: what was decided about it, one text each",
    "columns": "of a table: how each input is made: name, words or mean and deviation, unit, fill",
    "target": "of a table: the same of the target",
}
# Each key of a command with its meaning; those of `_TABLE` are there for tables alone.
KEYS: dict[str, dict[str, str]] = {
    "demo": {
        "page": "the page that was written",
        "suggestion": "the rate that the range test suggests",
        "rates": "low, right and high: lr, accuracy, loss, verdict",
        "schedules": "by name: mean accuracy on held-out digits",
        "rules": "by name: mean accuracy on held-out digits",
        "holds": "what the demo sets out to show: true or false each",
        "seconds": "how long it took",
    },
    "demo --guide": {
        "page": "the first page of those that were written",
        "claims": "by name of the page: the verdict",
    },
    "find": {
        "suggestion": "the suggested rate; null where there is none",
        "suggestions": "by rule, such as steepest: its rate",
        "confidence": "how far to trust the suggestion",
        "stopped": "why the test ended, in words",
        "lrs": "the rates that were tried",
        "losses": "the loss at each rate",
        "smoothed": "the loss at each rate, smoothed",
        **_TABLE,
    },
    "train": {
        "problem": "its name",
        "optimizer": "the rule, as it was asked for",
        "lr": "the rate: a number, or a schedule as text",
        "final": "the last value of each series, such as loss, val_loss, val_accuracy or val_r2",
        "verdict": "the diagnosis in a word; diverging goes with exit code 3",
        "suggested_lr": "a better rate, or null",
        "diagnosis": "the diagnosis in words",
        **_TABLE,
    },
    "what-if": {
        "branches": "a list: factor, lr, gain and advantage with their errors, ends_at, failure",
        "lr": "the rate at the checkpoint",
        "steps": "of a branch",
        "run_steps": "of the run until the checkpoint",
        "best": "the factor of the best branch",
        "before": "the held-out loss before the branches",
        "average_gain": "what the mean of the parameters gains, and its error; or null",
        "apart": "whether the branches differ by more than chance",
        "memorised": "the share of its loss that is left of one batch learnt alone, or null",
        "memorised_steps": "after how many steps on that batch",
        "interrupted": "whether Ctrl-C ended it",
        "gradients": "how many were computed",
        "values": "how many losses were computed",
        "verdict": "the diagnosis of the run and its branches, in a word",
        "probabilities": "of each verdict",
        "suggested_lr": "a better rate, or null",
        "diagnosis": "the diagnosis in words",
    },
    "predict": {
        "answers": "a list, one for each row: its line, and as text the answer, of a class also "
        "its probability",
        "decisions": "what was decided about the table, one text each",
    },
    "tune": {
        "best": "the best rule; null, with exit code 3, where every trial diverged",
        "rules": "by rule: its best lr and the loss there",
        "line": "the line of Python that makes the best optimizer",
        **_TABLE,
    },
    "schedule": {
        "steps": "how many",
        "schedules": "by expression: the rate at each step",
    },
    "bench": {
        "microseconds": "a list, one for each shape and rule: stepsize, numpy, torch, GB/s",
        "build": "as info gives it",
    },
    "info": {
        "stepsize": "its version",
        "python": "its version",
        "numpy": "its version",
        "machine": "system and processor",
        "target": "the instruction set in use",
        "available_targets": "the instruction sets that this processor has",
        "threads": "how many a step may use",
        "openmp": "whether steps run on several threads",
        "compiler": "what compiled it",
        "extras": "the extras whose libraries are there",
        "optimizers": "the names of all rules",
    },
}
