"""Arguments and exit codes of the `stepsize` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stepsize.cli import watch
from stepsize.cli.argument_types import at_least, folder, names, number, positive, rates, sizes
from stepsize.cli.helping import Help

__all__ = ["main"]

_DESCRIPTION = "Find, schedule and judge the learning rate of gradient descent."
_EPILOG = """\
start here:
  stepsize demo                 the whole story on real data, under a minute
  stepsize find  model.py:make  which learning rate suits my model?
  stepsize train model.py:make  train with it, and say how the run went
  stepsize train table.csv --target species  a network for a table

model.py holds a function that takes nothing and returns an ss.Problem:
  import stepsize as ss
  def make():
      return ss.Problem(params, value_and_grad, train=(x, y), validation=held)

exit codes: 0 done, 1 what was asked for failed, 2 wrong words, file or table, 3 diverged,
130 interrupted
"""
_TARGET = (
    "FILE.py:FUNCTION or module:FUNCTION, returning an ss.Problem; or a table: "
    "FILE.csv, .tsv, .xlsx, .json, .npz or .parquet, or - for text from standard input, with "
    "--target COLUMN"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on stderr."""
    from stepsize.cli.streams import end_of_reading

    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stepsize: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        end_of_reading()  # `stepsize schedule ... | head` has seen enough
        return 1
    except OSError as error:  # such as a full disk
        end_of_reading()
        print(f"stepsize: error: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def _run(argv: Sequence[str] | None) -> int:
    import signal

    from stepsize.cli.streams import kept_for_json, spell_out

    spell_out()
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as leave:
        return int(leave.code or 0)
    if args.command is None:
        parser.print_help()
        return 2
    from stepsize.cli import commands
    from stepsize.cli.errors import CommandError, in_words, raised_at
    from stepsize.cli.output import check_paths
    from stepsize.errors import CheckpointError

    handler = signal.getsignal(signal.SIGINT)
    if getattr(handler, "__module__", "") == "stepsize":  # of the time before there was work
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run: Callable[[argparse.Namespace], int] = getattr(commands, args.command.replace("-", "_"))
    try:
        check_paths(args)
        with kept_for_json(getattr(args, "json", False)):
            return run(args)
    except BrokenPipeError:
        raise
    except Exception as error:
        place = raised_at(error, getattr(args, "problem", ""))
        known = (CommandError, ArithmeticError, ImportError, OSError, RuntimeError)
        if args.traceback or not (place or isinstance(error, (*known, TypeError, ValueError))):
            raise  # what is of no known kind is a mistake of ours
        print(f"stepsize {args.command}: error: {in_words(error, place)}", file=sys.stderr)
        files = isinstance(error, CheckpointError | OSError) and not place
        return getattr(error, "exit_code", 2 if files else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "stepsize",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=Help,
    )
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("stepsize")
    except PackageNotFoundError:
        number = "(not installed)"
    parser.add_argument("--version", action="version", version=f"stepsize {number}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (_add_demo, _add_find, _add_train, _add_watch, _add_what_if):
        add(commands)
    for add in (_add_predict, _add_tune, _add_schedule, _add_bench, _add_info):
        add(commands)
    return parser


if TYPE_CHECKING:
    _Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(commands: _Commands, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=Help,
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error came from"
    )
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, and nothing else, instead"
    )


def _add_demo(commands: _Commands) -> None:
    parser = _command(
        commands,
        "demo",
        "Show on handwritten digits what the learning rate does.",
        "Writes report.html, one self-contained page, and its pictures as PNG files.\n"
        "With --guide it writes some thirty pages, in a few minutes.\n"
        'Needs the extra: pip install "stepsize[demo]", for the guide "stepsize[demo,tune]"',
    )
    parser.add_argument(
        "--out", type=folder, metavar="DIR", help="default: stepsize-report, or stepsize-guide"
    )
    parser.add_argument(
        "--seed", type=at_least(0), help="draws data split, weights and batches (default 0)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: fewer epochs and rates"
    )
    parser.add_argument(
        "--guide",
        action="store_true",
        help="build the guide instead: every claim about the rate as an experiment with a verdict",
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="with --guide: this page; may be repeated"
    )
    _add_json(parser)


def _add_running(parser: argparse.ArgumentParser, optimizer: bool = True) -> None:
    parser.add_argument("problem", help=_TARGET)
    if optimizer:
        parser.add_argument(
            "--optimizer", default="SGD", metavar="NAME", help="the rule, such as SGD or AdamW"
        )
    parser.add_argument("--target", metavar="COLUMN", help="of a table: what to predict")
    parser.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN", help="of a table: leave it out"
    )
    parser.add_argument(
        "--task",
        choices=("auto", "classification", "regression"),
        default="auto",
        help="of a table: what the target is (default: judged by its values)",
    )
    parser.add_argument(
        "--decimal", choices=(".", ","), help="of a table: its decimal sign (default: judged)"
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="of a table: such as cp1251 (default: judged)"
    )
    parser.add_argument(
        "--hidden",
        type=sizes,
        default=(32,),
        metavar="N,N",
        help="of a table: units of the hidden layers, 0 for a linear model (default: 32)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="rows (default: about 32, with a last batch that is at least half full)",
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="draws the order of the batches"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw to .png, .svg or .pdf")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the numbers")
    _add_json(parser)


