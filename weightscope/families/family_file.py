"""Families that users describe in a file, without waiting for a release."""

from pathlib import Path
from typing import Any

from weightscope.errors import UnknownFamily
from weightscope.families.file_problems import of_fields, of_yaml
from weightscope.families.registry import FAMILIES, get_family
from weightscope.families.spec import FamilySpec

_MOST_BYTES = 1_000_000
_LISTS = ("patterns", "ignored")


def load_family(name_or_path: str) -> FamilySpec:
    """A family by its registered name, or from a YAML file with `FamilySpec`'s fields.

    Raises:
        UnknownFamily: No such name, no such file, or a file with other fields.
    """
    try:
        path = Path(name_or_path).expanduser()
        is_name = not path.exists() and path.suffix not in (".yaml", ".yml")
    except (OSError, RuntimeError):  # too long for a path; no such user behind "~"
        is_name = True
    if name_or_path in FAMILIES or is_name:
        return get_family(name_or_path)
    try:
        return parse_family(_text_of(path), path)
    except OSError as error:
        found = f"It cannot be read: {error.strerror}."
        raise _refused(
            path, found, "Check the path; 'weightscope families' lists families by name."
        ) from None
    except ValueError as error:  # no UTF-8
        raise _refused(path, f"It is not YAML: {' '.join(str(error).split())[:160]}.") from None


def parse_family(text: str, path: Path) -> FamilySpec:
    """A family from the text of a YAML file.

    Raises:
        UnknownFamily: It is no YAML, or has other fields.
    """
    import pydantic
    import yaml

    try:
        content: Any = yaml.load(text, _strict_loader())
        if isinstance(content, dict):  # a list all of whose entries are comments
            content |= {name: [] for name in _LISTS if name in content and content[name] is None}
        spec = pydantic.TypeAdapter(FamilySpec).validate_python(content)
        _check_patterns(spec)
        return spec
    except UnknownFamily:
        raise
    except pydantic.ValidationError as error:
        raise _refused(path, *of_fields(text, error)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, too deep
        raise _refused(path, *of_yaml(text, error, path.name)) from None


def _strict_loader() -> type[Any]:
    """YAML's safe loader, which of a key that stands twice takes the last in silence, made to refuse it."""
    import yaml

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            for place, (key, _) in enumerate(node.value):
                if key.value in keys[:place]:
                    line = node.start_mark.line + 1
                    why = f"the key {key.value!r} stands twice in the mapping of line {line}"
                    raise yaml.MarkedYAMLError(problem=why, problem_mark=key.start_mark)
            return super().construct_mapping(node, deep)

    return Strict


def _check_patterns(spec: FamilySpec) -> None:
    """Refuse what was written twice."""
    for place, pattern in enumerate(spec.patterns):
        if pattern in spec.patterns[:place]:
            raise UnknownFamily(
                f"The template {pattern.template!r} was given for family {spec.name!r}.",
                "It is there twice, and says the same both times.",
                "Take one of them out.",
            )


def _text_of(path: Path) -> str:
    """All of a file that is one, and not endless."""
    if path.exists() and not path.is_file():
        raise _refused(path, "It is no regular file.")
    if path.stat().st_size > _MOST_BYTES:
        raise _refused(path, f"It has {path.stat().st_size:,} bytes: it describes no family.")
    return path.read_text(encoding="utf-8")


def _refused(path: Path, found: str, advice: str = "") -> UnknownFamily:
    return UnknownFamily(
        f"The family file '{path}' was given.",
        found,
        advice or "See 'weightscope families show gpt2' for the fields and an example.",
    )
