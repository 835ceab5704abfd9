"""Models without attention, or with layers that have none."""

from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern

# No attention and no feed-forward part: in_proj is neither Q nor M1. Mamba 2 has no x_proj, no dt_proj. The
# first files, which no config of transformers accompanies, say embedding where transformers says embeddings.
MAMBA = FamilySpec(
    name="mamba",
    model_types=("mamba", "falcon_mamba", "mamba2"),
    prefixes=("backbone.", ""),
    patterns=(
        *linears(
            "{prefix}layers.{layer}.mixer.",
            dict.fromkeys(("in_proj", "x_proj", "dt_proj", "out_proj"), Group.OTHER),
        ),
        matrix("{prefix}layers.{layer}.mixer.A_log", Group.OTHER),
        matrix("{prefix}layers.{layer}.mixer.conv1d.weight", Group.CONV),
        matrix("{prefix}embeddings.weight", Group.EMBEDDING),
        matrix("{prefix}embedding.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    verified="modules",
    reference="transformers/models/mamba/modeling_mamba.py and mamba2, v5.23; state-spaces/mamba-130m for "
    "embedding",
)

# Keys and values of a recurrence, and of what mixes channels: not those of attention.
RWKV = FamilySpec(
    name="rwkv",
    model_types=("rwkv",),
    prefixes=("rwkv.", ""),
    patterns=(
        *linears(
            "{prefix}blocks.{layer}.",
            dict.fromkeys(
                (
                    *(f"attention.{name}" for name in ("receptance", "key", "value", "output")),
                    *(f"feed_forward.{name}" for name in ("receptance", "key", "value")),
                ),
                Group.OTHER,
            ),
        ),
        matrix("{prefix}embeddings.weight", Group.EMBEDDING),
        matrix("head.weight", Group.UNEMBEDDING),
    ),
    ignored=tuple(
        IgnoredPattern(
            template=f"{{prefix}}blocks.{{layer}}.{part}.time_mix_{name}",
            reason="what mixes a token with the last, one number a feature",
            trained=True,
        )
        for part in ("attention", "feed_forward")
        for name in ("key", "value", "receptance")
    ),
    verified="modules",
    reference="transformers/models/rwkv/modeling_rwkv.py, v5.23: RWKV-4",
)