def _add_find(commands: _Commands) -> None:
    parser = _command(
        commands,
        "find",
        "Find a learning rate by a range test: raise it step by step and watch the loss.",
        "example:\n  stepsize find model.py:make --optimizer AdamW --plot range.png\n\n"
        "The parameters are copied: nothing is trained.",
    )
    _add_running(parser)
    parser.add_argument("--lr-min", type=number, default=1e-7, metavar="RATE")
    parser.add_argument("--lr-max", type=number, default=10.0, metavar="RATE")
    parser.add_argument("--steps", type=at_least(20), default=100, metavar="N")
    parser.add_argument("--repeats", type=positive, default=1, metavar="N", help="tests to combine")


def _add_train(commands: _Commands) -> None:
    parser = _command(
        commands,
        "train",
        "Train, then say how the run went and what to change.",
        "example:\n"
        "  stepsize train iris.csv --target species --report run.html\n"
        "  stepsize train model.py:make --optimizer Adam --epochs 20\n"
        '  stepsize train model.py:make --lr "warmup_cosine(0.1, 50, 800)" --steps 800\n\n'
        "Without --lr the rate is found first. With --checkpoint a run that was interrupted\n"
        "continues where it stopped when it is started again with --resume.",
    )
    _add_running(parser)
    parser.add_argument("--lr", metavar="RATE", help="a number or a schedule; default: find it")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive, metavar="N", help="default: 10")
    length.add_argument("--steps", type=positive, metavar="N")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="written every epoch")
    parser.add_argument("--resume", action="store_true", help="continue from --checkpoint")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a web page of the run")
    parser.add_argument("--log", type=Path, metavar="FILE", help="of each step, for stepsize watch")
    parser.add_argument("--save", type=Path, metavar="FILE", help="parameters and state at the end")


def _add_watch(commands: _Commands) -> None:
    watch.add_arguments(_command(commands, "watch", watch.SUMMARY, watch.EPILOG))


def _add_what_if(commands: _Commands) -> None:
    parser = _command(
        commands,
        "what-if",
        "See how a run would go on at other rates, from its checkpoint.",
        "example:\n"
        "  stepsize train model.py:make --epochs 20 --checkpoint run.safetensors\n"
        "  stepsize what-if model.py:make --checkpoint run.safetensors --plot futures.png\n\n"
        "Branches go on for a twentieth of the run, on copies: the file is only read. The\n"
        "diagnosis at the end is of the run and its branches.",
    )
    _add_running(parser, optimizer=False)
    parser.set_defaults(batch_size=None)  # that of the run
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", required=True, help="written by train"
    )
    parser.add_argument(
        "--factors",
        type=rates,
        default=(0.1, 0.3, 1, 10),
        metavar="F,F",
        help="of the rate (default: 0.1,0.3,1,10)",
    )
    parser.add_argument(
        "--steps", type=positive, metavar="N", help="of a branch (default: a twentieth of the run)"
    )


