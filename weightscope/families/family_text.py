"""The words that a family file is written with: values and comments as YAML, each in its line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from reprlib import repr as brief
from textwrap import wrap
from typing import Any

from weightscope.checkpoints.header import TensorInfo
from weightscope.families.spec import IgnoredPattern, MatrixPattern

# Plain words that YAML reads as something else.
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def plain(value: Any) -> Any:
    """Dataclasses to mappings without their defaults, tuples to lists, enums to text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if field.compare and getattr(value, field.name) not in (field.default, {})
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def entry(name: str, value: Any) -> list[str]:
    """A field with its value as YAML, in one line or in one for each part."""
    if isinstance(value, (str, bool)):
        return [f"{name}: {scalar(value)}"]
    import yaml

    text: str = yaml.safe_dump({name: plain(value)}, sort_keys=False, allow_unicode=True, width=10**9)
    return text.rstrip().splitlines()


def item(pattern: MatrixPattern | IgnoredPattern) -> Iterator[str]:
    """A list's entry with the fields that are not the default."""
    mark = "- "
    for name, value in plain(pattern).items():
        for line in entry(name, value):
            yield f"{mark}{line}"
            mark = "  "


def seen(infos: Sequence[TensorInfo]) -> str:
    """How many tensors there are and what one of them looks like."""
    if not infos:
        return "matches nothing here"
    count = f"{len(infos)} tensors such as" if len(infos) > 1 else "1 tensor,"
    return f"{count} {word(infos[0].name)} {list(infos[0].shape)} {infos[0].dtype}"


def comment(text: str, indent: str = "") -> list[str]:
    """Lines of a comment."""
    return [f"{indent}# {line}" for line in wrap(text, 96, break_long_words=False, break_on_hyphens=False)]


def word(text: str) -> str:
    """Somebody else's text in a comment: one line of it."""
    return text if text.isprintable() and len(text) <= 300 else brief(text)


def scalar(value: Any) -> str:
    """A value as YAML, in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if re.fullmatch(r"[A-Za-z][\w]*", text := str(value)) and text.lower() not in _YAML_WORDS:
        return text
    import yaml

    quoted: str = yaml.safe_dump(text, default_style="'", allow_unicode=True, width=10**9)
    return quoted.strip()
