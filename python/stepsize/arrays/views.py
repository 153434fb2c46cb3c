"""Read-only views of the user's data: a function that writes into them is told, not obeyed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepsize.arrays.tree import copy, flatten, map_leaves


def read_only(nest: Any) -> Any:
    """The same nest with read-only views of its NumPy arrays; what is none stays as it is.

    Example:
        >>> x = np.zeros(3)
        >>> read_only((x, "other"))[0].flags.writeable, x.flags.writeable
        (False, True)
    """
    if type(nest) is tuple and all(type(part) is np.ndarray for part in nest):
        return tuple([_view(part) for part in nest])  # in a third of the time
    return map_leaves(_view, nest)


def _view(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    view = leaf.view()
    view.setflags(write=False)
    return view


def refuse_writes(
    error: Exception, function: Callable[..., Any], params: Any, batch: Any, owner: str, name: str
) -> None:
    """Raise a ValueError that names what the function wrote into, if the error came from that.

    Which array of the batch it was is found by another call, with copies of all.
    """
    text = str(error).lower()
    leaves, paths, _ = flatten(batch)
    views = [isinstance(leaf, np.ndarray) and not leaf.flags.writeable for leaf in leaves]
    if not any(views) or not ("read-only" in text or "readonly" in text):
        return
    copies = map_leaves(
        lambda x: np.array(x, subok=True) if isinstance(x, np.ndarray) else x, batch
    )
    failed = False
    try:
        function(copy(params), copies)
    except Exception:
        failed = True
    pairs = zip(paths, leaves, flatten(copies)[0], views, strict=True)
    written = [path for path, old, new, view in pairs if view and not _same(old, new)]
    if not written and failed:
        return  # it writes into something else that is read-only
    where = ", ".join(f"batch {path}" if path else "the batch" for path in written[:5])
    does = f"writes into {where}" if written else "asks for arrays that it may write into"
    raise ValueError(
        f"{owner}: {name} {does}, and batches are read-only views of your data; compute with a "
        "copy inside (x = x.copy(), or x = x - 1 instead of x -= 1)"
    ) from error


def _same(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and one.tobytes() == other.tobytes())
