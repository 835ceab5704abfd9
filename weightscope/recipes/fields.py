"""The values of a recipe: checked one by one, by the functions that `analyze` checks them with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from weightscope.errors import WeightscopeError
from weightscope.families.select import parse_groups, parse_layers
from weightscope.families.spec import Group
from weightscope.options import Options
from weightscope.wording import named


def problem(found: str, advice: str = "", *, at: tuple[str, ...] = ()) -> PydanticCustomError:
    """What a validator raises: what was found, what to do, and where if not at its own key."""
    return PydanticCustomError("recipe", "{found}", {"found": found, "advice": advice, "at": at})


def _as_problem(error: WeightscopeError) -> PydanticCustomError:
    """An error of `analyze`'s own checks."""
    return problem(described(error), error.advice)


def described(error: WeightscopeError) -> str:
    """What was asked and found, as one sentence."""
    return f"{_small(error.asked).rstrip('.')}; {_small(error.found).rstrip('.')}"


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def checked(
    parse: Callable[[Any], Any], kinds: tuple[type, ...], wanted: str, *, listed: tuple[type, ...] = ()
) -> PlainValidator:
    """A value of some types, or a list of others, given to the function that `analyze` gives it to."""

    def fits(value: Any, kinds: tuple[type, ...]) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool)  # true is an int to Python

    def check(value: Any) -> Any:
        many = isinstance(value, list)
        for item in value if many else [value]:
            if not fits(item, listed if many else kinds):
                raise problem(f"{named(item)} stands where {wanted} is needed")
        try:
            return parse(value)
        except WeightscopeError as error:
            raise _as_problem(error) from None

    return PlainValidator(check)


def option_check(name: str) -> Callable[[Any], Any]:
    """The check that `analyze` makes of one of its options; it gives the value back."""

    def check(value: Any) -> Any:
        return getattr(Options(**{name: value}), name)

    return check


def _printable(text: str) -> str:
    """A recipe may be somebody else's: nothing in it may command the terminal."""
    if not "".join(text.split()).isprintable():
        raise problem(f"{named(text)} holds characters that cannot be printed")
    return text


def _file_stem(name: str) -> str:
    if not re.fullmatch(r"\w[\w. -]{0,99}", name):
        raise problem(f"{named(name)} is no name of a file", "Use letters, digits, '.', '_', '-' and spaces.")
    return name.removesuffix(".png").removesuffix(".svg").removesuffix(".csv")


def _model_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise problem(
            f"{named(name)} is no name of a model",
            "Use letters, digits, '_' and '-': it names a folder, and stands in --set; "
            "'label' holds any text.",
        )
    return name


Groups = Annotated[
    tuple[Group, ...], checked(parse_groups, (str,), "text like Q,K or a list of groups", listed=(str,))
]
Layers = Annotated[
    tuple[int, ...], checked(parse_layers, (str, int), "text like 0-3,7 or a list of numbers", listed=(int,))
]
Epsilon = Annotated[
    tuple[float, ...],
    checked(
        lambda value: option_check("epsilon")(
            tuple(map(float, value if isinstance(value, list) else [value]))
        ),
        (int, float),
        "a number or a list of numbers",
        listed=(int, float),
    ),
]
Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
FileStem = Annotated[str, AfterValidator(_file_stem)]
ModelName = Annotated[str, AfterValidator(_model_name)]
