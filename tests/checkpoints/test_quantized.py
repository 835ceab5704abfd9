"""Codes are recognised and refused by name; ordinary weights with similar names are not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint, write_gpt2
from weightscope.checkpoints.stream import open_source
from weightscope.errors import QuantizedCheckpointError

LAYER = "model.layers.0.mlp.down_proj"


def assert_refused(source: Any, *words: str) -> None:
    with pytest.raises(QuantizedCheckpointError) as caught:
        open_source(source)
    error = caught.value
    assert error.found.startswith("They are ")
    assert error.advice.startswith("Analyse the ")
    for word in words:
        assert word in error.found
    assert isinstance(error, ValueError)


MARKS = {
    "GPTQ": ({f"{LAYER}.qweight": torch.int32, f"{LAYER}.qzeros": torch.int32}, "GPTQ or AWQ"),
    "MXFP4": (
        {"model.layers.0.mlp.experts.gate_up_proj_blocks": torch.uint8,
         "model.layers.0.mlp.experts.gate_up_proj_scales": torch.uint8},
        "MXFP4",
    ),
    "FP8 in blocks": (
        {f"{LAYER}.weight": torch.float8_e4m3fn, f"{LAYER}.weight_scale_inv": torch.float32},
        "FP8 with block scales",
    ),
    "FP8 a tensor": (
        {f"{LAYER}.weight": torch.float8_e4m3fn, f"{LAYER}.weight_scale": torch.bfloat16},
        "FP8 or INT8 with scales",
    ),
    "compressed-tensors": ({f"{LAYER}.weight_packed": torch.int32}, "compressed-tensors"),
    "bitsandbytes INT8": (
        {f"{LAYER}.weight": torch.int8, f"{LAYER}.SCB": torch.float32}, "bitsandbytes INT8",
    ),
    "bitsandbytes 4-bit": (
        {f"{LAYER}.weight": torch.uint8, f"{LAYER}.weight.absmax": torch.float32}, "bitsandbytes 4-bit",
    ),
    "bitsandbytes NF4": (
        {f"{LAYER}.weight": torch.uint8, f"{LAYER}.weight.quant_state.bitsandbytes__nf4": torch.uint8},
        "bitsandbytes NF4",
    ),
    "bitsandbytes FP4": (
        {f"{LAYER}.weight": torch.uint8, f"{LAYER}.weight.quant_state.bitsandbytes__fp4": torch.uint8},
        "bitsandbytes FP4",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dtypes", "method"), MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("in_memory", [False, True], ids=["files", "state dict"])
def test_marks_in_the_names(
    dtypes: dict[str, torch.dtype], method: str, in_memory: bool, tmp_path: Path
) -> None:
    tensors = {name: torch.ones(4, 4).to(dtype) for name, dtype in dtypes.items()}
    tensors["model.embed_tokens.weight"] = torch.ones(8, 4)
    source = tensors if in_memory else write_checkpoint(tmp_path, tensors, {"model_type": "llama"}, shards=2)
    assert_refused(source, method, repr(next(name for name in dtypes if not name.endswith(".weight"))))


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"group_size": 64, "bits": 4}, "quantised"),
        ("int8", "quantised"),
        ({"quant_method": None}, "quantised"),
    ],
    ids=["method", "no method", "text", "null"],
)
def test_keys_of_the_config(key: str, settings: object, method: str, tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**GPT2_CONFIG, key: settings}))
    assert_refused(tmp_path, method, f"(config.json, {key!r})")


def test_the_config_of_a_live_module() -> None:
    module = nn.Linear(2, 2)
    module.config = {"quantization_config": {"quant_method": "bitsandbytes"}}  # type: ignore[assignment]
    assert_refused(module, "bitsandbytes")


@pytest.mark.parametrize("settings", [None, {}, False, ""], ids=repr)
def test_an_empty_key_means_nothing(settings: object, tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**GPT2_CONFIG, "quantization_config": settings}))
    with open_source(tmp_path) as source:
        assert set(source.index) == set(gpt2_tensors())


@pytest.mark.parametrize("by_file", [False, True], ids=["folder", "file"])
def test_gguf(by_file: bool, tmp_path: Path) -> None:
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF" + bytes(20))
    assert_refused(tmp_path / "model-Q4_K_M.gguf" if by_file else tmp_path, "GGUF", "model-Q4_K_M.gguf")


def test_safetensors_go_before_gguf(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    with open_source(tmp_path) as source:
        assert set(source.index) == set(gpt2_tensors())


ORDINARY = [
    "transformer.blocks.0.ffn.up_proj.weight",
    "blocks.0.attn.qkv.weight",
    "down_blocks.0.attentions.0.to_q.weight",
    "model.layers.0.mlp.scale",
    "model.layers.0.layer_scale",
    "model.layers.0.ls1.scales",
    "logit_scale",
    "encoder.scale.weight",
    "time_scales",
    "vision.num_blocks",
    "absmax",
    "packed.weight",
    "qweight_norm.weight",
    "scb.weight",
    "layers.0.seqweight",
    "layers.0.weight_scale_norm.weight",
    "layers.0.router_scale_invariant.weight",
]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_are_weights(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {name: torch.randn(6, 4)}, {"model_type": "own"})
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert [matrix.parameter for matrix in checkpoint.matrices] == [name]


@pytest.mark.parametrize("name", ["gate_up_proj_blocks", "gate_up_proj_scales"])
def test_one_of_a_pair_alone_is_no_mark(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {name: torch.ones(4, 4)}, {})
    with open_source(tmp_path) as source:
        assert set(source.index) == {name}


def test_fp8_without_scales_is_weights(tmp_path: Path) -> None:
    weight = torch.randn(6, 4).to(torch.float8_e4m3fn)
    write_checkpoint(tmp_path, {f"{LAYER}.weight": weight}, {"model_type": "llama"})
    table = weightscope.analyze(tmp_path, groups="all").table
    assert table["dtype"].tolist() == ["F8_E4M3"]
    assert table["frobenius_norm"].item() == pytest.approx(weight.double().norm().item(), rel=1e-12)
