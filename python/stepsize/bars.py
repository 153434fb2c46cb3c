"""Progress bars: a widget in a notebook that can show one, text in a terminal, none elsewhere."""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = ["can_redraw", "in_notebook", "open_bar"]


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook; that its modules are loaded does not say so."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def can_redraw() -> bool:
    """Whether a bar can be drawn over itself: in a terminal or a notebook, not in a log."""
    return sys.stderr is not None and (sys.stderr.isatty() or in_notebook())


def open_bar(**options: Any) -> Any:
    """A tqdm bar without a thread of its own, which would outlive the run.

    A notebook without ipywidgets gets the bar of a terminal, without being told to install them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm as best
    from tqdm.std import tqdm as plain

    try:
        return _quiet(best)(**options)
    except Exception:
        # Of a widget that the kernel cannot make: no training is lost for its bar.
        if best is plain:
            raise
        return _quiet(plain)(**options)


def _quiet(kind: Any) -> Any:
    return type("Bar", (kind,), {"monitor_interval": 0})
