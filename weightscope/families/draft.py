"""A family file as a draft: what a checkpoint's tensors were taken for, what from, and what for nothing.

The text is YAML with `FamilySpec`'s fields. What a reader must decide stands in comments that become fields
when their marks are taken away.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.counting import counted, listed
from weightscope.families.family_text import comment, entry, item, plain, scalar, seen, word
from weightscope.families.guess import UNKNOWN
from weightscope.families.heads import HeadCounts, LayoutError
from weightscope.families.layouts import LAYOUTS, PARTS, QKV_LAYOUTS
from weightscope.families.matching import NUMBER, NameMatcher, without_wrappers
from weightscope.families.matrix import Slice
from weightscope.families.registry import FAMILIES
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,60}")
# More than a config has numbers, or a checkpoint kinds of tensors.
_MOSTNUMBERS, _MOST_TEMPLATES = 40, 1000
# Query heads of the largest models.
_MOST_HEADS = 128
_Kinds = dict[str, list[TensorInfo]]


def draft_text(
    index: TensorIndex, config: Mapping[str, Any], spec: FamilySpec, sizes: ConfigSizes, reference: str
) -> str:
    """The family file of a checkpoint.

    Args:
        index: Its headers.
        config: Its config.
        spec: The family it was taken for, or the guesses.
        sizes: What the config says under the keys that the family knows.
        reference: What the user called it.
    """
    guessed = spec.name == UNKNOWN
    mine = _with_prefix(replace(spec, **_names(config)), index) if guessed else spec
    matcher = NameMatcher(mine)
    known: _Kinds = {}
    strange: _Kinds = {}
    for name, info in index.items():
        match = matcher.match(name)
        if match is not None:
            known.setdefault(match.pattern.template, []).append(info)
        elif len(info.shape) >= 2:
            strange.setdefault(_template_of(without_wrappers(name), mine), []).append(info)
    query_rows = _query_rows(mine, known)
    lines = [
        *_head(mine, guessed, reference, len(known), len(strange)),
        *_fields(mine, config, sizes, guessed),
    ]
    lines.append("patterns:")  # which reads as none, as long as all below it are comments
    for pattern in mine.patterns:
        lines += _pattern(pattern, known.get(pattern.template, ()), guessed, sizes, query_rows)
    lines += _without_role(strange, sizes, fused=any(p.group == Group.QKV for p in mine.patterns))
    if mine.ignored:
        lines.append("ignored:")
        for buffer in mine.ignored:
            lines.append(f"# {seen(known.get(buffer.template, ()))}")
            lines += item(buffer)
    return "\n".join([*lines, f"reference: {scalar(mine.reference)}", ""])


def _names(config: Mapping[str, Any]) -> dict[str, Any]:
    """What to call an unknown family: as its config does, if that is a name and nobody else's."""
    model_type = config.get("model_type")
    taken = {UNKNOWN, *FAMILIES, *(name for spec in FAMILIES.values() for name in spec.model_types)}
    if not isinstance(model_type, str) or not _NAME.fullmatch(model_type) or model_type in taken:
        return {"name": "mine"}
    return {"name": model_type, "model_types": (model_type,)}


def _with_prefix(spec: FamilySpec, index: TensorIndex) -> FamilySpec:
    """What stands before all layers, such as `model.`, as the prefix; bare models have none."""
    heads = {p.template.partition("{layer}")[0] for p in spec.patterns if "{layer}" in p.template}
    if len(heads) != 1:
        return spec
    prefix = "".join(re.findall(r"[^.]+\.", heads.pop())[:-1])
    if not prefix or "{" in prefix:
        return spec

    def opened(pattern: Any) -> Any:
        inner = pattern.template.removeprefix(prefix)
        return replace(pattern, template=f"{{prefix}}{inner}") if inner != pattern.template else pattern

    shared = replace(
        spec,
        prefixes=(prefix, ""),
        patterns=tuple(map(opened, spec.patterns)),
        ignored=tuple(map(opened, spec.ignored)),
    )
    # '' must not make a name understood that was not.
    before, after = NameMatcher(spec), NameMatcher(shared)
    same = all((before.match(name) is None) == (after.match(name) is None) for name in index)
    return shared if same else spec


