"""Mutation tests: small faults are put into the package one by one, and the tests must notice each.

    python tests/mutation/run.py python               about 640 mutants of python/stepsize
    python tests/mutation/run.py cpp                  about 500 of cpp/rules, cpp/kernels, cpp/core
    ... --sample 100 --seed 3 --only schedules        fewer, others, and those of some files
    ... --again                                       survivors of the last run, after new tests
    ... --rest                                        a run that was cut goes on
    ... --shown --idle                                what was found, and tests that killed nothing

Few parameters of each test judge first; what survives is judged again by all parameters of those
that pass by it.

Survivors are explained in survivors.toml; one that is not, or fewer than 95 % killed, is exit code
1. What is made and found lies in build/mutation. `cpp` needs the package libclang of PyPI.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
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
                "tuning", "outside", "callbacks", "interop", "minimization", "plots", "report",
                "house/test_digests.py", "mutation/bits.py")  # fmt: skip
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
EVERY = 10**6  # parameters of a test, for what survived a few


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
    sites = [site for site in draw(sites, count, seed) if not python_sites.same(site)]
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


def judge(work: Path, trials: dict) -> dict[int, dict]:
    (work / "trials.json").write_text(json.dumps(trials))
    path = [work / "python", ROOT / "docs", ROOT / "tests" / "support", ROOT / "tests" / "golden"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)),
                   "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0",
                   "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
    with open(work / "judge.log", "w") as log:
        subprocess.run([sys.executable, HERE / "judge.py", work], cwd=ROOT, env=environment,
                       stdout=log, stderr=log, check=False)  # fmt: skip
    found = kept(work)
    if not found:
        raise SystemExit((work / "judge.log").read_text()[-3000:])
    return found


def kept(work: Path) -> dict[int, dict]:
    """What was found of each mutant so far; what was found last counts."""
    path = work / "answers.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.startswith('{"number"')]
    return {answer["number"]: answer for answer in found}


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


def survivors(mutants: list[Mutant], answers: dict[int, dict]) -> list[int]:
    """Those that were judged, live, and are not explained as equivalent; in any order, but one."""
    known = explained()
    same = {mutant.number for mutant in mutants
            if known.get(mutant.key, {}).get("verdict") == "equivalent"}  # fmt: skip
    lives = {number for number, answer in answers.items() if answer["verdict"] != "killed"}
    found = [mutant.number for mutant in mutants if mutant.number in lives - same]
    random.Random(1).shuffle(found)
    return found


def numbers(given: str) -> list[float]:
    return [float(part) for part in given.split(",")]


def idle(record: Path, answers: dict[int, dict]) -> None:
    """The tests that took part, and were the first to notice none of these mutants."""
    functions = Counter(name.split("[")[0] for name in pickle.loads(record.read_bytes()))
    first = {answer.get("by", "").split("[")[0] for answer in answers.values()}
    names = sorted(set(functions) - first)
    print(
        f"{len(names)} of {len(functions)} tests were the first to notice none:", *names, sep="\n"
    )


def arguments() -> argparse.Namespace:
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
    words.add_argument("--most-again", default="400,15", help="the same for one that survived")
    words.add_argument("--numbers", default="", help="of mutants to judge again, with commas")
    words.add_argument("--recorded", type=int, default=12, help="parameters of each test to record")
    words.add_argument("--idle", action="store_true", help="list the tests that killed nothing")
    words.add_argument("--into", type=Path, default=BUILDS, help="where what is made lies")
    words.add_argument("--again", action="store_true")
    words.add_argument("--shown", action="store_true", help="the results so far, and no more")
    words.add_argument("--rest", action="store_true", help="those that there was no time for")
    return words.parse_args()


def drawn(given: argparse.Namespace, work: Path) -> tuple[list[Mutant], dict]:
    """New mutants, or those of the last run, and what is to be tried first."""
    if given.again or given.rest or given.shown or given.numbers:
        mutants = [Mutant(**entry) for entry in json.loads((work / "mutants.json").read_text())]
        trials = json.loads((work / "trials.json").read_text())
        answers = kept(work)
        rest = [mutant.number for mutant in mutants if mutant.number not in answers]
        random.Random(given.seed).shuffle(rest)
        return mutants, trials | {"mutants": rest * given.rest}
    for name in ("record.pickle", "answers.jsonl"):
        (work / name).unlink(missing_ok=True)
    count = given.sample or {"python": 640, "cpp": 500}[given.language]
    if given.language == "cpp":
        import cpp_sites

        mutants, trials = cpp_sites.in_cpp(work, copied(work), count, given.seed, given.only)
        trials["tests"] = [f"tests/{name}" for name in CPP_TESTS]
    else:
        mutants, trials = in_python(work, count, given.seed, given.only)
    trials |= {"language": given.language, "mutants": [mutant.number for mutant in mutants]}
    random.Random(given.seed).shuffle(trials["mutants"])  # those judged in time are a sample
    (work / "mutants.json").write_text(json.dumps([vars(mutant) for mutant in mutants]))
    return mutants, trials


def main() -> int:
    given = arguments()
    start = time.monotonic()
    work = given.into / given.language
    work.mkdir(parents=True, exist_ok=True)
    record = work / "record.pickle"
    mutants, trials = drawn(given, work)
    answers = kept(work)
    if given.tests:
        trials["tests"] = [f"tests/{name}" for name in given.tests.split(",")]
    trials["left_out"] = [f"tests/{name}" for name in LEFT_OUT]
    trials |= {"record": str(record), "minutes": given.minutes, "recorded": given.recorded}
    if trials["mutants"] and not given.shown:
        answers = judge(work, trials | {"each": given.each, "most": numbers(given.most)})
    again = [int(number) for number in given.numbers.split(",") if number]
    again = again or survivors(mutants, answers)
    if again and not given.shown:
        more = {"mutants": again, "each": EVERY, "most": numbers(given.most_again)}
        answers = judge(work, trials | more)
    code = report(mutants, answers)
    if given.idle:
        idle(record, answers)
    print(f"{time.monotonic() - start:.0f} s")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
