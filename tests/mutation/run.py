"""Mutation tests: small faults are put into the package one by one, and the tests must notice each.

    python tests/mutation/run.py python               about 600 mutants of python/stepsize
    python tests/mutation/run.py cpp                  about 500 of cpp/rules, cpp/kernels, cpp/core
    ... --sample 100 --seed 3 --only schedules        fewer, others, and those of some files
    ... --again                                       survivors of the last run, after new tests

Survivors are explained in survivors.toml; one that is not, or fewer than 95 % killed, is exit code
1. What is made and found lies in build/mutation. `cpp` needs the package libclang of PyPI.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import python_sites  # noqa: E402
from schemata import Mutant, Site, draw, numbered  # noqa: E402

PACKAGE = ROOT / "python" / "stepsize"
BUILDS = ROOT / "build" / "mutation"
PYTHON_FOLDERS = ("optimizers", "serialization", "schedules", "training", "diagnosis", "finder",
                  "tuning", "validation.py")  # fmt: skip
PYTHON_TESTS = ("optimizers", "serialization", "schedules", "training", "diagnosis", "finder",
                "tuning/test_tuning.py", "tuning/test_files.py", "tuning/test_outside.py",
                "tuning/test_going_on.py", "mutation/bits.py",
                "house/test_digests.py")  # fmt: skip
# Those that start processes, for each instruction set and number of threads, or import torch.
LEFT_OUT = ("optimizers/test_bits.py", "serialization/test_fuzz.py",
            "schedules/test_importers.py")  # fmt: skip
CPP_TESTS = (
    *("mutation/bits.py", "optimizers/test_half.py", "optimizers/test_quantization.py"),
    *("optimizers/test_sparse.py", "optimizers/test_bounds.py", "optimizers/test_extents.py"),
    *("optimizers/test_zeros.py",),
    *("optimizers/test_primitives.py", "optimizers/test_extreme_norms.py", "schedules"),
    *("optimizers/test_parity.py", "optimizers/test_parity_rules.py", "optimizers/test_laws.py"),
    *("optimizers/test_parity_shaped.py", "optimizers/test_parity_two_pass.py"),
    *("optimizers/test_magnitudes.py", "optimizers/test_complex.py"),
    *("optimizers/test_limits.py", "optimizers/test_prefetch.py", "optimizers/test_two_pass.py"),
    *("house/test_digests.py", "house/test_kernel_bits.py", "optimizers/test_project.py"),
)
NEEDED = 0.95


def copied(work: Path) -> Path:
    """A copy of the package in which schemata are written."""
    tree = work / "python"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(PACKAGE, tree / "stepsize", ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def in_python(work: Path, count: int, seed: int, only: str) -> tuple[list[Mutant], dict]:
    paths = []
    for folder in PYTHON_FOLDERS:
        place = PACKAGE / folder
        paths += [place] if place.is_file() else sorted(place.rglob("*.py"))
    files = {str(path.relative_to(ROOT)): python_sites.scan(path, ROOT) for path in paths}
    sites = [site for file in files.values() for site in file.sites if only in file.file]
    print(f"{len(sites)} sites in {len(files)} files")
    sites = draw(sites, count, seed)
    mutants = numbered(sites)
    names = sorted({(file, name) for file, scanned in files.items()
                    for _, name, _ in scanned.functions})  # fmt: skip
    slots = {key: len(mutants) + place for place, key in enumerate(names)}
    tree = copied(work)
    shutil.copy(HERE / "stepsize_mutant.py", tree)
    at_import = {}
    for mutant, site in zip(mutants, sites, strict=True):
        at_import[mutant.number] = related(mutant, site, files, slots)
    for file, scanned in files.items():
        chosen = [(mutant.number, site) for mutant, site in zip(mutants, sites, strict=True)
                  if site.file == file]  # fmt: skip
        entered = {name: slot for (owner, name), slot in slots.items() if owner == file}
        (tree / Path(file).relative_to("python")).write_text(
            python_sites.write(scanned, chosen, entered)
        )
    known = {number: relation for number, relation in at_import.items() if relation}
    return mutants, {"at_import": known, "tests": [f"tests/{name}" for name in PYTHON_TESTS]}


def related(mutant: Mutant, site: Site, files: dict, slots: dict) -> dict:
    """Which functions depend on what stands outside of all, and is read at the import."""
    owner = files[mutant.file]
    outside = site.function == "the module" or site.function not in {
        name for _, name, _ in owner.functions
    }
    if not outside:  # a default, a helper of class bodies
        return {"functions": [slots[mutant.file, site.function]], "word": ""}
    names = owner.names_bound(site.line)
    near = site.function.split(".")[0]
    functions = [
        slots[file, name]
        for file, scanned in files.items()
        for _, name, mentioned in scanned.functions
        if names & mentioned or (file == mutant.file and name.startswith(f"{near}."))
    ]
    return {"functions": sorted(set(functions)), "word": "" if near == "the module" else near}


def judge(work: Path, trials: dict) -> list[dict]:
    (work / "trials.json").write_text(json.dumps(trials))
    path = [work / "python", ROOT / "docs", ROOT / "tests" / "support", ROOT / "tests" / "golden"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)),
                   "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0",
                   "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
    with open(work / "judge.log", "w") as log:
        subprocess.run([sys.executable, HERE / "judge.py", work], cwd=ROOT, env=environment,
                       stdout=log, stderr=log, check=False)  # fmt: skip
    answers = [json.loads(line) for line in (work / "answers.jsonl").read_text().splitlines()
               if line.startswith('{"number"')]  # fmt: skip
    if not answers:
        raise SystemExit((work / "judge.log").read_text()[-3000:])
    return answers


def explained() -> dict[tuple[str, str, str, str], dict]:
    entries = tomllib.loads((HERE / "survivors.toml").read_text()).get("survivor", [])
    return {
        (entry["file"], entry["function"], entry["before"], entry["after"]): entry
        for entry in entries
    }


def report(mutants: list[Mutant], answers: dict[int, dict]) -> int:
    """The table, and the survivors that nobody has explained."""
    known = explained()
    folders: dict[str, Counter] = {}
    left = []
    for mutant in mutants:
        if mutant.number not in answers:
            folders.setdefault(mutant.folder, Counter())["not judged"] += 1
            continue
        verdict = answers[mutant.number]["verdict"]
        entry = known.get(mutant.key)
        if verdict != "killed":
            verdict = "equivalent" if entry and entry["verdict"] == "equivalent" else "survived"
            if entry is None:
                left.append((mutant, answers[mutant.number]))
        folders.setdefault(mutant.folder, Counter())[verdict] += 1
    total: Counter = sum(folders.values(), Counter())
    columns = ("killed", "survived", "equivalent", "not judged")
    print("| folder | mutants |", " | ".join(columns), "|\n|", " | ".join(["---"] * 6), "|")
    for folder, found in [*sorted(folders.items()), ("all", total)]:
        print("|", " | ".join(map(str, (folder, found.total(), *(found[c] for c in columns)))), "|")
    share = total["killed"] / max(1, total["killed"] + total["survived"])
    print(f"killed, of those that differ: {100 * share:.1f} %")
    for mutant, answer in left:
        print(f"unexplained, {answer['tests']} tests pass by: {mutant}")
    return int(bool(left) or share < NEEDED)


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    words.add_argument("language", choices=["python", "cpp"])
    words.add_argument("--sample", type=int, default=None)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--only", default="", help="part of a file's path")
    words.add_argument("--tests", default="", help="folders and files of tests, with commas")
    words.add_argument("--each", type=int, default=12, help="most parameters of each test")
    words.add_argument("--minutes", type=float, default=600.0, help="to judge; the rest is left")
    words.add_argument("--most", default="40,2", help="tests, and their seconds, for a mutant")
    words.add_argument("--again", action="store_true")
    words.add_argument("--shown", action="store_true", help="the results so far, and no more")
    words.add_argument("--rest", action="store_true", help="those that there was no time for")
    given = words.parse_args()
    start = time.monotonic()
    work = BUILDS / given.language
    work.mkdir(parents=True, exist_ok=True)
    count = given.sample or {"python": 600, "cpp": 500}[given.language]
    record = work / "record.pickle"
    if given.again or given.rest or given.shown:
        mutants = [Mutant(**entry) for entry in json.loads((work / "mutants.json").read_text())]
        trials = json.loads((work / "trials.json").read_text())
        answers = {entry["number"]: entry
                   for entry in json.loads((work / "answers.json").read_text())}  # fmt: skip
        left = [n for n, entry in answers.items() if entry["verdict"] != "killed"]
        rest = [mutant.number for mutant in mutants if mutant.number not in answers]
        random.Random(given.seed).shuffle(rest)
        trials["mutants"] = left * given.again + rest * given.rest
    else:
        record.unlink(missing_ok=True)
        if given.language == "cpp":
            import cpp_sites

            mutants, trials = cpp_sites.in_cpp(work, copied(work), count, given.seed, given.only)
            trials["tests"] = [f"tests/{name}" for name in CPP_TESTS]
        else:
            mutants, trials = in_python(work, count, given.seed, given.only)
        trials |= {"language": given.language, "record": str(record)}
        trials["mutants"] = [mutant.number for mutant in mutants]
        random.Random(given.seed).shuffle(trials["mutants"])  # those judged in time are a sample
        (work / "mutants.json").write_text(json.dumps([vars(mutant) for mutant in mutants]))
        answers = {}
    if given.tests:
        trials["tests"] = [f"tests/{name}" for name in given.tests.split(",")]
    trials["left_out"] = [f"tests/{name}" for name in LEFT_OUT]
    trials |= {"each": given.each, "minutes": given.minutes}
    trials["most"] = [float(part) for part in given.most.split(",")]
    if not given.shown:
        answers |= {entry["number"]: entry for entry in judge(work, trials)}
    (work / "answers.json").write_text(json.dumps(list(answers.values())))
    code = report(mutants, answers)
    print(f"{time.monotonic() - start:.0f} s")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
