"""Public bug reports of other packages: a thread, the fault in our words, what came of it here."""

from collections.abc import Callable


def report(thread: str, fault: str, result: str = "holds") -> Callable:
    """Marks a test that tries the fault of a thread (owner/name#number) here.

    `docs/reports_page.py` reads the marks and lists them in `docs/reliability.md`.
    """
    assert thread.count("#") == 1 and fault and result
    return lambda test: test
