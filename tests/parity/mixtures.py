"""Tiny random mixtures of experts by transformers itself. Experts are judged by what they compute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

import torch
import transformers as hf
from torch import Tensor, nn

from tests.parity.models import (
    COMMON,
    FEED_FORWARD,
    GROUPED,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    WIDE_HEADS,
)

EXPERTS, SMALL, SHARED = 12, 7, 11
_QWEN = {**WIDE_HEADS, "num_experts": EXPERTS, "moe_intermediate_size": SMALL}
_ATTENTION = {f"self_attn.{name.lower()}_proj": name for name in "QKVO"}


def swish(gate: Tensor, up: Tensor) -> Tensor:
    """What most gated experts put between their products."""
    return nn.functional.silu(gate) * up


def gpt_oss(gate: Tensor, up: Tensor) -> Tensor:
    """GPT-OSS: a limit of 7 on both, 1 added to the linear half."""
    gate, up = gate.clamp(max=7), up.clamp(-7, 7)
    return (up + 1) * gate * torch.sigmoid(1.702 * gate)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A model class with experts, and where its modules are."""

    family: str
    build: Callable[[], hf.PreTrainedModel]
    experts: str = "mlp.experts"
    """From a layer to its experts."""
    router: str = "mlp.gate"
    """From a layer to its router."""
    shared: str = ""
    """From a layer to the expert for every token."""
    dense: str = "mlp"
    """From a layer without experts to its gated feed-forward part; empty if all have experts."""
    linears: Mapping[str, str] | None = None
    """Module in a layer to its role; those of LLaMA's attention if None. A layer may lack some."""
    layers: str = "model.layers"
    """From the model to its layers."""
    activation: Callable[[Tensor, Tensor], Tensor] = swish
    """Of gate and up."""
    others: tuple[str, ...] = ()
    """Ends of the names that have no role."""

    def blocks(self, model: hf.PreTrainedModel) -> nn.ModuleList:
        """The layers."""
        return attrgetter(self.layers)(model)


def part(block: nn.Module, path: str) -> nn.Module | None:
    """A module inside a layer; None if that layer has none there."""
    try:
        return attrgetter(path)(block) if path else None
    except AttributeError:
        return None


def computed(experts: nn.Module, number: int, inputs: Tensor) -> Tensor:
    """What one of a layer's experts makes of inputs."""
    if isinstance(experts, hf.models.llama4.modeling_llama4.Llama4TextExperts):
        everywhere = inputs.expand(experts.num_experts, *inputs.shape)
        return experts(everywhere.reshape(-1, inputs.shape[-1])).view(everywhere.shape)[number]
    chosen = torch.full((len(inputs), 1), number)
    return experts(inputs, chosen, torch.ones(len(inputs), 1)).reshape(inputs.shape)


def _model(
    name: str, sizes: Mapping[str, object], config: str = "Config"
) -> Callable[[], hf.PreTrainedModel]:
    def made() -> hf.PreTrainedModel:
        settings = getattr(hf, name + config)(**sizes)
        model = getattr(hf, name + "ForCausalLM")
        return model._from_config(settings, attn_implementation="eager", experts_implementation="eager")

    return made


