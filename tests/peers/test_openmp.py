"""Libraries that bring an OpenMP of their own, loaded before stepsize or after it."""

import os
import subprocess
import sys
import textwrap

ORDER = """
    import sys, threading
    import numpy as np

    def torch():
        import torch
        torch.set_num_threads(2)
        return lambda: torch.ones(300_000).sum().item()

    def sklearn():
        from sklearn.cluster import KMeans
        points = np.random.default_rng(0).normal(size=(100, 3))
        return lambda: float(KMeans(3, n_init=1, random_state=0).fit(points).inertia_)

    def stepsize():
        import stepsize as ss
        def work():
            x = np.ones(600_000, np.float32)
            optimizer = ss.AdamW(x, lr=0.1)
            threads = [threading.Thread(target=optimizer.step, args=(x.copy(),)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return x.tobytes()[:64].hex(), optimizer.step_count
        return work

    works = {name: globals()[name]() for name in sys.argv[1:]}
    first = {name: work() for name, work in works.items()}
    second = {name: work() for name, work in reversed(works.items())}
    assert first == second
    print(first["stepsize"])
    """


def test_libraries_with_an_openmp_of_their_own_may_be_loaded_before_or_after():
    there = ["torch", "sklearn"]
    found = set()
    for names in ([*there, "stepsize"], ["stepsize", *there]):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(ORDER), *names],
            env={**os.environ, "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            timeout=140,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.add(done.stdout)
    assert len(found) == 1