def _template_of(name: str, spec: FamilySpec) -> str:
    """A name with its layer and expert left open, in the family's own way if it stands in its layers."""
    for pattern in spec.patterns:
        before, layer, _ = pattern.template.partition("{layer}")
        for prefix in spec.prefixes if "{prefix}" in before else ("",) if layer else ():
            number = re.match(rf"{re.escape(before.replace('{prefix}', prefix))}(\d+)\.", name)
            if number:
                return f"{before}{{layer}}.{_with_expert(name[number.end() :])}"
    return _with_expert(NUMBER.sub("{layer}", name, count=1))


def _with_expert(rest: str) -> str:
    return re.sub(r"(?<=experts\.)\d+(?=\.)", "{expert}", rest, count=1)


def _query_rows(spec: FamilySpec, known: _Kinds) -> dict[str, int]:
    """By stack and kind what O reads."""
    found = {}
    for pattern in spec.patterns:
        infos = known.get(pattern.template, ())
        if pattern.group == Group.O and infos and len(infos[0].shape) == 2:
            whole = Slice(tensor=infos[0], transposed=pattern.transposed)
            found[pattern.stack + pattern.attention_kind] = whole.shape[1]
    return found


def _head(spec: FamilySpec, guessed: bool, reference: str, known: int, strange: int) -> Iterator[str]:
    if guessed:
        yield f"# A family file drafted from the names and shapes of {word(reference)}."
        yield "# Each line is a guess. Correct it, and use it with --family."
    else:
        yield f"# The entry of family {word(spec.name)}, as which {word(reference)} was read."
        yield "# Correct it, and use it with --family."
    kinds = counted(known, "kind of tensors", "kinds of tensors")
    yield f"# It gives {kinds} a meaning, and says nothing of {strange} more."


def _fields(spec: FamilySpec, config: Mapping[str, Any], sizes: ConfigSizes, guessed: bool) -> Iterator[str]:
    """All but the templates and the reference."""
    said = plain(replace(spec, patterns=(), ignored=(), reference=""))
    for name, value in {**said, "stack": spec.stack}.items():
        if name == "patterns":
            continue
        if guessed and name == "prefixes":
            yield "# What stands before the layers; '' for files of the bare model."
        yield from entry(name, value)
    if guessed:
        yield from _config_comments(config, sizes)


def _config_comments(config: Mapping[str, Any], sizes: ConfigSizes) -> Iterator[str]:
    """The sizes that were read from the config, and its other numbers."""
    read = {field.name: getattr(sizes, field.name) for field in fields(sizes)}
    said = [f"{name} {value}" for name, value in read.items() if value is not None]
    yield f"# Read from config.json: {', '.join(said) or 'nothing'}."
    numbers = [
        f"{word(key)} {value}"
        for key, value in config.items()
        if type(value) is int and 0 < value < 10**9 and value not in read.values()
    ]
    if numbers:
        more = [f"and {len(numbers) - _MOSTNUMBERS} more"] if len(numbers) > _MOSTNUMBERS else []
        lacking = ", ".join(name for name, value in read.items() if value is None)
        yield from comment(f"Its other numbers: {', '.join([*numbers[:_MOSTNUMBERS], *more])}.")
        yield from comment(f"If one of them is a size that was not read ({lacking}), name its key:")
        yield "# config_keys:"
        yield "#   heads: KEY"


def _pattern(
    pattern: MatrixPattern,
    infos: Sequence[TensorInfo],
    guessed: bool,
    sizes: ConfigSizes,
    query_rows: Mapping[str, int],
) -> Iterator[str]:
    yield f"# {'guessed from its name; ' if guessed else ''}{seen(infos)}"
    if not infos or len(infos[0].shape) != 2:
        yield from item(pattern)
        return
    whole = Slice(tensor=infos[0], transposed=pattern.transposed)
    if guessed and pattern.transposed:
        yield "# Stored (in_features, out_features), by its shape or its neighbours'."
    elif guessed and infos[0].shape[0] == infos[0].shape[1]:
        yield "# Square: its shape does not tell whether it is stored the other way round (transposed: true)."
    yield from item(pattern)
    if pattern.layout is None and pattern.group == Group.QKV:
        rows = query_rows.get(pattern.stack + pattern.attention_kind)
        fit = [name for name in QKV_LAYOUTS if _fits(name, whole.shape[0], sizes.head_counts, rows)]
        yield from comment(
            "Fused, and whole until a layout says which rows are Q, K and V. Only the model's code tells it; "
            f"by the sizes it could be {', '.join(fit) or 'none of those there are'}.",
            indent="  ",
        )
        yield "  # layout: LAYOUT"


