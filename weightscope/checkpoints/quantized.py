"""Checkpoints of codes: recognised by name and refused, until a decoder stands beside this file.

Raw codes look like weights to a reader of shapes; their norms mean nothing.
"""

from weightscope.checkpoints.source import Source
from weightscope.errors import QuantizedCheckpointError

# Suffix of a tensor's name -> what writes such a tensor. A pair in one tuple must both be there.
_MARKS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((".qweight",), "GPTQ or AWQ"),
    (("_blocks", "_scales"), "MXFP4"),
    (("_scale_inv",), "FP8 with block scales"),
    ((".weight_scale",), "FP8 or INT8 with scales"),
    ((".weight_packed",), "compressed-tensors"),
    ((".SCB",), "bitsandbytes INT8"),
    ((".weight.absmax",), "bitsandbytes 4-bit"),
    ((".weight.quant_state.bitsandbytes__nf4",), "bitsandbytes NF4"),
    ((".weight.quant_state.bitsandbytes__fp4",), "bitsandbytes FP4"),
)
_CONFIG_KEYS = ("quantization_config", "compression_config", "quantization")


def refuse_quantized(source: Source) -> None:
    """Let a checkpoint of plain weights pass.

    Raises:
        QuantizedCheckpointError: Its config or its tensors' names say that it holds codes.
    """
    for key in _CONFIG_KEYS:
        if settings := source.config.get(key):
            method = settings.get("quant_method") if isinstance(settings, dict) else None
            known = isinstance(method, str) and method.isprintable()
            name = str(method)[:80] if known else "method unknown"
            raise _refusal(source, f"{name} (config.json, {key!r})")
    for suffixes, name in _MARKS:
        found = [next((n for n in source.index if n.endswith(suffix)), None) for suffix in suffixes]
        if all(found):
            raise _refusal(source, f"{name} (tensor {found[0]!r})")


def _refusal(source: Source, what: str) -> QuantizedCheckpointError:
    return QuantizedCheckpointError(
        f"The weights of {source.reference!r} were asked for.",
        f"They are quantised: {what}.",
        "Analyse the unquantised checkpoint it was made from, or dequantise and save it first.",
    )
