"""A family drafted from names and shapes, for checkpoints that no entry of the registry describes.

Every line of the draft is a guess and is listed as one. Fused weights stay whole: which rows are Q, K
and V cannot be seen in a name, unless it is that of torch's own attention (`guess_torch.py`).
"""

import re
from typing import Literal

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.families.guess_torch import Role, is_convolution, torch_roles, why_no_matrix
from weightscope.families.spec import ATTENTION_GROUPS, FamilySpec, Group, IgnoredPattern, MatrixPattern

UNKNOWN = "unknown"

# A block's number stands behind one of these; the first such number is the layer.
_CONTAINERS = r"layers?|h|blocks?|resblocks|encoder_layers|decoder_layers"
_LAYER = re.compile(rf"(?:^|\.)(?:{_CONTAINERS})\.(\d+)(?=\.)")
_EXPERT = re.compile(r"\.experts\.(\d+)(?=\.)")

# Tried in order on the name without ".weight"; the first hit decides.
_ROLES: tuple[tuple[str, Group], ...] = (
    # in_proj is an attention's where the name says so: state space models call another matrix that.
    (
        r"(qkv|qkv_proj|query_key_value|c_attn|Wqkv|wqkv|in_proj_weight|W_pack|(attn|attention)(\.\w+)*\.in_proj)$",
        Group.QKV,
    ),
    (r"(^|[._])(q|q_proj|query|q_lin|wq|to_q|query_proj|q_attn)$", Group.Q),
    (r"(^|[._])(k|k_proj|key|k_lin|wk|to_k|key_proj)$", Group.K),
    (r"(^|[._])(v|v_proj|value|v_lin|wv|to_v|value_proj)$", Group.V),
    (
        r"(attn|attention)\.(\w+\.)?(o|o_proj|out|out_proj|out_lin|wo|c_proj|dense|proj|output\.dense)$",
        Group.O,
    ),
    (r"\b(to_out|to_out\.0)$", Group.O),
    (r"\b(gate_proj|wi_0)$", Group.G),
    (r"\b(up_proj|fc1|fc_in|c_fc|lin1|linear1|dense_h_to_4h|intermediate\.dense|wi|wi_1)$", Group.M1),
    (r"\b(down_proj|fc2|fc_out|lin2|linear2|dense_4h_to_h|mlp\.c_proj|DenseReluDense\.wo)$", Group.M2),
    (r"\.\d+\.output\.dense$", Group.M2),
    (r"(router|mlp\.gate|moe\.gate)$", Group.ROUTER),
    (r"(wpe|position_embeddings?|embed_positions|pos_embed\w*)$", Group.POSITION),
    (
        r"(wte|word_embeddings?|embed_tokens|tok_embeddings|token_embedding|embed_in|embeddings?)$",
        Group.EMBEDDING,
    ),
    (r"^(lm_head|embed_out|output|unembed\w*)$", Group.UNEMBEDDING),
)
_CROSS = re.compile(r"EncDecAttention|encoder_attn|cross_?attn|cross_?attention", re.IGNORECASE)
# Families have below a hundred; names that follow no rule would each be one of their own.
_MOST_TEMPLATES = 1000
_CONV1D_LEAVES = ("c_attn", "q_attn", "c_fc", "c_proj")


