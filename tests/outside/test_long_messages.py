"""No error message holds a whole object of the user's, whatever stands in the wrong place."""

import inspect

import numpy as np
import pytest

import stepsize as ss
from stepsize import schedules
from stepsize.optimizers import registry

LONGEST = 600


class Odd:
    def __repr__(self):
        return "<odd " + 5000 * "!" + ">"

    __str__ = __repr__


BIG = {
    "params": {f"layer{i}": {"w": np.full((9, 9), i / 7), "b": [i] * 9} for i in range(9)},
    "list": [i / 7 for i in range(500)],
    "object": Odd(),
}
SOUND = {"w": np.ones(3), "b": np.zeros(1)}
# These write to what they are given, or take anything.
NO_LAW = ("save", "load", "TensorBoard", "Choice", "KeepGenerators")
NAMES = [n for n in ss.__all__ if callable(getattr(ss, n)) and n not in NO_LAW]


def refused(call, /, *args, **options):
    """The length of what is said where a call fails."""
    try:
        with np.errstate(all="ignore"):
            call(*args, **options)
    except Exception as error:
        said = " ".join([str(error), *getattr(error, "__notes__", ())])
        assert len(said) <= LONGEST, f"{len(said)}: {said[:LONGEST]} ..."
        return 1
    return 0


def parameters(call):
    try:
        return list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return []


@pytest.mark.parametrize("name", NAMES)
def test_a_big_object_in_any_place_of_any_function(name):
    call, tried = getattr(ss, name), 0
    for big in BIG.values():
        for count in (1, 2, 3, 4):
            tried += refused(call, *[big] * count)
        for parameter in parameters(call):
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                required = {
                    other.name: big
                    for other in parameters(call)
                    if other.default is other.empty and other.kind == other.POSITIONAL_OR_KEYWORD
                }
                tried += refused(call, **required | {parameter.name: big})
    assert tried or name in ("NonFiniteGradientError", "CheckpointError", "History", "TuneResult")


@pytest.mark.parametrize("cls", registry(), ids=lambda cls: cls.__name__)
def test_a_big_hyperparameter_or_gradient(cls):
    names = [*cls.fields, "groups", "clip_norm", "on_nonfinite", "maximize", "state_dtype"]
    for big in BIG.values():
        assert sum(refused(cls, SOUND, **{name: big}) for name in names) == len(names)
        assert refused(cls, SOUND, 0.1, big)
        if not cls.needs_closure:
            optimizer = cls({name: leaf.copy() for name, leaf in SOUND.items()})
            refused(optimizer.step, big)
            refused(optimizer.step, SOUND, loss=big)
            refused(optimizer.load_state_dict, big)
            refused(setattr, optimizer, "lr", big)
        else:
            refused(cls(SOUND).step, lambda params, big=big: big)


@pytest.mark.parametrize("name", schedules.__all__)
def test_a_big_number_of_a_schedule(name):
    call = getattr(schedules, name)
    if not callable(call):
        return
    for big in BIG.values():
        for count in (1, 2, 3):
            refused(call, *[big] * count)


def function(params, batch):
    return 1.0, {"w": np.zeros(3), "b": np.zeros(1)}


def test_swapped_arguments_of_the_tools():
    for big in BIG.values():
        for call, sound in (
            (ss.lr_find, [function, SOUND, [0]]),
            (ss.fit, [function, SOUND, "sgd", [0]]),
            (ss.autolr, [function, SOUND, [0]]),
            (ss.minimize, [function, SOUND]),
            (ss.tune, [function, {"lr": ss.LogUniform(1e-3, 1)}]),
        ):
            more = {"epochs": 1} if call is ss.fit else {"steps": 20} if call is ss.autolr else {}
            for place in range(len(sound)):
                refused(call, *sound[:place], big, *sound[place + 1 :], **more)
            assert refused(call, *sound[::-1], **more)
        for wrong in ((big, big), big, (1.0, big), (big, SOUND)):
            told = lambda params, batch=None, wrong=wrong: wrong  # noqa: E731
            assert refused(ss.lr_find, told, SOUND, [0])
            assert refused(ss.fit, told, SOUND, ss.SGD(SOUND), [0], epochs=1, progress=False)
            assert refused(ss.minimize, told, SOUND)
