"""The layouts of fused weights by the names that families use."""

from weightscope.families.heads import Layout
from weightscope.families.part_layouts import (
    alternating_gate_and_up,
    gate_then_up,
    key_then_value,
    key_then_value_by_head,
    latent_then_rotary,
    query_then_gate_by_head,
)
from weightscope.families.qkv_layouts import (
    codegen_blocks,
    contiguous_grouped,
    contiguous_qkv,
    contiguous_thirds,
    eight_blocks_qvk,
    four_blocks_qvk,
    interleaved_by_head,
    interleaved_by_kv_group,
)

QKV_LAYOUTS: dict[str, Layout] = {
    "contiguous_thirds": contiguous_thirds,
    "contiguous_qkv": contiguous_qkv,
    "contiguous_grouped": contiguous_grouped,
    "interleaved_by_head": interleaved_by_head,
    "interleaved_by_kv_group": interleaved_by_kv_group,
    "four_blocks_qvk": four_blocks_qvk,
    "eight_blocks_qvk": eight_blocks_qvk,
    "codegen_blocks": codegen_blocks,
}
"""Those that split a weight of the group QKV into Q, K and V, and keep the whole."""
PARTS: dict[str, tuple[str, ...]] = {
    "gate_then_up": ("M1", "G"),
    "alternating_gate_and_up": ("M1", "G"),
    "query_then_gate_by_head": ("Q", "other"),
    "latent_then_rotary": ("KV_A", "K_R"),
    "key_then_value_by_head": ("K_B", "V_B"),
    "key_then_value": ("K", "V"),
}
"""Of the others, the groups that a weight splits into; it goes by the first of them."""
LAYOUTS: dict[str, Layout] = {
    **QKV_LAYOUTS,
    "gate_then_up": gate_then_up,
    "alternating_gate_and_up": alternating_gate_and_up,
    "query_then_gate_by_head": query_then_gate_by_head,
    "latent_then_rotary": latent_then_rotary,
    "key_then_value_by_head": key_then_value_by_head,
    "key_then_value": key_then_value,
}
"""The layouts by the names that families use."""
