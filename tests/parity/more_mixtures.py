"""Mixtures of experts and hybrids that came later."""

from torch import Tensor, nn

from tests.parity.mixtures import _ATTENTION as ATTENTION
from tests.parity.mixtures import _LINEAR_ATTENTION as LINEAR_ATTENTION
from tests.parity.mixtures import EXPERTS, SHARED, SMALL, Mixture, _model
from tests.parity.more_text_cases import GROUPED, WIDE_HEADS

_LOCAL = {"num_local_experts": EXPERTS}
_GLM = {**WIDE_HEADS, "n_routed_experts": EXPERTS, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2}
_GLM |= {"moe_intermediate_size": SMALL, "first_k_dense_replace": 1, "n_shared_experts": 2}
_ERNIE = {**GROUPED, "moe_num_experts": EXPERTS, "moe_k": 2, "moe_intermediate_size": SMALL}
_ERNIE |= {"moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 2}
_MAMBA = {"mamba_n_heads": 6, "mamba_d_head": 8, "mamba_expand": 2, "mamba_d_state": 4, "mamba_n_groups": 1}
_GRANITE = {**GROUPED, **_LOCAL, "num_experts_per_tok": 2}
_GRANITE_PATHS = {"experts": "block_sparse_moe.experts", "router": "block_sparse_moe.router", "dense": ""}
_LFM2 = {**GROUPED, "layer_types": ["conv", "full_attention", "conv"]}
_LFM2_ATTENTION = {**{f"self_attn.{name}_proj": name.upper() for name in "qkv"}, "self_attn.out_proj": "O"}
_CONV = tuple(f"conv.{name}.weight" for name in ("in_proj", "out_proj", "conv"))
_MIXED = tuple(f"mamba.{name}.weight" for name in ("in_proj", "out_proj", "conv1d"))

_QWEN3_5 = {**WIDE_HEADS, **LINEAR_ATTENTION, "num_hidden_layers": 4}
_QWEN3_5 |= {"layer_types": ["linear_attention", "full_attention"] * 2}
_KEY_VALUE_OUTPUT = {path: group for path, group in ATTENTION.items() if group != "Q"}
_LINEAR = (
    "self_attn.q_proj.weight",  # half of it
    *(
        f"linear_attn.{name}.weight"
        for name in ("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "conv1d", "out_proj")
    ),
)


def squared(gate: Tensor | None, up: Tensor) -> Tensor:
    """Nemotron-H: no gate."""
    return nn.functional.relu(up) ** 2


MORE_MIXTURES = {
    "phimoe": Mixture(
        family="mixtral", build=_model("Phimoe", {**GROUPED, **_LOCAL}), router="mlp.router", dense=""
    ),
    "minimax_m2": Mixture(family="mixtral", build=_model("MiniMaxM2", {**WIDE_HEADS, **_LOCAL}), dense=""),
    "olmoe": Mixture(family="olmoe", build=_model("Olmoe", {**GROUPED, "num_experts": EXPERTS}), dense=""),
    "flex_olmo": Mixture(
        family="olmoe", build=_model("FlexOlmo", {**GROUPED, "num_experts": EXPERTS}), dense=""
    ),
    "glm4_moe": Mixture(
        family="glm4_moe",
        build=_model("Glm4Moe", {**_GLM, "use_qk_norm": True}),
        shared="mlp.shared_experts",
    ),
    "dots1": Mixture(family="glm4_moe", build=_model("Dots1", _GLM), shared="mlp.shared_experts"),
    "ernie4_5_moe": Mixture(
        family="ernie4_5_moe", build=_model("Ernie4_5_Moe", _ERNIE), shared="mlp.shared_experts"
    ),
    "granitemoe": Mixture(family="granitemoe", build=_model("GraniteMoe", _GRANITE), **_GRANITE_PATHS),
    "granitemoeshared": Mixture(
        family="granitemoe",
        build=_model("GraniteMoeShared", {**_GRANITE, "shared_intermediate_size": SHARED}),
        shared="shared_mlp",
        **_GRANITE_PATHS,
    ),
    "granitemoehybrid": Mixture(
        family="granitemoe",
        build=_model(
            "GraniteMoeHybrid",
            {**_GRANITE, **_MAMBA, "shared_intermediate_size": SHARED}
            | {"layer_types": ["mamba", "attention", "mamba"]},
        ),
        shared="shared_mlp",
        others=_MIXED,
        **_GRANITE_PATHS,
    ),
    "granitemoehybrid_dense": Mixture(
        family="granitemoe",
        build=_model(
            "GraniteMoeHybrid",
            {**GROUPED, **_MAMBA, "num_local_experts": 0, "shared_intermediate_size": SHARED}
            | {"layer_types": ["attention", "mamba", "mamba"]},
        ),
        shared="shared_mlp",
        others=_MIXED,
        **_GRANITE_PATHS,
    ),
    "lfm2": Mixture(
        family="lfm2",
        build=_model("Lfm2", {**_LFM2, "block_multiple_of": 8}),
        dense="feed_forward",
        linears=_LFM2_ATTENTION,
        others=_CONV,
    ),
    "lfm2_moe": Mixture(
        family="lfm2",
        build=_model(
            "Lfm2Moe",
            {**_LFM2, "num_experts": EXPERTS, "moe_intermediate_size": SMALL, "num_dense_layers": 1},
        ),
        experts="feed_forward.experts",
        router="feed_forward.gate",
        dense="feed_forward",
        linears=_LFM2_ATTENTION,
        others=_CONV,
    ),
    "bamba": Mixture(
        family="falcon_h1",
        build=_model("Bamba", {**GROUPED, **_MAMBA, "attn_layer_indices": [1]}),
        experts="",
        router="",
        dense="feed_forward",
        others=_MIXED,
    ),
    "falcon_h1": Mixture(
        family="falcon_h1",
        build=_model("FalconH1", {**WIDE_HEADS, **_MAMBA, "mamba_d_ssm": 48}),
        experts="",
        router="",
        dense="feed_forward",
        others=_MIXED,
    ),
    "nemotron_h": Mixture(
        family="nemotron_h",
        build=_model(
            "NemotronH",
            {**WIDE_HEADS, "num_hidden_layers": 4, "layers_block_type": ["mamba", "attention", "mlp", "moe"]}
            | {"mamba_num_heads": 6, "mamba_head_dim": 8, "ssm_state_size": 4, "n_groups": 1}
            | {"n_routed_experts": EXPERTS, "moe_intermediate_size": SMALL, "num_experts_per_tok": 2}
            | {"moe_shared_expert_intermediate_size": SHARED},
        ),
        experts="mixer.experts",
        router="mixer.gate",
        shared="mixer.shared_experts",
        dense="mixer",
        linears={path.replace("self_attn", "mixer"): group for path, group in ATTENTION.items()},
        activation=squared,
        others=tuple(f"mixer.{name}.weight" for name in ("in_proj", "out_proj", "conv1d")),
    ),
    "qwen3_5": Mixture(
        family="qwen3_5",
        build=_model("Qwen3_5", _QWEN3_5, config="TextConfig"),
        experts="",
        router="",
        linears=_KEY_VALUE_OUTPUT,
        others=_LINEAR,
    ),
    "qwen3_5_moe": Mixture(
        family="qwen3_5_moe",
        build=_model(
            "Qwen3_5Moe",
            {**_QWEN3_5, "num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": SMALL}
            | {"shared_expert_intermediate_size": SHARED},
            config="TextConfig",
        ),
        shared="mlp.shared_expert",
        dense="",
        linears=_KEY_VALUE_OUTPUT,
        others=(*_LINEAR, "shared_expert_gate.weight"),
    ),
}
