"""A recipe's text: plain values, and for each of them where it was written.

YAML's own loader forgets the lines, keeps the last of two equal keys without a word, and takes `1e-6` for
text. So the nodes are composed by PyYAML and turned into values here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from weightscope.errors import RecipeError

Place = tuple[str | int, ...]
"""Where a value stands: keys and positions in lists, from the outermost in."""

# A recipe is a page; what is larger or deeper was not written by hand.
_MOST_CHARACTERS, _MOST_NODES, _DEEPEST = 1_000_000, 20_000, 40
# Of one value: more is no number, and base 60 takes quadratic time.
_LONGEST_NUMBER, _LONGEST_TEXT = 40, 10_000
_NUMBERS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "timestamp")}
# What the YAML reader raises beside its own errors.
_STUMBLES = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML's safe types, with 1e-6 a number as in YAML 1.2, and dates left as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":float"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(\.\d+|\d+\.\d*([eE][-+]?\d+)?|\.\d+[eE][-+]?\d+|\d+[eE][-+]?\d+)|[-+]?\.(inf|Inf)|\.nan"
    ),
    list("-+.0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader`, and any other reader of YAML, takes for the same values."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *found]
    for first, found in _Loader.yaml_implicit_resolvers.items()
}


def write_document(content: Mapping[str, Any]) -> str:
    """The YAML text of plain values, in their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


@dataclass(slots=True)
class Document:
    """A recipe as written, before any of it is judged."""

    name: str
    """What the recipe is called in messages."""
    content: dict[str, Any]
    """Mappings, lists and scalars."""
    origins: dict[Place, str] = field(default_factory=dict)
    """For each value, where it was written: `line 12 of figure1.yaml`, `--set options.rtol=1`."""

    def origin(self, path: Place) -> str:
        """Where the value was written, or the nearest one around it that was."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, "the recipe")

    def place(self, path: Place) -> str:
        """The value's keys and where it was written, as the beginning of a sentence."""
        return f"At {'.'.join(map(str, path)) or 'the recipe'}, {self.origin(path)}"


def read_document(text: str, *, name: str, file: str) -> Document:
    """The values of a YAML text and their lines.

    Args:
        text: The content of a recipe file.
        name: What the recipe is called in messages.
        file: Name of the file in messages.

    Raises:
        RecipeError: It is no YAML, no mapping, or says one thing twice.
    """
    found = Document(name=name, content={})
    if len(text) > _MOST_CHARACTERS:
        raise _refused(name, f"{file} holds {len(text):,} characters: it is no recipe.")
    loader = _loader(text, name, file)
    try:
        node = loader.get_single_node()
        value = _Values(found, loader, file).value(node, (), 0) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _refused(name, f"Line {line} of {file} is not YAML: {_one_line(error.problem)}.") from None
    except RecipeError:
        raise
    except (yaml.YAMLError, *_STUMBLES) as error:
        raise _refused(name, f"{file} is not YAML: {_one_line(error)}.") from None
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise _refused(name, f"{file} is empty." if value is None else f"{file} holds no mapping of keys.")
    found.content = value
    return found


def _loader(text: str, name: str, file: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.YAMLError as error:  # of characters that YAML does not have
        raise _refused(name, f"{file} is not YAML: {_one_line(error)}.") from None


def parse_value(text: str) -> Any:
    """One value of `--set key=value`, read as in a recipe file.

    Raises:
        ValueError: It is no YAML; the message says why.
    """
    scratch = Document(name="", content={})
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise ValueError(_one_line(error)) from None
    try:
        node = loader.get_single_node()
        return None if node is None else _Values(scratch, loader, "the value").value(node, (), 0)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_one_line(error.problem)) from None
    except RecipeError as error:
        raise ValueError(error.found.rstrip(".")) from None
    except (yaml.YAMLError, *_STUMBLES) as error:
        raise ValueError(_one_line(error)) from None
    finally:
        loader.dispose()


class _Values:
    """Nodes to values, each line noted."""

    def __init__(self, document: Document, loader: _Loader, file: str) -> None:
        self.document, self.loader, self.file = document, loader, file
        self.nodes = 0

    def value(self, node: yaml.Node, path: Place, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > _MOST_NODES or depth > _DEEPEST:  # aliases can make a small file a large tree
            raise self._wrong(node, "is too deep or too large for a recipe.")
        self.document.origins[path] = f"line {node.start_mark.line + 1} of {self.file}"
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        length = len(node.value)
        if length > (_LONGEST_NUMBER if node.tag in _NUMBERS else _LONGEST_TEXT):
            raise self._wrong(node, f"holds a value of {length:,} characters.")
        try:
            return self.loader.construct_object(node, deep=True)
        except _STUMBLES as error:  # of tags that do not fit their values
            raise self._wrong(node, f"holds a value that cannot be read: {_one_line(error)}.") from None

    def _mapping(self, node: yaml.MappingNode, path: Place, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.value.isprintable():
                raise self._wrong(key_node, "has a key that is no text.")
            key = str(key_node.value)  # as written: a model may be called 7, or no
            if key in found:
                where = ".".join(map(str, (*path, key)))
                first = self.document.origins[(*path, key)]
                raise self._wrong(key_node, f"states '{where}' a second time; the first is {first}.")
            found[key] = self.value(value_node, (*path, key), depth + 1)
            # The key's line, not the value's: a mapping begins on the line below.
            self.document.origins[(*path, key)] = f"line {key_node.start_mark.line + 1} of {self.file}"
        return found

    def _wrong(self, node: yaml.Node, found: str) -> RecipeError:
        return _refused(self.document.name, f"Line {node.start_mark.line + 1} of {self.file} {found}")


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:160].rstrip(".")


def _refused(name: str, found: str) -> RecipeError:
    return RecipeError(
        f"The recipe '{name}' was to be run.",
        found,
        "Correct the file; 'weightscope run --list' names recipes that can be copied.",
    )
