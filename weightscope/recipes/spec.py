"""What may stand in a recipe: one class a kind of experiment, told apart by `experiment:`.

Those that train are in `training_spec`. Beside this file `load` (the name of what comes out), `run` and what
the command line prints tell the kinds apart.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    model_validator,
)

from weightscope.families.spec import DEFAULT_GROUPS
from weightscope.options import DEFAULT_EPSILON, Options
from weightscope.plots import ATTENTION, FEED_FORWARD
from weightscope.recipes.fields import (
    Epsilon,
    FileStem,
    Groups,
    Layers,
    ModelName,
    Text,
    checked,
    option_check,
    problem,
)
from weightscope.recipes.parts import Experiment, Part
from weightscope.recipes.training_spec import DecayRecipe, MergingRecipe
from weightscope.sweep.memory import parse_memory
from weightscope.table import columns
from weightscope.wording import nearest

AnyModel = TypeVar("AnyModel", bound="ModelSpec")


class ModelSpec(Part):
    """A checkpoint, as `analyze` takes it."""

    source: Text
    """A reference: `org/name` on the Hub, a path, or `demo`."""
    revision: Text | None = None
    """Branch, tag or commit on the Hub."""
    subfolder: Text | None = None
    """Folder inside the Hub's repository."""
    family: Text | None = None
    """Name of a family or path of a family file; found by itself if left out."""
    allow_pickle: bool = False
    """Whether `.bin` and `.pt` files may be loaded, tensors only."""
    cache: bool = False
    """Whether to download a repository's files first, rather than to stream what is needed."""
    label: Text | None = None
    """What it is called in figures and tables; its key in the recipe if left out."""


class SizesSpec(Part):
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


class OptionsSpec(Part):
    """The options of `analyze`, under their names there and with its checks."""

    groups: Groups = DEFAULT_GROUPS
    """Roles to analyse, as `Q,K` or a list; `all`."""
    layers: Layers | None = None
    """Layers to analyse, as `0-3,7` or a list of numbers."""
    spectrum: bool = False
    """Whether to compute every singular value."""
    epsilon: Epsilon = DEFAULT_EPSILON
    """Thresholds of the ε-ranks; others than the default imply `spectrum`."""
    spectrum_method: Annotated[str, checked(option_check("spectrum_method"), (str,), "text")] = "auto"
    """`auto`, `svdvals` or `gram`."""
    device: Text = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` …"""
    rtol: Annotated[float, checked(option_check("rtol"), (int, float), "a number")] = 1e-6
    """Relative width of the interval around the spectral norm."""
    bound: Annotated[str, checked(option_check("bound"), (str,), "text")] = "probable"
    """What stands behind its upper end."""
    memory: Annotated[int, checked(parse_memory, (str, int), "a size like 4G")] | None = None
    """What tensors and solvers may take, as `4G` or bytes."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the random start."""

    def options(self) -> Options:
        """As `analyze` takes them."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return Options(**{**values, "spectrum": self.spectrum or self.epsilon != DEFAULT_EPSILON})


class FigureSpec(Part):
    """The joint figure: one row of panels a model, a panel a quantity."""

    quantities: list[Text] = Field(default=["stable_rank", "frobenius_norm"], min_length=1, max_length=6)
    """Columns of the table. A single one is drawn twice, attention beside feed-forward."""
    file: FileStem | None = None
    """Name of the pictures without `.png` and `.svg`; the recipe's if left out."""


class TableSpec(Part):
    """The joint table of sizes."""

    file: FileStem | None = None
    """Name of the table without `.csv`; the recipe's if left out."""
    parameters_within: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """How far from the printed number of parameters still agrees, relatively: papers round it."""


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
    dict[ModelName, AnyModel],
    Field(min_length=1),
    AfterValidator(_tell_apart),
]


class InspectRecipe(Experiment):
    """Sizes of several models from headers and config, beside a paper's numbers."""

    experiment: Literal["inspect"]
    """`inspect`."""
    models: _Models[InspectedModelSpec]
    """Name of the model to what it is."""
    table: TableSpec = TableSpec()
    """The table that comes out."""


class AnalyzeRecipe(Experiment):
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


AnyRecipe = InspectRecipe | AnalyzeRecipe | MergingRecipe | DecayRecipe
KINDS: dict[str, type[Part]] = {
    "inspect": InspectRecipe,
    "analyze": AnalyzeRecipe,
    "merging": MergingRecipe,
    "decay": DecayRecipe,
}
"""Each kind by its name."""
Recipe = Annotated[AnyRecipe, Field(discriminator="experiment")]
RECIPE: TypeAdapter[AnyRecipe] = TypeAdapter(Recipe)
