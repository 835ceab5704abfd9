"""What a tensor's name means to a family: its templates, compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from weightscope.families.spec import FamilySpec, IgnoredPattern, MatrixPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A tensor's name, understood."""

    pattern: MatrixPattern | IgnoredPattern
    """The pattern that matched."""
    layer: int | None
    """What stood for `{layer}`."""
    expert: int | None
    """What stood for `{expert}`."""

    @property
    def meaning(self) -> MatrixPattern | str:
        """What the pattern says but for its template; two matches of one name should not differ in it."""
        if isinstance(self.pattern, IgnoredPattern):
            return "ignored"
        return replace(self.pattern, template="any")


_WRAPPERS = re.compile(
    r"^(?:module\.|_orig_mod\.|_forward_module\.|_fsdp_wrapped_module\.|base_model\.model\.|pretrained_model\.)+"
)
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def without_wrappers(name: str) -> str:
    """A tensor's name without what torch's and peft's wrappers put before it."""
    return _WRAPPERS.sub("", name).replace(".base_layer.", ".")


def layer_starts(spec: FamilySpec) -> Iterator[tuple[str, str]]:
    """What may stand before a layer's number in a name, and the stack of that layer."""
    for pattern in spec.patterns:
        before, numbered, _ = pattern.template.partition("{layer}")
        if numbered:
            for prefix in spec.prefixes if "{prefix}" in before else ("",):
                yield before.replace("{prefix}", prefix), pattern.stack or spec.stack


@lru_cache(maxsize=4096)  # most templates of most families are never looked at
def _compiled(template: str) -> re.Pattern[str]:
    regex = re.escape(template)
    for name in ("layer", "expert"):
        regex = regex.replace(rf"\{{{name}\}}", rf"(?P<{name}>\d+)")
    return re.compile(regex)


@lru_cache(maxsize=256)  # the registry twice over
def _candidates(
    patterns: tuple[MatrixPattern | IgnoredPattern, ...], prefixes: tuple[str, ...]
) -> dict[str, list[tuple[str, MatrixPattern | IgnoredPattern]]]:
    """Every template with each prefix, by its text with `#` for numbers; shared, hence not to be changed."""
    candidates: dict[str, list[tuple[str, MatrixPattern | IgnoredPattern]]] = {}
    for pattern in patterns:
        for prefix in prefixes if "{prefix}" in pattern.template else ("",):
            text = pattern.template.replace("{prefix}", prefix)
            key = NUMBER.sub("#", text.replace("{layer}", "0").replace("{expert}", "0"))
            candidates.setdefault(key, []).append((text, pattern))
    return candidates


class NameMatcher:
    """All templates of a family; finds the one a name belongs to in constant time."""

    def __init__(self, spec: FamilySpec) -> None:
        self._candidates = _candidates((*spec.patterns, *spec.ignored), tuple(spec.prefixes))
        self._first_layer = spec.first_layer

    def match(self, name: str) -> Match | None:
        """What the name means, or None; of several templates the first decides."""
        return next(self._matches(name), None)

    def matches(self, name: str) -> list[Match]:
        """What the name means by each template that it fits."""
        return list(self._matches(name))

    def _matches(self, name: str) -> Iterator[Match]:
        name = without_wrappers(name)
        for template, pattern in self._candidates.get(NUMBER.sub("#", name), ()):
            if found := _compiled(template).fullmatch(name):
                numbers = found.groupdict()
                layer = int(numbers["layer"]) - self._first_layer if numbers.get("layer") else None
                if layer is not None and layer < 0:
                    continue
                yield Match(
                    pattern=pattern,
                    layer=None if isinstance(pattern, MatrixPattern) and pattern.outside else layer,
                    expert=int(numbers["expert"]) if numbers.get("expert") else None,
                )
