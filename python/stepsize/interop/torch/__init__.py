"""PyTorch on the CPU: every rule of gradients as a torch optimizer, our schedules, the range test.

Classes have the names of the rules, and the arguments, defaults, groups and state of the class of
that name in torch.optim where there is one.
"""

from typing import Any

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        'stepsize.interop.torch needs PyTorch: pip install "stepsize[torch]"'
    ) from error

from stepsize.interop.torch.finding import lr_find
from stepsize.interop.torch.in_backward import in_backward
from stepsize.interop.torch.making import CLASSES
from stepsize.interop.torch.offload import Offload
from stepsize.interop.torch.optimizer import Optimizer
from stepsize.interop.torch.schedules import ScheduleLR

globals().update(CLASSES)

__all__ = ["Offload", "Optimizer", "ScheduleLR", "in_backward", "lr_find", *CLASSES]


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"stepsize.interop.torch has no {name}; the optimizers here are {', '.join(CLASSES)}"
    )
