"""How each family was verified, in words. The tests hold what the entries say of it against what they do."""

from weightscope.families.spec import FamilySpec

TRANSFORMERS = "5.23"
"""The version whose models the families are compared with."""


def verification(spec: FamilySpec) -> str:
    """One line, such as `transformers 5.23, forward pass; formula: grouped queries`.

    `forward pass`: what a model of transformers does with its fused weights was measured; `modules`: compared
    with the weights of its modules; `formula`: transformers cannot load it, and the tests put it together.
    """
    by_transformers = spec.verified in ("forward pass", "modules")
    first = f"transformers {TRANSFORMERS}, {spec.verified}" if by_transformers else spec.verified
    return "; ".join([first, *(f"formula: {spelling}" for spelling in spec.formula)])
