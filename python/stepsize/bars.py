"""Progress bars: a widget in a notebook that can show one, text in a terminal, none elsewhere."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["can_redraw", "in_notebook", "open_bar", "written"]


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook; that its modules are loaded does not say so."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def can_redraw() -> bool:
    """Whether a bar can be drawn over itself: in a terminal or a notebook, not in a log."""
    if sys.stderr is None or getattr(sys.stderr, "closed", False):
        return False
    return sys.stderr.isatty() or in_notebook()


def written(write: Callable[[], Any]) -> bool:
    """Write what shows progress; False where that fails, as to a closed pipe: it ends no run."""
    if sys.stderr is None:
        return False
    try:
        write()
    except OSError:
        return False
    except ValueError:
        if not getattr(sys.stderr, "closed", False):
            raise
        return False
    return True


def open_bar(**options: Any) -> Any:
    """A tqdm bar without a thread of its own, which would outlive the run; None if it cannot be.

    A notebook without ipywidgets gets the bar of a terminal, without being told to install them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm as best
    from tqdm.std import tqdm as plain

    try:
        return _quiet(best)(**options)
    except OSError:
        return None
    except Exception:
        # Of a widget that the kernel cannot make: no training is lost for its bar.
        if best is plain:
            raise
        return _quiet(plain)(**options)


def _quiet(kind: Any) -> Any:
    def close(bar: Any) -> None:
        with contextlib.suppress(OSError):  # the end of a bar that could not be drawn, too
            kind.close(bar)

    return type("Bar", (kind,), {"monitor_interval": 0, "close": close})
