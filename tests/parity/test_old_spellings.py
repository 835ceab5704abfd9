"""Names, config keys and buffers that transformers 5 would not write: renamed, or put together here."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import weightscope
from tests.factories import write_checkpoint
from tests.parity.cases import CASES
from tests.parity.formula import by_formula
from tests.parity.models import FEED_FORWARD, HEADS, HIDDEN, LAYERS, build
from tests.parity.test_families import assert_same_weights


def case_of(name):
    return next(case for case in CASES if case.name == name)


def rewritten(folder, case, rename=lambda name: name, config=lambda config: config, extra=None):
    """The model saved, then written again with other names, another config and more tensors."""
    model = build(case)
    model.save_pretrained(folder / "new")
    tensors = load_file(folder / "new" / "model.safetensors")
    old = {rename(name): tensor for name, tensor in tensors.items()}
    assert len(old) == len(tensors)
    stated = json.loads((folder / "new" / "config.json").read_text())
    write_checkpoint(folder / "old", {**old, **(extra or {})}, config(stated), shards=2)
    return model, folder / "old"


SPELLINGS = {
    "gpt_neox_with_head": ("gpt_neox", lambda name: name.replace("embed_out", "lm_head")),
    "gemma3_with_head": ("gemma3", lambda name: f"language_model.{name}"),
    "opt_with_head": ("opt", lambda name: name.removeprefix("model.")),
    "openai-gpt_with_head": ("openai-gpt", lambda name: name.removeprefix("transformer.")),
    "bloom_with_head": ("bloom", lambda name: name.removeprefix("transformer.")),
    "mistral_with_head": ("mistral", lambda name: name.removeprefix("model.")),
    "distilbert_with_head": ("distilbert", lambda name: name.removeprefix("distilbert.")),
    "deberta-v2_with_head": ("deberta-v2", lambda name: f"module.{name}"),
}


@by_formula(*(case_of(name).family for name in SPELLINGS))
@pytest.mark.parametrize(("case", "family", "rename"), [(c, *s) for c, s in SPELLINGS.items()], ids=SPELLINGS)
def test_other_names(tmp_path, case, family, rename):
    model, folder = rewritten(tmp_path, case_of(case), rename)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == family
        assert_same_weights(checkpoint, model, case_of(case))
        others = {m.parameter for m in checkpoint.matrices if m.group == "other"}
        assert {name for name in others if not name.endswith(case_of(case).others)} == set()


def refined_web(model_type, **keys):
    def config(stated):
        kept = {key: stated[key] for key in ("hidden_size", "vocab_size", "alibi", "bias")}
        return {**kept, "model_type": model_type, "n_head": HEADS, "n_layer": LAYERS, **keys}

    return config


@by_formula("falcon")
@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("falcon_mqa_with_head", refined_web("RefinedWebModel", multi_query=True)),
        ("falcon_mha_with_head", refined_web("RefinedWebModel", multi_query=False)),
        ("falcon_new_with_head", refined_web("RefinedWeb", n_head_kv=2)),
        ("falcon_new_with_head", refined_web("RefinedWeb")),
    ],
)
def test_falcon_as_it_was_released(tmp_path, case, config):
    model, folder = rewritten(tmp_path, case_of(case), config=config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case_of(case))


def without(*keys):
    return lambda stated: {key: value for key, value in stated.items() if key not in keys}


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("phi3_bare", without("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")),
        ("phi3_bare", without("num_key_value_heads")),
        ("gpt_bigcode_mqa_bare", without("multi_query")),
        ("gpt_bigcode_mha_bare", without("multi_query")),
        ("falcon_new_bare", without("num_kv_heads", "multi_query")),
        ("gemma3_bare", lambda stated: {"model_type": "gemma3_text", "num_hidden_layers": LAYERS}),
        (
            "gemma3_bare",
            lambda stated: {"model_type": "gemma3_text", "text_config": without("head_dim")(stated)},
        ),
        ("mpt_bare", without("n_heads")),
        ("codegen_bare", without("n_head")),
    ],
)
def test_what_the_config_leaves_out_the_shapes_tell(tmp_path, case, config):
    model, folder = rewritten(tmp_path, case_of(case), config=config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case_of(case))


JUNK = {
    "gpt2_bare": {"h.{}.attn.bias": (1, 1, 20, 20), "h.{}.attn.masked_bias": ()},
    "openai-gpt_bare": {"h.{}.attn.bias": (1, 1, 20, 20)},
    "gpt_bigcode_mqa_bare": {"h.{}.attn.bias": (20, 20)},
    "gptj_bare": {"h.{}.attn.bias": (1, 1, 20, 20), "h.{}.attn.embed_positions": (20, 4)},
    "gpt_neo_bare": {"h.{}.attn.attention.bias": (1, 1, 20, 20), "h.{}.attn.attention.masked_bias": ()},
    "codegen_bare": {"h.{}.attn.causal_mask": (1, 1, 20, 20)},
    "gpt_neox_bare": {
        "layers.{}.attention.bias": (1, 1, 20, 20),
        "layers.{}.attention.masked_bias": (),
        "layers.{}.attention.rotary_emb.inv_freq": (2,),
    },
    "llama_bare": {
        "layers.{}.self_attn.rotary_emb.inv_freq": (5,),
        "layers.{}.self_attn.rotary_emb.cos_cached": (1, 1, 20, 10),
    },
    "bert_bare": {"embeddings.position_ids": (1, 20)},
    "deberta_bare": {"embeddings.position_ids": (1, 20)},
}


@pytest.mark.parametrize("case", JUNK)
def test_buffers_of_old_files(tmp_path, case):
    names = {name.format(layer): shape for name, shape in JUNK[case].items() for layer in range(LAYERS)}
    extra = {name: torch.ones(shape) for name, shape in names.items()}
    model, folder = rewritten(tmp_path, case_of(case), extra=extra)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case_of(case))
        wide = {name for name, shape in names.items() if len(shape) > 1}
        assert {(entry.tensor.name, entry.kind) for entry in checkpoint.skipped} == {
            (name, "buffer") for name in wide
        }
        assert checkpoint.assignment.buffers == set(names)


WITH_HEAD = [case for case in CASES if case.name.endswith("with_head")]


@pytest.mark.parametrize("case", WITH_HEAD, ids=lambda case: case.name)
def test_names_alone_mean_the_same_or_nothing(tmp_path, case):
    """Without a model_type another family of the same names may be taken, but no other matrices."""
    model, folder = rewritten(tmp_path, case, config=without("model_type"))
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name != "unknown"
        assert_same_weights(checkpoint, model, case)
        assert re.search("names decided", " ".join(checkpoint.notes))


@by_formula("phi-msft", "mixformer-sequential", "mpt")
@pytest.mark.parametrize("kv_heads", [HEADS, 1])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("family", ["phi-msft", "mixformer-sequential", "mpt"])
def test_fused_rows_by_formula(tmp_path, family, kv_heads, prefix):
    """transformers cannot load these spellings: Wqkv is put together here as [Q; K; V]."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    first = 1 if family == "mixformer-sequential" else 0  # the embedding is layer 0, the head the last
    prefix = "" if first else prefix
    if family == "mpt":  # as llm-foundry writes grouped queries
        layers, fused, names = "blocks", "attn.Wqkv", ("attn.out_proj", "ffn.up_proj", "ffn.down_proj")
        config = {"n_heads": HEADS, "n_layers": LAYERS, "attn_config": {"kv_n_heads": kv_heads}}
    else:
        layers, fused, names = (
            "layers" if first else "h",
            "mixer.Wqkv",
            ("mixer.out_proj", "mlp.fc1", "mlp.fc2"),
        )
        config = {"n_head": HEADS, "n_head_kv": kv_heads, "n_layer": LAYERS}
    head, tensors, expected = HIDDEN // HEADS, {}, {}
    for layer in range(LAYERS):
        q, k, v = random(HIDDEN, HIDDEN), *(3 * random(2, kv_heads * head, HIDDEN))
        rest = random(HIDDEN, HIDDEN), random(FEED_FORWARD, HIDDEN), random(HIDDEN, FEED_FORWARD)
        stored = {fused: torch.cat([q, k, v]), **dict(zip(names, rest, strict=True))}
        tensors |= {
            f"{prefix}{layers}.{layer + first}.{name}.weight": weight for name, weight in stored.items()
        }
        expected[layer] = dict(zip(("Q", "K", "V", "O", "M1", "M2"), (q, k, v, *rest), strict=True))
    if first:
        tensors |= {
            "layers.0.wte.weight": random(9, HIDDEN),
            f"layers.{LAYERS + 1}.linear.weight": random(9, HIDDEN),
        }
    write_checkpoint(tmp_path, tensors, {"model_type": family, **config}, shards=2)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == family
        assert checkpoint.sizes.kv_heads == kv_heads
        assert checkpoint.notes == ()
        ends = {m.group: m.layer for m in checkpoint.matrices if m.group in ("embedding", "unembedding")}
        assert ends == (dict.fromkeys(("embedding", "unembedding")) if first else {})
        for layer, weights in expected.items():
            for group, weight in weights.items():
                assert torch.equal(checkpoint.matrix(layer=layer, group=group), weight)
