"""The optimizers the advice is measured with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stepsize as ss


def make(rule: str) -> Callable[..., Any]:
    """A function `(params, lr=...) -> optimizer`."""

    def momentum(params: Any, lr: float | None = None) -> ss.SGD:
        return ss.SGD(params, lr=lr, momentum=0.9)

    return {
        "sgd": ss.SGD,
        "momentum": momentum,
        "adam": ss.Adam,
        "rmsprop": ss.RMSprop,
        "adagrad": ss.Adagrad,
        "lion": ss.Lion,
    }[rule]
