"""The words of the registry: groups, name templates and families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from weightscope.errors import UnknownFamily
from weightscope.families.layouts import LAYOUTS, PARTS
from weightscope.families.naming import check_template, check_word


class Group(StrEnum):
    """The role of a matrix in its model."""

    Q = "Q"
    K = "K"
    V = "V"
    O = "O"  # noqa: E741 - the field's letter for the attention output
    QKV = "QKV"
    M1 = "M1"
    G = "G"
    M2 = "M2"
    Q_A = "Q_A"
    Q_B = "Q_B"
    KV_A = "KV_A"
    K_R = "K_R"
    K_B = "K_B"
    V_B = "V_B"
    EMBEDDING = "embedding"
    POSITION = "position"
    UNEMBEDDING = "unembedding"
    ROUTER = "router"
    CONV = "conv"
    OTHER = "other"


# Multi-head latent attention (DeepSeek) has factors instead of Q, K and V.
LATENT_ATTENTION_GROUPS = (Group.Q_A, Group.Q_B, Group.KV_A, Group.K_R, Group.K_B, Group.V_B)
ATTENTION_GROUPS = (Group.Q, Group.K, Group.V, Group.O, Group.QKV, *LATENT_ATTENTION_GROUPS)
FEED_FORWARD_GROUPS = (Group.M1, Group.G, Group.M2)
DEFAULT_GROUPS = tuple(group for group in Group if group in ATTENTION_GROUPS + FEED_FORWARD_GROUPS)

# What a config may state under a key of the family's own; see `ConfigSizes`.
SIZES = (
    *("layers", "model_dimension", "feed_forward_dimension", "heads", "kv_heads", "head_dim", "vocabulary"),
    *(
        "experts",
        "expert_dimension",
        "shared_expert_dimension",
        "query_latent_dim",
        "latent_dim",
        "key_dim",
        "value_dim",
        "rotary_dim",
    ),
)
# What a config may state by true or false; see `read_sizes`.
FLAGS = ("multi_query", "grouped_queries")
# `forward pass`: fused weights are what a model of transformers does with them; `modules`: its modules' own
# weights; `formula`: transformers cannot load it, and the tests put its weights together themselves.
Verified = Literal["forward pass", "modules", "formula", "not verified"]
# Stack, attention kind and group: different names may mean one.
StackRole = tuple[str, str, Group]


def _whole_of(layout: str) -> Group:
    return Group(PARTS[layout][0]) if layout in PARTS else Group.QKV


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixPattern:
    """Tensors of one name template and the role they have."""

    template: str
    """Name with `{prefix}`, `{layer}`, `{expert}` where they stand."""
    group: Group
    """The role; for fused queries, keys and values `QKV`, for a fused gate and up `M1`: see `PARTS`."""
    transposed: bool = False
    """Whether the file stores (in_features, out_features), as Conv1D does."""
    layout: str | None = None
    """How a fused tensor splits into its parts along out_features: a key of `LAYOUTS`."""
    stack: str = ""
    """`encoder`, `decoder` …; empty for the family's own."""
    attention_kind: Literal["self", "cross"] = "self"
    """`self` or `cross`; ignored outside attention groups."""
    expert: Literal["", "stacked", "shared"] = ""
    """`stacked` where one tensor holds all experts of a layer, one behind the other along its first
    dimension; `shared` for the expert that sees every token; empty where `{expert}` is the number."""
    outside: bool = False
    """Whether `{layer}` numbers no block here: where embedding, blocks and head are one list."""
    optional: bool = False
    """Whether some models of the family have no such tensor: names alone tell the family without it."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic from the class

    def __post_init__(self) -> None:
        """Refuse what could never match."""
        check_template(self.template)
        if self.group not in list(Group):
            raise UnknownFamily(
                f"The group {str(self.group)!r} was given for {self.template!r}.",
                f"The groups are: {', '.join(Group)}.",
                "Use one of these.",
            )
        if self.stack:
            check_word("stack", self.stack)
        if self.expert and "{expert}" in self.template:
            raise UnknownFamily(
                f"The template {self.template!r} was given with 'expert: {self.expert}'.",
                "Its experts would have two numbers, that of {expert} and this.",
                "Leave one of them out.",
            )
        if self.attention_kind == "cross" and self.group not in ATTENTION_GROUPS:
            raise UnknownFamily(
                f"The template {self.template!r} was given as {self.group} with 'attention_kind: cross'.",
                f"Only attention has a kind: {', '.join(ATTENTION_GROUPS)}.",
                "Leave it out, or give the group of an attention.",
            )
        if self.layout is not None and self.layout not in LAYOUTS:
            raise UnknownFamily(
                f"The layout {self.layout!r} was given for {self.template!r}.",
                f"The layouts are: {', '.join(LAYOUTS)}.",
                "Use one of these.",
            )
        if self.layout is not None and self.group != (whole := _whole_of(self.layout)):
            raise UnknownFamily(
                f"The layout {self.layout!r} was given for {self.template!r} of group {self.group}.",
                f"It splits a tensor of group {whole}.",
                f"Write group {whole}, or leave the layout out.",
            )

    @property
    def groups(self) -> tuple[Group, ...]:
        """The roles that its tensors have, the parts of a fused one included where the whole has none."""
        return tuple(map(Group, PARTS.get(self.layout or "", (self.group,))))


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredPattern:
    """Tensors that look like weights and are not."""

    template: str
    """Name with placeholders."""
    reason: str
    """What they are, for skipped.csv."""
    trained: bool = False
    """Whether they are parameters all the same, such as the biases of several experts in one tensor."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic from the class

    def __post_init__(self) -> None:
        """Refuse what could never match."""
        check_template(self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPattern:
    """A second name under which some files store the same weights once more."""

    template: str
    """Name of the copy, with `{prefix}` where it stands."""
    of: tuple[str, ...]
    """Names of what it is a copy of; the first of them that is stored."""
    unless: str = ""
    """Key of config.json that says false where it is no copy; empty if it always is one. Where there is no
    config nothing is known, and it is none."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic from the class

    def __post_init__(self) -> None:
        """Refuse what could never match."""
        for template in (self.template, *self.of):
            check_template(template)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilySpec:
    """One family of checkpoints that share names and layouts."""

    name: str
    """What the family is called here."""
    patterns: tuple[MatrixPattern, ...]
    """Every matrix it knows."""
    model_types: tuple[str, ...] = ()
    """Values of `model_type` in config.json that mean this family."""
    prefixes: tuple[str, ...] = ("",)
    """What `{prefix}` may stand for; a checkpoint with a task head has one, a bare model none."""
    ignored: tuple[IgnoredPattern, ...] = ()
    """Buffers: masks, position ids."""
    copies: tuple[CopyPattern, ...] = ()
    """Tied weights that files store more than once."""
    stack: str = "decoder"
    """The stack of its layers."""
    first_layer: int = 0
    """The number of the first block in the names; more than 0 where what comes before is numbered too."""
    stack_beyond: str = ""
    """The stack of layers numbered beyond those that the config counts, if it is another: blocks that predict
    further tokens."""
    beyond: str = ""
    """Template of a tensor that these have and no other layer has; empty if only their numbers tell."""
    config_keys: Mapping[str, str] = field(default_factory=dict)
    """Where config.json keeps a size under a name of its own, such as `{"heads": "n_head"}` or
    `{"kv_heads": "attn_config.kv_n_heads"}`; empty where the usual names mean something else."""
    stack_keys: Mapping[str, Mapping[str, str | tuple[str, ...]]] = field(default_factory=dict)
    """Where it keeps sizes of one stack: `{"decoder": {"heads": "decoder_attention_heads"}}`; of several keys
    the first that is there. A size that is not named for a stack is the whole model's."""
    config_flags: Mapping[str, str] = field(default_factory=dict)
    """Where it tells the key and value heads by true or false: `multi_query` (one, else as many as query
    heads) and `grouped_queries` (as many as it states, else it states nothing to go by)."""
    head_norm: str = ""
    """Template of a vector with one element for each row of a query head, if heads are normalised by one."""
    # How it was verified is no part of what it says of a checkpoint, hence of no account in comparisons.
    verified: Verified = field(default="not verified", compare=False)
    """How the tests verify it: tests/parity/test_verified.py holds this against them."""
    formula: tuple[str, ...] = field(default=(), compare=False)
    """Its spellings that transformers does not write, put together by formula in the tests."""
    reference: str = ""
    """Where the names were read: a URL or a file, and the date."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic from the class

    def __post_init__(self) -> None:
        """Refuse a size or flag that nothing would look up."""
        for template in filter(None, (self.head_norm, self.beyond)):
            check_template(template)
        if self.first_layer < 0:
            raise UnknownFamily(
                f"The first layer {self.first_layer} was given for family {self.name!r}.",
                "It is the number of the first block in the names, which is 0 or more.",
                "Correct it, or leave it out.",
            )
        for what, word in (("family", self.name), ("stack", self.stack), ("stack", self.stack_beyond or "-")):
            check_word(what, word)
        for given, known, what in (
            (self.config_keys, SIZES, "sizes"),
            *((keys, SIZES, "sizes") for keys in self.stack_keys.values()),
            (self.config_flags, FLAGS, "flags"),
        ):
            for name in given:
                if name not in known:
                    raise UnknownFamily(
                        f"The config key of {name!r} was given for family {self.name!r}.",
                        f"The {what} are: {', '.join(known)}.",
                        "Use one of these.",
                    )

    def roles_of(self, pattern: MatrixPattern) -> set[StackRole]:
        """Stack, attention kind and group of each part of what a template describes."""
        return {(pattern.stack or self.stack, pattern.attention_kind, group) for group in pattern.groups}

    @property
    def always(self) -> set[StackRole]:
        """The roles that a layer of the family has in every model, though not every layer has them."""
        layered = (p for p in self.patterns if "{layer}" in p.template and not p.optional)
        return {role for pattern in layered for role in self.roles_of(pattern)}
