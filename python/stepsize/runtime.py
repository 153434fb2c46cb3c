"""The machine side: the instruction set in use, the threads, and what this build is."""

from __future__ import annotations

import os
from typing import Any

from stepsize import _core

__version__ = "0.1.0"


def refuse_other_build() -> None:
    """Refuse a compiled module that is of other sources than the Python files beside it.

    So it is where they were changed, by an update of a checkout, and nothing was compiled since.
    The stub beside them is compared with what it was at the build.

    Raises:
        ImportError: They differ.
    """
    try:
        with open(os.path.join(os.path.dirname(__file__), "_core.pyi"), "rb") as file:
            here = file.read().replace(b"\r\n", b"\n")
    except OSError:  # an installation without it, such as one in an archive
        return
    if getattr(_core, "stub", None) != here:
        raise ImportError(
            f"stepsize: the compiled module {_core.__file__} was built from other sources than the "
            "Python files beside it: build it again, with pip install . (or pip install -e .) in "
            "the folder of the sources, or install stepsize anew",
            name="stepsize",
            path=_core.__file__,
        )


def use_environment() -> None:
    """Take the instruction set that STEPSIZE_TARGET names; ValueError if it cannot be had."""
    name = os.environ.get("STEPSIZE_TARGET")
    if name is not None:
        _core.choose_target(name)


def set_num_threads(count: int | None) -> None:
    """Use this many threads for large steps; None for as many as the environment allows.

    The results do not depend on it. OMP_NUM_THREADS, processor affinity and a container's quota
    bound the default, and so do limits of the calling thread: `threadpoolctl.threadpool_limits`,
    `torch.set_num_threads`. The latest counts: a lower limit that comes after this call is
    followed until it ends, and this call is where it comes after the limit.

    Args:
        count: From 1 to four times the number of processors (or 64), or None.

    Raises:
        ValueError: For any other count; threads without a processor only wait for each other, and
            no system gives a million of them.

    Example:
        >>> import stepsize as ss
        >>> ss.set_num_threads(2)
        >>> ss.set_num_threads(None)
    """
    from stepsize.validation import whole  # here, so that importing stepsize loads next to nothing

    most = max(64, 4 * (os.cpu_count() or 1))
    move = "None uses as many as the environment allows"
    count = 0 if count is None else whole("set_num_threads: count", count, 1, most, move)
    _core.set_thread_count(count)


def build_info() -> dict[str, Any]:
    """What this build is and uses: target, available targets, threads, OpenMP, compiler, version.

    Example:
        >>> import stepsize as ss
        >>> sorted(ss.build_info())
        ['available_targets', 'compiler', 'openmp', 'target', 'threads', 'version']
    """
    return {
        "version": __version__,
        "target": _core.target(),
        "available_targets": tuple(_core.available_targets()),
        "threads": _core.thread_count(),
        "openmp": _core.has_openmp(),
        "compiler": _core.compiler(),
    }
