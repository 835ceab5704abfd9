"""Encoders of text that came later."""

from tests.parity.models import HIDDEN, Case, Paths
from tests.parity.more_text_cases import GROUPED, LLAMA, SIZES, one

_OUTPUTS = {"O": "attention.output.dense", "M1": "intermediate.dense", "M2": "output.dense"}
_BERT = Paths(
    layers="encoder.layer",
    linears={
        "Q": "attention.self.query",
        "K": "attention.self.key",
        "V": "attention.self.value",
        **_OUTPUTS,
    },
)
_TRANSFORM = ("cls.predictions.transform.dense.weight",)
_DENSE = ("lm_head.dense.weight",)
_PAGES = {**SIZES, "max_2d_position_embeddings": 9}


def _masked(family: str, stem: str, *others: str, sizes: dict[str, object] = SIZES) -> Case:
    return one(family, stem, _BERT, sizes, head="ForMaskedLM", others=others)


MORE_ENCODERS: list[Case] = [
    _masked("bert", "BigBird", *_TRANSFORM, "pooler.weight"),
    _masked("bert", "MegatronBert", *_TRANSFORM),
    _masked("roberta", "Camembert", *_DENSE),
    _masked("roberta", "Data2VecText", *_DENSE),
    _masked("roberta", "RobertaPreLayerNorm", *_DENSE),
    _masked("xlm-roberta", "XLMRobertaXL", *_DENSE),
    _masked("ernie", "Ernie", *_TRANSFORM, sizes={**SIZES, "use_task_id": True}),
    one(
        "splinter",
        "Splinter",
        _BERT,
        SIZES,
        head="ForQuestionAnswering",
        others=(
            *(
                f"{end}_{name}.weight"
                for end in ("start", "end")
                for name in ("classifier", "transform.dense")
            ),
            *(f"query_{end}_transform.dense.weight" for end in ("start", "end")),
        ),
    ),
    _masked("layoutlm", "LayoutLM", *_TRANSFORM, "pooler.dense.weight", sizes=_PAGES),
    one(
        "layoutlm",
        "LayoutLMv3",
        _BERT,
        {**_PAGES, "coordinate_size": 4, "shape_size": 4, "input_size": 8, "patch_size": 2}
        | {"rel_pos_bins": 4, "rel_2d_pos_bins": 4, "max_rel_pos": 8, "max_rel_2d_pos": 8},
        head="ForTokenClassification",
        others=("classifier.weight", "cls_token", "patch_embed.proj.weight"),
    ),
    _masked("esm", "Esm", *_DENSE, "contact_head.regression.weight", sizes={**SIZES, "mask_token_id": 1}),
    _masked(
        "longformer",
        "Longformer",
        *_DENSE,
        *(f"{name}_global.weight" for name in ("query", "key", "value")),
        sizes={**SIZES, "attention_window": [4] * 3},
    ),
    _masked(
        "rembert",
        "RemBert",
        "cls.predictions.dense.weight",
        "embedding_hidden_mapping_in.weight",
        sizes={**SIZES, "input_embedding_size": 16, "output_embedding_size": 20},
    ),
    _masked(
        "roformer",
        "RoFormer",
        *_TRANSFORM,
        "embeddings_project.weight",
        sizes={**SIZES, "embedding_size": 16},
    ),
    one(
        "mpnet",
        "MPNet",
        Paths(
            layers="encoder.layer",
            linears={**{name: f"attention.attn.{name.lower()}" for name in "QKVO"}}
            | {group: path for group, path in _OUTPUTS.items() if group != "O"},
        ),
        SIZES,
        head="ForMaskedLM",
        others=_DENSE,
    ),
    one("nomic_bert", "NomicBert", LLAMA, SIZES, head="ForMaskedLM", others=_TRANSFORM),
    one("eurobert", "EuroBert", LLAMA, {**GROUPED, "head_dim": HIDDEN // 6}, head="ForMaskedLM"),
]
