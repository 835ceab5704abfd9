"""What may stand in a recipe: one class a kind of experiment, told apart by `experiment:`.

Experiments that train join here as further classes of `Recipe`; nothing else of this folder but `run` knows
how many kinds there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

from weightscope.errors import WeightscopeError
from weightscope.families.select import parse_groups, parse_layers
from weightscope.families.spec import DEFAULT_GROUPS, Group
from weightscope.options import DEFAULT_EPSILON, Options
from weightscope.plots import ATTENTION, FEED_FORWARD
from weightscope.recipes.wording import named, nearest
from weightscope.sweep.memory import parse_memory
from weightscope.table import columns

AnyModel = TypeVar("AnyModel", bound="ModelSpec")


def problem(found: str, advice: str = "", *, at: tuple[str, ...] = ()) -> PydanticCustomError:
    """What a validator raises: what was found, what to do, and where if not at its own key."""
    return PydanticCustomError("recipe", "{found}", {"found": found, "advice": advice, "at": at})


def _as_problem(error: WeightscopeError) -> PydanticCustomError:
    """An error of `analyze`'s own checks, as one sentence."""
    found = f"{_small(error.asked).rstrip('.')}; {_small(error.found).rstrip('.')}"
    return problem(found, error.advice)


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _checked(
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


def _option(name: str) -> Callable[[Any], Any]:
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


_Groups = Annotated[
    tuple[Group, ...], _checked(parse_groups, (str,), "text like Q,K or a list of groups", listed=(str,))
]
_Layers = Annotated[
    tuple[int, ...], _checked(parse_layers, (str, int), "text like 0-3,7 or a list of numbers", listed=(int,))
]
_Epsilon = Annotated[
    tuple[float, ...],
    _checked(
        lambda value: _option("epsilon")(tuple(map(float, value if isinstance(value, list) else [value]))),
        (int, float),
        "a number or a list of numbers",
        listed=(int, float),
    ),
]
_Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
_FileStem = Annotated[str, AfterValidator(_file_stem)]


class _Part(BaseModel):
    """A mapping of a recipe: exact types, no unknown key; a key without a value has its default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {k: v for k, v in content.items() if v is not None or k not in cls.model_fields}


class PaperSpec(_Part):
    """Which published result a recipe reproduces."""

    reference: _Text
    """Authors, title, year."""
    item: _Text
    """The table or figure."""
    outcome: _Text
    """What must come out, in a sentence."""


class ModelSpec(_Part):
    """A checkpoint, as `analyze` takes it."""

    source: _Text
    """A reference: `org/name` on the Hub, a path, or `demo`."""
    revision: _Text | None = None
    """Branch, tag or commit on the Hub."""
    subfolder: _Text | None = None
    """Folder inside the Hub's repository."""
    family: _Text | None = None
    """Name of a family or path of a family file; found by itself if left out."""
    allow_pickle: bool = False
    """Whether `.bin` and `.pt` files may be loaded, tensors only."""
    label: _Text | None = None
    """What it is called in figures and tables; its key in the recipe if left out."""


class SizesSpec(_Part):
    """Sizes as a paper prints them; what it does not print is left out."""

    layers: Annotated[int, Field(gt=0)] | None = None
    """Transformer blocks."""
    model_dimension: Annotated[int, Field(gt=0)] | None = None
    """Width of the residual stream."""
    feed_forward_dimension: Annotated[int, Field(gt=0)] | None = None
    """Width of the MLP."""
    parameters: Annotated[int, Field(gt=0)] | None = None
    """All parameters, as rounded in print."""


class InspectedModelSpec(ModelSpec):
    """A checkpoint and what the paper says of it."""

    expected: SizesSpec = SizesSpec()
    """The paper's sizes."""


class OptionsSpec(_Part):
    """The options of `analyze`, under their names there and with its checks."""

    groups: _Groups = DEFAULT_GROUPS
    """Roles to analyse, as `Q,K` or a list; `all`."""
    layers: _Layers | None = None
    """Layers to analyse, as `0-3,7` or a list of numbers."""
    spectrum: bool = False
    """Whether to compute every singular value."""
    epsilon: _Epsilon = DEFAULT_EPSILON
    """Thresholds of the ε-ranks; others than the default imply `spectrum`."""
    spectrum_method: Annotated[str, _checked(_option("spectrum_method"), (str,), "text")] = "auto"
    """`auto`, `svdvals` or `gram`."""
    device: _Text = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` …"""
    rtol: Annotated[float, _checked(_option("rtol"), (int, float), "a number")] = 1e-6
    """Relative width of the interval around the spectral norm."""
    bound: Annotated[str, _checked(_option("bound"), (str,), "text")] = "probable"
    """What stands behind its upper end."""
    memory: Annotated[int, _checked(parse_memory, (str, int), "a size like 4G")] | None = None
    """What tensors and solvers may take, as `4G` or bytes."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the random start."""

    def options(self) -> Options:
        """As `analyze` takes them."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return Options(**{**values, "spectrum": self.spectrum or self.epsilon != DEFAULT_EPSILON})


class FigureSpec(_Part):
    """The joint figure: one row of panels a model, a panel a quantity."""

    quantities: Annotated[list[_Text], Field(min_length=1, max_length=6)] = ["stable_rank", "frobenius_norm"]
    """Columns of the table. A single one is drawn twice, attention beside feed-forward."""
    file: _FileStem | None = None
    """Name of the pictures without `.png` and `.svg`; the recipe's if left out."""


class TableSpec(_Part):
    """The joint table of sizes."""

    file: _FileStem | None = None
    """Name of the table without `.csv`; the recipe's if left out."""
    parameters_within: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """How far from the printed number of parameters still agrees, relatively: papers round it."""


class _Experiment(_Part):
    """What every kind of recipe has."""

    experiment: str
    """The kind."""
    title: _Text
    """In one line."""
    paper: PaperSpec | None = None
    """What it reproduces."""


def _tell_apart(models: dict[str, AnyModel]) -> dict[str, AnyModel]:
    """Each model has a folder and a label of its own, also where file names know no case."""
    folders: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name, model in models.items():
        for what, key, taken in (("name", name.casefold(), folders), ("label", model.label or name, labels)):
            if (other := taken.setdefault(key, name)) != name:
                raise problem(
                    f"'{name}' and '{other}' have one {what}, '{key}'",
                    f"Give one of them another {what}.",
                    at=("models", name),
                )
    return models


_Models = Annotated[
    dict[Annotated[str, AfterValidator(_model_name)], AnyModel],
    Field(min_length=1),
    AfterValidator(_tell_apart),
]


class InspectRecipe(_Experiment):
    """Sizes of several models from headers and config, beside a paper's numbers."""

    experiment: Literal["inspect"]
    """`inspect`."""
    models: _Models[InspectedModelSpec]
    """Name of the model to what it is."""
    table: TableSpec = TableSpec()
    """The table that comes out."""


class AnalyzeRecipe(_Experiment):
    """Norms and ranks of several models, in one figure."""

    experiment: Literal["analyze"]
    """`analyze`."""
    models: _Models[ModelSpec]
    """Name of the model to what it is."""
    options: OptionsSpec = OptionsSpec()
    """As `analyze` takes them."""
    figure: FigureSpec = FigureSpec()
    """What is drawn."""

    @model_validator(mode="after")
    def _figure_can_be_drawn(self) -> AnalyzeRecipe:
        options = self.options.options()
        schema = columns(with_spectrum=options.spectrum, epsilon=options.epsilon)
        key = ("layer", "head", "out_features", "in_features")
        known = [column.name for column in schema if column.kind != "text" and column.name not in key]
        for quantity in self.figure.quantities:
            if quantity not in known:
                more = "" if options.spectrum else "; with spectrum: true there are more"
                raise problem(
                    f"there is no quantity '{quantity}'{nearest(quantity, known)}",
                    f"The quantities are {', '.join(known)}{more}.",
                    at=("figure", "quantities"),
                )
        drawn = (*ATTENTION, *FEED_FORWARD)
        if not set(options.groups) & set(drawn):
            raise problem(
                "none of these groups can be drawn",
                f"Add some of {', '.join(drawn)}.",
                at=("options", "groups"),
            )
        return self


KINDS: dict[str, type[_Part]] = {"inspect": InspectRecipe, "analyze": AnalyzeRecipe}
"""Each kind by its name."""
Recipe = Annotated[InspectRecipe | AnalyzeRecipe, Field(discriminator="experiment")]
RECIPE: TypeAdapter[InspectRecipe | AnalyzeRecipe] = TypeAdapter(Recipe)
