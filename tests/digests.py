"""Prints what every compiled rule computes, for the instruction set that STEPSIZE_TARGET names."""

import json

import cases
import stepsize as ss

THREADS = (1, 2, 3, 5)


def main() -> None:
    found = {
        f"{case}|{dtype.__name__}|{threads}": cases.digest(cases.run_edges(case, dtype, threads))
        for case in cases.COMPILED
        for dtype in cases.DTYPES
        for threads in THREADS
    }
    print(json.dumps({"target": ss.build_info()["target"], "digests": found}))


if __name__ == "__main__":
    main()
