"""Cases of decoders of text that came later; `cases.py` puts them among the others."""

from tests.parity.models import HEADS, HIDDEN, LAYERS, VOCABULARY, Case, Paths, cases

TEXTS: list[Case] = [
    *cases(
        "openai-gpt",
        "OpenAIGPT",
        Paths(
            layers="h",
            qkv="attn.c_attn",
            linears={"O": "attn.c_proj", "M1": "mlp.c_fc", "M2": "mlp.c_proj"},
            transposed=True,
        ),
        {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_head": HEADS, "n_layer": LAYERS, "n_positions": 20},
        head="LMHeadModel",
    ),
]
