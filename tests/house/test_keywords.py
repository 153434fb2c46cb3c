"""A keyword that a function does not take is refused by name, with the name it has here."""

import inspect

import pytest

import stepsize as ss
from stepsize.names import ELSEWHERE

FUNCTIONS = ("fit", "lr_find", "tune", "sweep", "autolr", "minimize", "what_if", "sharpness")
FUNCTIONS += ("check_gradients", "transfer")


def called(name, **keyword):
    """The error of a call with all that is needed, none of it right, and one keyword more."""
    function = getattr(ss, name)
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    given = {p.name: None for p in needed if p.kind is p.KEYWORD_ONLY}
    by_place = [p for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(TypeError) as caught:
        function(*[None] * len(by_place), **given, **keyword)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "minimize"])
def test_an_unknown_keyword_is_named_with_the_nearest_and_all_there_are(name):
    names = list(inspect.signature(getattr(ss, name)).parameters)
    assert called(name, qqqq=1) == f"{name}: unknown argument 'qqqq' (it takes {', '.join(names)})"
    for known in names:
        assert f"unknown argument '{known}_'; did you mean {known}?" in called(
            name, **{known + "_": 1}
        )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_other_libraries_call_an_argument_is_answered(name):
    names = inspect.signature(getattr(ss, name)).parameters
    for habit, ours in ELSEWHERE.items():
        known = [other for other in ours.split() if other in names]
        if name == "minimize":  # all else is the rule's, which says so
            known = [other for other in known if other in ("max_iter", "rule")]
        if known and habit not in names:
            words = f"{name}: unknown argument '{habit}'; did you mean {known[0]}?"
            assert called(name, **{habit: 1}).startswith(words)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_signature_is_that_of_the_arguments(name):
    signature = inspect.signature(getattr(ss, name))
    kinds = {p.kind for p in signature.parameters.values()}
    assert (inspect.Parameter.VAR_KEYWORD in kinds) is (name == "minimize")
    assert "unknown" not in signature.parameters
