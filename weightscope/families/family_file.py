"""Families that users describe in a file, without waiting for a release."""

from pathlib import Path
from typing import Any

from weightscope.errors import UnknownFamily
from weightscope.families.registry import FAMILIES, get_family
from weightscope.families.spec import FamilySpec


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
    import pydantic
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return pydantic.TypeAdapter(FamilySpec).validate_python(content)
    except OSError as error:
        raise _refused(path, f"It cannot be read: {error.strerror}.") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
        raise _refused(path, f"At {where}: {first['msg']}{more}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # no UTF-8, a date that is none, too deep
        raise _refused(path, f"It is not YAML: {' '.join(str(error).split())[:160]}.") from None


def _refused(path: Path, found: str) -> UnknownFamily:
    return UnknownFamily(
        f"The family file '{path}' was given.",
        found,
        "See 'weightscope families show gpt2' for the fields and an example.",
    )
