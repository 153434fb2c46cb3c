"""`python -m conformance torch`: what of a library agrees, and to how many digits."""

import argparse
import json
import sys

from . import rules, schedules  # noqa: F401
from .adapters import NAMES, adapter
from .compare import rule_results, schedule_results
from .registry import RULES, SCHEDULES


def main(argv=None):
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("library", nargs="?", help=", ".join(NAMES))
    parser.add_argument("--rule", action="append", help="a rule or schedule by its name")
    parser.add_argument("--list", action="store_true", help="what is stated, and its source")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    options = parser.parse_args(argv)
    if options.list or not options.library:
        for name, stated in (RULES | SCHEDULES).items():
            print(f"{name:24} {stated.source}")
        return 0
    library = adapter(options.library)
    report = {"library": options.library, "version": library.version(), "results": []}
    report["stated"] = {"rules": len(RULES), "schedules": len(SCHEDULES)}
    for names, results in ((library.rules, rule_results), (library.schedules, schedule_results)):
        for name in names:
            if not options.rule or name in options.rule:
                for result in results(library, name):
                    report["results"].append(result.row())
                    show(result)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)
    return 0


def show(result):
    figure = "" if result.digits is None else f"{result.digits:5.1f}"
    if result.documented is not None:
        figure += f" ({result.documented:.1f})"
    print(f"{result.rule:20} {result.case:26} {result.verdict:14} {figure:13} {result.note}")
    if result.example:
        print(f"{'':20} {result.example}")


if __name__ == "__main__":
    sys.exit(main())