def _add_predict(commands: _Commands) -> None:
    parser = _command(
        commands,
        "predict",
        "Predict for the rows of a table with a network that was trained on one.",
        "example:\n"
        "  stepsize train iris.csv --target species --save iris.safetensors\n"
        "  stepsize predict iris.safetensors new.csv --out answers.csv\n"
        "  grep 2026 new.csv | stepsize predict iris.safetensors - > answers.csv\n\n"
        "Columns are found by name and read as when the model was trained; the target may be\n"
        "missing. There is an answer for every row; that of a row without any value is empty.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="written by train --save")
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE",
        help=".csv, .tsv, .xlsx, .json, .npz or .parquet, or - for text from standard input",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--decimal",
        choices=(".", ","),
        help="the decimal sign (default: as trained, unless the table proves another)",
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="of the table, such as cp1251 (default: judged)"
    )
    _add_json(parser)


def _add_tune(commands: _Commands) -> None:
    parser = _command(
        commands,
        "tune",
        "Search for the rule and rate with the lowest validation loss.",
        "example:\n"
        "  stepsize tune iris.csv --target species --optimizers SGD,Adam\n"
        "  stepsize tune model.py:make --optimizers SGD,Adam --trials 20\n\n"
        "The range test says where each rule's search begins. With --storage a search that was\n"
        'interrupted goes on where it was. The method tpe needs: pip install "stepsize[tune]"',
    )
    _add_running(parser, optimizer=False)
    parser.add_argument(
        "--optimizers",
        type=names,
        default=("SGD", "Adam"),
        metavar="NAME,NAME",
        help="rules to compare (default: SGD,Adam)",
    )
    parser.add_argument("--trials", type=positive, default=12, metavar="N", help="per rule")
    parser.add_argument("--epochs", type=positive, default=10, metavar="N", help="per trial")
    parser.add_argument(
        "--method", choices=("lr", "tpe", "random", "grid", "halving"), default="lr"
    )
    parser.add_argument("--storage", type=Path, metavar="FILE", help="keeps the trials")
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --storage: make the trials in it again that failed or were killed",
    )


def _add_bench(commands: _Commands) -> None:
    parser = _command(
        commands,
        "bench",
        "Measure how long a step takes on this machine.",
        "Beside it stand Adam written by hand in NumPy and, where it is installed, torch (fused\n"
        "where it can). Medians in microseconds; other work on the machine shows in them.\n"
        "GB/s are of what a step must move, beside those of a plain loop over two arrays, the\n"
        "triad. No step looks for NaN here, as torch's do not.",
    )
    parser.add_argument(
        "--optimizers",
        type=names,
        default=("SGD", "Adam", "AdamW", "RMSprop"),
        metavar="NAME,NAME",
    )
    parser.add_argument(
        "--seconds", type=number, default=0.3, metavar="S", help="per measurement (default: 0.3)"
    )
    parser.add_argument("--quick", action="store_true", help="leave out the largest size")
    _add_json(parser)


def _add_schedule(commands: _Commands) -> None:
    parser = _command(
        commands,
        "schedule",
        "Print and draw learning-rate schedules.",
        "examples:\n"
        '  stepsize schedule "warmup_cosine(3e-3, 100, 2000)"\n'
        '  stepsize schedule "linear(0, 1, 50).then(rex(1, 350), at=50)" --steps 400\n'
        '  stepsize schedule "cosine(1, 0, 100)" "step_decay(1, 25, 0.5)" --plot both.png\n\n'
        "An expression may use the functions of stepsize.schedules, numbers, lists, + - * / and\n"
        "the methods of a schedule: all that Python prints for one can be given here.",
    )
    parser.add_argument("expressions", nargs="+", metavar="EXPRESSION")
    parser.add_argument("--steps", type=positive, metavar="N", help="default: the whole schedule")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw to .png, .svg or .pdf")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every step's rate")
    _add_json(parser)


def _add_info(commands: _Commands) -> None:
    parser = _command(
        commands,
        "info",
        "Show the version, how it was built, and what runs on this machine.",
        "Paste it into a bug report.",
    )
    _add_json(parser)