def guess_family(index: TensorIndex) -> FamilySpec:
    """A `FamilySpec` named `unknown` that covers the index's matrices and convolutions.

    Everything it finds no role for is left to the caller.
    """
    of_torch = torch_roles(index)
    conv1d = any(_is_wide_c_attn(info) for info in index.values())
    patterns: dict[str, MatrixPattern] = {}
    ignored: dict[str, IgnoredPattern] = {}
    convolutions: list[str] = []
    for info in index.values():
        if len(info.shape) < 2 or len(patterns) + len(ignored) + len(convolutions) >= _MOST_TEMPLATES:
            continue
        template = _template(info.name)
        if re.search(r"\.(masked_)?bias$|mask$", info.name):
            ignored[template] = IgnoredPattern(template=template, reason="by its name a mask or bias buffer")
        elif reason := why_no_matrix(index, info):
            ignored[template] = IgnoredPattern(template=template, reason=reason, trained=True)
        elif len(info.shape) > 2:
            if is_convolution(index, info):  # what is numbered around it are seldom blocks of a transformer
                convolutions.append(_plain(info.name))
        elif (
            role := of_torch.get(info.name) or _fused_keys(info) or _of_three(index, info) or _role(info.name)
        ):
            leaf = info.name.removesuffix(".weight").rsplit(".", 1)[-1]
            earlier = patterns.get(template)
            patterns[template] = MatrixPattern(
                template=template,
                group=role.group,
                attention_kind=role.attention_kind,
                transposed=conv1d and leaf in _CONV1D_LEAVES,
                layout=role.layout if earlier is None or earlier.layout == role.layout else None,
                stack=_stack(info.name) or role.stack,
            )
    for name in convolutions:
        if _template(name) not in patterns:  # else what is called so elsewhere is none
            patterns[name] = MatrixPattern(template=name, group=Group.CONV)
    return FamilySpec(
        name=UNKNOWN,
        patterns=tuple(patterns.values()),
        ignored=tuple(ignored.values()),
        stack="decoder",
        reference="guessed from names and shapes",
    )


def _plain(name: str) -> str:
    """Without what a template would take for a placeholder."""
    return name.replace("{", "").replace("}", "")


def _template(name: str) -> str:
    name = _plain(name)
    name = _EXPERT.sub(".experts.{expert}", name, count=1)
    if match := _LAYER.search(name):
        name = f"{name[: match.start(1)]}{{layer}}{name[match.end(1) :]}"
    return name


def _fused_keys(info: TensorInfo) -> Role | None:
    """GPT-2's cross attention, whose c_attn is [K | V]: told by its name and its width."""
    wide = len(info.shape) == 2 and info.shape[1] == 2 * info.shape[0]
    if wide and info.name.endswith("c_attn.weight") and _CROSS.search(info.name):
        return Role(group=Group.K, attention_kind="cross", layout="key_then_value")
    return None


def _of_three(index: TensorIndex, info: TensorInfo) -> Role | None:
    """LLaMA's first names, w1 for the gate, w3 for up and w2 for down, where all three are there and fit.

    With two of them alone Qwen and others mean other things.
    """
    found = re.search(r"\.w([123])(\.weight)?$", info.name)
    if not found or len(info.shape) != 2:
        return None
    start, end = info.name[: found.start(1)], info.name[found.end(1) :]
    gate, down, up = (index.get(f"{start}{number}{end}") for number in "123")
    if gate is None or down is None or up is None:
        return None
    if gate.shape != up.shape or gate.shape != down.shape[::-1] or not _LAYER.search(info.name):
        return None
    return Role(group={"1": Group.G, "2": Group.M2, "3": Group.M1}[found[1]])


def _role(name: str) -> Role | None:
    path = name.removesuffix(".weight")
    layered = _LAYER.search(name) is not None
    for pattern, group in _ROLES:
        if re.search(pattern, path):
            in_layer = group not in (Group.EMBEDDING, Group.POSITION, Group.UNEMBEDDING)
            kind: Literal["self", "cross"] = "cross" if _CROSS.search(name) else "self"
            if group not in ATTENTION_GROUPS:
                kind = "self"
            return Role(group=group, attention_kind=kind) if in_layer == layered else None
    return None


def _stack(name: str) -> str:
    # What a layer's parts are called says nothing: a decoder has encoder_attn.
    if layer := _LAYER.search(name):
        name = name[: layer.end(1)]
    for stack, mark in (
        ("vision", "vision"),
        ("vision", "visual"),
        ("text", "text_model"),
        ("encoder", "encoder"),
        ("decoder", "decoder"),
    ):
        if mark in name:
            return stack
    return ""


def _is_wide_c_attn(info: TensorInfo) -> bool:
    return info.name.endswith("c_attn.weight") and len(info.shape) == 2 and info.shape[1] == 3 * info.shape[0]
