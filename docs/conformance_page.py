"""The page of conformance, made from committed results: ``python docs/conformance_page.py``.

The results are those of ``python -m conformance LIBRARY --json FILE``, from the folder ``tests``.
"""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).parent
RESULTS = DOCS / "conformance-results"
PAGE = DOCS / "conformance.md"

INTRODUCTION = """# Conformance

How far libraries compute what papers state. The folder `tests/conformance` states {rules} rules and
{schedules} schedules from their sources in arithmetic of 50 digits, without any library, and runs
libraries beside the statements: the same numbers, starts and gradients, each exact in binary. The
figure is the number of decimal digits that agree over 12 steps, relative to the largest move, in
double precision where a library has it. A library may follow its own documentation where that
departs from the paper: then both figures are taken, and `documented` says with which choices the
statement is what it computes (for stepsize these were read in its documentation; those of torch and
Keras are as we know them, and elsewhere the paper alone is asked). What is left is a *difference*,
with the smallest example that the suite finds by itself, and the choices that would explain it. It
says that library and statement are apart, not which of them is at fault. What a library cannot be
told is not counted.

```text
cd tests
python -m conformance torch                # which rules and schedules agree, to how many digits
python -m conformance torch --rule NAdam   # one of them
python -m conformance --list               # what is stated, and its source
```

For other libraries and languages the folder `tests/conformance/vectors` has every case as JSON:
numbers, start, gradients and the exact results as decimals.
"""

KNOWN = """Four differences were known from reports before the suite was run. Two it finds in the
versions above: Rprop one step late (optax), and a one-cycle schedule that rises, or falls below 0,
past its end (torch). The other two are of DeepSpeed. A step that is undone and made again (`AdamW,
undone`) agrees in the version above and in 0.19.0; run beside 0.18.0, 0.18.3 and 0.18.8 the suite
finds it: *x = 1, g = 1: step 1 is 1 by the statement, nan found*. Adagrad's weight decay agrees in
the version above; 0.14.5 and 0.18.0 to 0.19.4 have no Adagrad for processors, and older ones do
not build here.

optax' Muon differs in two ways, which the suite names: it corrects its average as Adam does, and
looks ahead as NAdam, which mixes average and gradient in other proportions; and the columns of a
matrix are its outputs, as JAX's layers have them, so that the factor of a matrix that is not
square is another.

Kron (PSGD, Li 2015, arXiv:1512.04202; Li 2024, arXiv:2402.04553) has no statement: its updates
depend on random numbers that each library draws in its own way, so that no two agree number by
number."""


def results() -> list[dict]:
    """The results of each library, ours first."""
    read = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return sorted(read, key=lambda r: (r["library"] != "stepsize", r["library"]))


def table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def cell(rows) -> str:
    """A library's digits for a rule: the least over its cases, and what they mean."""
    known = [row for row in rows if row["verdict"] not in ("not supported", "error")]
    if not known:
        return ""
    others = [row for row in known if row["verdict"] == "differs"]
    if others:
        return "variant" if all(row.get("note") for row in others) else "**differs**"
    least = min(row.get("documented", row["digits"]) for row in known)
    said = " d" if any(row["verdict"] == "as documented" for row in known) else ""
    return "exact" if least >= 49 else f"{least:.0f}{said}"


def counts(report) -> list:
    verdicts = [row["verdict"] for row in report["results"]]
    kinds = ("agrees", "as documented", "differs", "not supported", "error")
    stated = len({row["rule"] for row in report["results"]})
    return [report["library"], report["version"], stated, *(verdicts.count(k) for k in kinds)]


def differences(report) -> list[str]:
    """One line for each rule that differs in its own way, with the smallest example."""
    lines = []
    for row in report["results"]:
        if row["verdict"] == "differs" and row.get("example"):
            figure = f"{row['digits']:.1f}" + (
                f", {row['documented']:.1f} of its documentation" if "documented" in row else ""
            )
            note = f" Agrees with: {row['note']}." if row.get("note") else ""
            lines.append(
                f"* **{row['rule']}** ({row['case']}; digits: {figure}).{note} {row['example']}"
            )
    return lines


def page() -> str:
    reports = results()
    names: dict[str, None] = {}
    for report in reports:
        names |= dict.fromkeys(row["rule"] for row in report["results"])
    columns = [report["library"] for report in reports]
    rows = [
        [name, *(cell([r for r in report["results"] if r["rule"] == name]) for report in reports)]
        for name in names
    ]
    head = ("Library", "Version", "Rules and schedules", "Cases that agree", "As documented")
    head = (*head, "Differ", "Not supported", "Error")
    text = [INTRODUCTION.format(**reports[0]["stated"])]
    text += ["## Libraries", table(head, [counts(report) for report in reports])]
    text += [
        "## Digits",
        "The least over the cases of a rule, past the end of a schedule too. `d`: of what the "
        "library's documentation says instead of the paper; `exact`: no digit differs; `variant`: "
        "another form than the paper's, which the suite can name; empty: not there, or an error.",
        table(("", *columns), rows),
        "## Differences",
        "From the paper, or from the library's own documentation where that has a figure, too.",
        KNOWN,
    ]
    for report in reports:
        lines = differences(report)
        if lines:
            text += [f"### {report['library']} {report['version']}", "\n".join(lines)]
    return "\n\n".join(part.strip() for part in text) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
