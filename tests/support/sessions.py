"""A run as a whole process has it: to be stopped anywhere, resumed, and compared bit for bit."""

import numpy as np

import stepsize as ss
from fitting import X, Y, bits, fit, make_params


class Average:
    """An exponential average of the parameters, as a callback with state."""

    def __init__(self):
        self.mean = np.zeros(3)

    def on_step(self, run):
        self.mean = 0.9 * self.mean + 0.1 * run.params["w"]

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


def schedule():
    return ss.schedules.warmup_cosine(peak=0.2, warmup_steps=10, total_steps=60)


class Session:
    """All a process has: parameters, optimizer, callbacks."""

    def __init__(self, path, **options):
        self.params = make_params()
        self.optimizer = ss.AdamW(self.params, lr=schedule(), weight_decay=0.01)
        self.average = Average()
        self.stopping = ss.EarlyStopping(patience=6)
        self.options = {
            "callbacks": [self.average, ss.ReduceOnPlateau(patience=1, factor=0.5), self.stopping],
            "validation": (X[:11], Y[:11]),
            "validate_every": 3,
            "checkpoint": ss.Checkpoint(path, every_epochs=None),
            "resume": True,
        } | options

    def run(self, steps, **options):
        self.history = fit(
            self.params, self.optimizer, epochs=None, steps=steps, **(self.options | options)
        )
        return self

    def bits(self):
        return {
            "params": bits(self.params),
            "optimizer": repr(self.optimizer.state_dict()),
            "average": self.average.mean.tobytes(),
            "best": (self.stopping.best, self.stopping.best_step),
            "history": {name: values.tobytes() for name, values in self.history.items()},
            "stopped": self.history.stopped,
        }
