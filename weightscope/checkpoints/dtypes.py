"""The element types a safetensors header may name, and what each means here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementType:
    """One entry of the safetensors dtype list."""

    bits: int
    """Size of one element in the file, in bits."""
    kind: Literal["float", "integer", "boolean", "complex"]
    """What the element is; only `float` is analysed."""
    torch_name: str | None
    """Attribute of `torch` with this type; None where torch has none (packed types below 8 bits)."""


def _float(bits: int, torch_name: str | None) -> ElementType:
    return ElementType(bits=bits, kind="float", torch_name=torch_name)


def _integer(bits: int, torch_name: str) -> ElementType:
    return ElementType(bits=bits, kind="integer", torch_name=torch_name)


# The list of safetensors 0.8 (safetensors/src/tensor.rs, enum Dtype), read 2026-11.
ELEMENT_TYPES: dict[str, ElementType] = {
    "F64": _float(64, "float64"),
    "F32": _float(32, "float32"),
    "F16": _float(16, "float16"),
    "BF16": _float(16, "bfloat16"),
    "F8_E4M3": _float(8, "float8_e4m3fn"),
    "F8_E4M3FNUZ": _float(8, "float8_e4m3fnuz"),
    "F8_E5M2": _float(8, "float8_e5m2"),
    "F8_E5M2FNUZ": _float(8, "float8_e5m2fnuz"),
    "F8_E8M0": _float(8, "float8_e8m0fnu"),
    "F6_E2M3": _float(6, None),
    "F6_E3M2": _float(6, None),
    "F4": _float(4, None),
    "I64": _integer(64, "int64"),
    "I32": _integer(32, "int32"),
    "I16": _integer(16, "int16"),
    "I8": _integer(8, "int8"),
    "U64": _integer(64, "uint64"),
    "U32": _integer(32, "uint32"),
    "U16": _integer(16, "uint16"),
    "U8": _integer(8, "uint8"),
    "BOOL": ElementType(bits=8, kind="boolean", torch_name="bool"),
    "C64": ElementType(bits=64, kind="complex", torch_name="complex64"),
}

BY_TORCH_NAME: dict[str, str] = {
    entry.torch_name: name for name, entry in ELEMENT_TYPES.items() if entry.torch_name
}
"""`"bfloat16"` -> `"BF16"`: the header's word for a torch dtype."""
