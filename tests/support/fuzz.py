"""Fuzzes one target, or all, for so many seconds each.

    PYTHONPATH=python:tests/support python tests/support/fuzz.py all 600
    PYTHONPATH=python:tests/support python tests/support/fuzz.py from_dict 60 7

The last number is a seed. Where atheris is installed it steers by coverage; else inputs are
mutated at random, and those whose outcome is new are kept. What fails is written to
build/fuzz, and ``fuzz.py TARGET FILE`` tries it again.
"""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

FOUND = Path(__file__).resolve().parents[2] / "build" / "fuzz"
WORDS = [
    *(b"0", b"-1", b"1e308", b"1e-320", b"9007199254740993", b"NaN", b"Infinity", b"null", b"true"),
    *(b"[]", b"{}", b'""', b"()", b",", b":", b'"', b"'", b"\n", b"\t", b"\0", b"\xff\xfe", b"lr"),
    *(b"cosine", b"constant(1)", b".shift(1)", b" * ", b" + ", b"**", b"params", b"float32", b"*"),
]


VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", "*", -1, 0, 3, 1e-320, 1.7e308, 2**53 + 1, 10**400, [], [[]], {}),
    *(float("nan"), float("inf"), [1, 2], {"x": 1}, "constant", "cosine", "lr", 0.5),
)


def rearranged(data: bytes, draw: random.Random) -> bytes:
    """A JSON document with another value, or none, or a copy of another part, at one place."""
    whole = json.loads(data)
    places: list[tuple[Any, Any]] = []
    pending = [whole]
    while pending:
        nest = pending.pop()
        keys = list(nest) if isinstance(nest, dict) else range(len(nest))
        places += [(nest, key) for key in keys]
        pending += [nest[key] for key in keys if isinstance(nest[key], dict | list)]
    if not places:
        return data
    nest, key = draw.choice(places)
    other, from_key = draw.choice(places)
    kind = draw.randrange(4)
    if kind == 0:
        nest[key] = copy.deepcopy(other[from_key])
    elif kind == 1 and isinstance(nest, dict):
        nest[draw.choice(("x", "lr", str(from_key)))] = nest.pop(key)
    elif kind == 2:
        del nest[key]
    else:
        nest[key] = draw.choice(VALUES)
    return json.dumps(whole).encode()


def mutated(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """A copy with one to four changes."""
    if draw.randrange(2) and data[:1] in (b"{", b"["):
        try:
            return rearranged(data, draw)
        except (ValueError, RecursionError):
            pass  # it is not JSON any more
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found) + 1)
        end = min(len(found), at + draw.choice((1, 1, 2, 8, 64)))
        kind = draw.randrange(6)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at:end] = draw.choice(WORDS)
        elif kind == 2:
            del found[at:end]
        elif kind == 3:
            found[at:at] = found[at:end] * draw.choice((1, 2, 50))
        elif kind == 4:
            found[at:at] = draw.choice(WORDS)
        else:
            other = draw.choice(others)
            start = draw.randrange(len(other) + 1)
            found[at:end] = other[start : start + draw.choice((4, 32, 256))]
    return bytes(found[:20_000])


def outcome(name: str, data: bytes) -> Any:
    """Where the target ended: the lines of a trace stand for coverage."""
    import fuzz_targets

    lines = set()

    def watch(frame: Any, event: str, argument: Any) -> Any:
        if "stepsize" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return watch

    sys.settrace(watch)
    try:
        fuzz_targets.attempt(name, data)
    finally:
        sys.settrace(None)
    return frozenset(lines)


def by_mutation(name: str, seconds: float, seed: int) -> int:
    """Random changes of seeds, and of what reached a line for the first time."""
    import fuzz_targets

    corpus = list(fuzz_targets.TARGETS[name][1]())
    draw, seen, tries, failures = random.Random(seed), set(), 0, {}
    end = time.monotonic() + seconds
    for data in corpus:
        seen |= outcome(name, data)
    while time.monotonic() < end:
        tries += 1
        data = mutated(draw.choice(corpus), corpus, draw)
        try:
            reached = outcome(name, data)
        except Exception:
            trace = traceback.format_exc()
            failures.setdefault(trace.splitlines()[-1][:100], (data, trace))
            continue
        if not reached <= seen:
            seen |= reached
            corpus.append(data)
    for k, (data, trace) in enumerate(failures.values()):
        FOUND.mkdir(parents=True, exist_ok=True)
        (FOUND / f"{name}-{seed}-{k}").write_bytes(data)
        print(f"{trace}\n{FOUND}/{name}-{seed}-{k}")
    print(
        f"{name}: {tries:,} executions, {len(seen):,} lines, {len(corpus)} kept, "
        f"{len(failures)} failures",
        flush=True,
    )
    return len(failures)


def by_coverage(name: str, seconds: float, seed: int, atheris: Any) -> None:
    import fuzz_targets

    folder = FOUND / f"{name}-corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for k, data in enumerate(fuzz_targets.TARGETS[name][1]()):
        (folder / f"seed-{k}").write_bytes(data)
    words = [sys.argv[0], str(folder), f"-max_total_time={int(seconds)}", f"-seed={seed}"]
    words += ["-max_len=20000", "-print_final_stats=1", f"-artifact_prefix={FOUND}/{name}-"]
    atheris.Setup(words, lambda data: fuzz_targets.attempt(name, data))
    atheris.Fuzz()


def main() -> int:
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    name, amount, seed = sys.argv[1], sys.argv[2], int(([*sys.argv, "1"])[3])
    if name == "all":
        import fuzz_targets

        commands = [[sys.executable, __file__, n, amount, str(seed)] for n in fuzz_targets.TARGETS]
        return max(subprocess.run(command, check=False).returncode for command in commands)
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is not None:
        with atheris.instrument_imports(include=["stepsize"]):
            import fuzz_targets
    else:
        import fuzz_targets
    if Path(amount).is_file():
        fuzz_targets.attempt(name, Path(amount).read_bytes())
        return 0
    if atheris is not None:
        by_coverage(name, float(amount), seed, atheris)
    return int(by_mutation(name, float(amount), seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