def _fits(layout: str, rows: int, counts: HeadCounts, query_rows: int | None) -> bool:
    """Whether a layout divides these rows; with heads of any number, where the config states none."""
    heads = [counts.heads] if counts.heads else range(1, _MOST_HEADS + 1)
    for count in heads:
        kinds = (
            [counts.kv_heads] if counts.kv_heads else [None, *(k for k in range(1, count) if count % k == 0)]
        )
        for kv_heads in kinds:
            try:
                LAYOUTS[layout](rows, replace(counts, heads=count, kv_heads=kv_heads, query_rows=query_rows))
            except LayoutError:
                continue
            return True
    return False


def _without_role(strange: _Kinds, sizes: ConfigSizes, *, fused: bool) -> Iterator[str]:
    """The templates that nothing was guessed for, ready to be filled in."""
    kinds = list(strange.items())
    usable = [kind for kind in kinds if _why_not(*kind) == ""]
    if usable:
        yield from comment(
            "No role was found for these, which are of group other. To give one, take the marks away and "
            f"fill in the group ({', '.join(Group)}), or put it under 'ignored' with a reason."
        )
    if usable and not fused:  # else the fused one has a line that says so
        yield from comment(
            "If the file keeps several matrices in one tensor, add a layout that says how: "
            f"for Q, K and V (group QKV) 'layout: {next(iter(QKV_LAYOUTS))}' or another of "
            f"{', '.join([*QKV_LAYOUTS][1:])}; for {_other_layouts()}."
        )
    for template, infos in usable[:_MOST_TEMPLATES]:
        yield f"# {seen(infos)}"
        yield from _perhaps_fused(infos[0], sizes)
        yield f"# - template: {scalar(template)}"
        yield "#   group: GROUP"
    if len(usable) > _MOST_TEMPLATES:
        yield f"# … and {len(usable) - _MOST_TEMPLATES} more."
    for template, infos in [kind for kind in kinds if kind not in usable][:_MOST_TEMPLATES]:
        yield f"# {seen(infos)}: {_why_not(template, infos)}"


def _other_layouts() -> str:
    """Those that do not split QKV, by the group that a weight goes by."""
    by_group: dict[str, list[str]] = {}
    for layout, parts in PARTS.items():
        by_group.setdefault(f"{listed(parts)} (group {parts[0]})", []).append(layout)
    return "; for ".join(f"{of_what} {listed(layouts, 'or')}" for of_what, layouts in by_group.items())


def _perhaps_fused(info: TensorInfo, sizes: ConfigSizes) -> Iterator[str]:
    """A hint where the shape is that of queries, keys and values on top of each other or side by side."""
    short, long = sorted(info.shape)
    if long != 3 * short or sizes.vocabulary in info.shape:
        return
    turned = "" if info.shape[0] == long else ", with transposed: true"
    yield from comment(f"{long} is three times {short}: it may be Q, K and V in one, group QKV{turned}.")


def _why_not(template: str, infos: Sequence[TensorInfo]) -> str:
    """Why no template can give these a role; empty if one can."""
    info = infos[0]
    element = ELEMENT_TYPES[info.dtype]
    if element.kind != "float" or element.torch_name is None or not info.elements:
        return "no weights, skipped in any case."
    if len(info.shape) != 2:
        return f"{len(info.shape)} dimensions, a convolution or skipped with a reason."
    if "{" in info.name or "}" in info.name:
        return "braces cannot stand in a template; of group other."
    return ""