_LINEAR_ATTENTION = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 5,
}
_LATENT = {
    "num_key_value_heads": HEADS,
    "kv_lora_rank": 9,
    "qk_nope_head_dim": 5,
    "qk_rope_head_dim": 4,
    "v_head_dim": 7,
    "n_routed_experts": EXPERTS,
    "n_group": 3,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": SMALL,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}
_LATENT_LINEARS = {"self_attn.q_a_proj": "Q_A", "self_attn.q_b_proj": "Q_B", "self_attn.o_proj": "O"}

MIXTURES = {
    "mixtral": Mixture(
        family="mixtral",
        build=_model("Mixtral", {**WIDE_HEADS, "num_local_experts": EXPERTS}),
        dense="",
    ),
    "qwen2_moe": Mixture(
        family="qwen2_moe",
        build=_model(
            "Qwen2Moe", {**_QWEN, "shared_expert_intermediate_size": SHARED, "mlp_only_layers": [0]}
        ),
        shared="mlp.shared_expert",
        others=("shared_expert_gate.weight",),
    ),
    "qwen3_moe": Mixture(family="qwen3_moe", build=_model("Qwen3Moe", {**_QWEN, "mlp_only_layers": [1]})),
    "qwen3_next": Mixture(
        family="qwen3_next",
        build=_model(
            "Qwen3Next",
            {**_QWEN, **_LINEAR_ATTENTION, "shared_expert_intermediate_size": SHARED}
            | {"num_hidden_layers": LAYERS + 1},
        ),
        shared="mlp.shared_expert",
        linears={path: group for path, group in _ATTENTION.items() if group != "Q"},
        others=(
            "shared_expert_gate.weight",
            *(f"linear_attn.{name}.weight" for name in ("in_proj_qkvz", "in_proj_ba", "conv1d", "out_proj")),
            "self_attn.q_proj.weight",  # half of it
        ),
    ),
    "dbrx": Mixture(
        family="dbrx",
        build=_model(
            "Dbrx",
            {**COMMON, "d_model": HIDDEN, "n_heads": HEADS, "n_layers": LAYERS, "max_seq_len": 20}
            | {"attn_config": {"kv_n_heads": KV_HEADS, "clip_qkv": 1e9, "rope_theta": 1e4}}
            | {
                "ffn_config": {
                    "ffn_hidden_size": FEED_FORWARD,
                    "moe_num_experts": EXPERTS,
                    "hidden_size": HIDDEN,
                }
            },
        ),
        layers="transformer.blocks",
        experts="ffn.experts",
        router="ffn.router.layer",
        dense="",
        linears={"norm_attn_norm.attn.out_proj": "O"},
    ),
    "gpt_oss": Mixture(
        family="gpt_oss",
        build=_model("GptOss", {**WIDE_HEADS, "num_local_experts": EXPERTS}),
        router="mlp.router",
        dense="",
        activation=gpt_oss,
    ),
    # Inputs and gates as wide as one another, as in the models that are out: no shape tells which is which.
    "gpt_oss_square": Mixture(
        family="gpt_oss",
        build=_model("GptOss", {**WIDE_HEADS, "num_local_experts": EXPERTS, "intermediate_size": HIDDEN}),
        router="mlp.router",
        dense="",
        activation=gpt_oss,
    ),
    "jamba": Mixture(
        family="jamba",
        build=_model(
            "Jamba",
            {**GROUPED, "num_experts": EXPERTS, "use_mamba_kernels": False, "mamba_d_state": 3}
            | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4}
            | {"expert_layer_period": 2, "expert_layer_offset": 1},
        ),
        experts="feed_forward.experts",
        router="feed_forward.router",
        dense="feed_forward",
        others=tuple(
            f"mamba.{name}"
            for name in (
                "A_log",
                *(f"{m}.weight" for m in ("in_proj", "x_proj", "dt_proj", "out_proj", "conv1d")),
            )
        ),
    ),
    "llama4": Mixture(
        family="llama4",
        build=_model(
            "Llama4",
            {**WIDE_HEADS, "num_local_experts": EXPERTS, "intermediate_size_mlp": 19}
            | {"interleave_moe_layer_step": 2, "num_experts_per_tok": 1},
            config="TextConfig",
        ),
        experts="feed_forward.experts",
        router="feed_forward.router",
        shared="feed_forward.shared_expert",
        dense="feed_forward",
    ),
    "deepseek_v3": Mixture(
        family="deepseek_v3",
        build=_model("DeepseekV3", {**GROUPED, **_LATENT, "q_lora_rank": 13}),
        shared="mlp.shared_experts",
        linears=_LATENT_LINEARS,
    ),
    "deepseek_v3_one_query": Mixture(
        family="deepseek_v3",
        build=_model("DeepseekV3", {**GROUPED, **_LATENT, "q_lora_rank": None}),
        shared="mlp.shared_experts",
        linears={"self_attn.q_proj": "Q", "self_attn.o_proj": "O"},
    ),
}


def roles(mixture: Mixture, block: nn.Module) -> dict[str, Tensor]:
    """Role to weight for the plain Linears of a layer."""
    named = _ATTENTION if mixture.linears is None else mixture.linears
    return {group: found.weight for path, group in named.items() if (found := part(block, path)) is not None}
