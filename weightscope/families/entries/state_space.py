"""Models without attention, or with layers that have none."""

from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group

# No attention and no feed-forward part: in_proj is neither Q nor M1. The first files, which no config of
# transformers accompanies, say embedding where transformers says embeddings.
MAMBA = FamilySpec(
    name="mamba",
    model_types=("mamba", "falcon_mamba"),
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
    reference="transformers/models/mamba/modeling_mamba.py, v5.23; state-spaces/mamba-130m for embedding",
)
