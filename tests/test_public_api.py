"""The public door: what is promised, and what importing it costs."""

import inspect
import subprocess
import sys

import pytest

import weightscope
from weightscope import errors


def test_all_is_sorted_and_importable():
    assert weightscope.__all__ == sorted(weightscope.__all__, key=str.casefold)
    for name in weightscope.__all__:
        assert hasattr(weightscope, name)
    assert set(weightscope.__all__) <= set(dir(weightscope))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        weightscope.nonsense  # noqa: B018


@pytest.mark.parametrize("name", weightscope.__all__)
def test_documented_and_typed(name):
    thing = getattr(weightscope, name)
    if name == "DEFAULT_GROUPS":
        return
    assert inspect.getdoc(thing), name
    if inspect.isfunction(thing):
        annotations = inspect.get_annotations(thing)
        assert set(annotations) == {*inspect.signature(thing).parameters, "return"}


HEAVY = ("torch", "transformers", "pandas", "matplotlib", "seaborn", "pyarrow", "numpy")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["analyze", "--help"],
        ["inspect", "demo"],
        ["families"],
        ["families", "--verified"],
        ["families", "draft", "demo"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom weightscope.cli import main\n"
        f"sys.argv = ['weightscope', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_error_is_a_builtin_too_and_speaks_three_sentences():
    tree = [
        thing
        for thing in vars(errors).values()
        if inspect.isclass(thing) and thing.__module__ == errors.__name__
    ]
    assert len(tree) > 8
    for error in tree:
        if error is errors.WeightscopeError:
            continue
        assert issubclass(error, errors.WeightscopeError)
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
        assert len(builtins) > 3, (
            f"{error.__name__} is no builtin error"
        )  # beyond Exception, BaseException, object
        raised = error("Asked.", "Found.", "Do.")
        assert str(raised) == "Asked. Found. Do."
        assert (raised.asked, raised.found, raised.advice) == ("Asked.", "Found.", "Do.")
        assert error.__name__ in (errors.__doc__ or "")
