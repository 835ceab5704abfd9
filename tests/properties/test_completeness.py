"""The completeness law: every tensor of two or more dimensions is accounted for once, whatever there is.

Names are put together from parts of the families' own and from anything else, with shapes, types, configs
and prefixes at random, so that roles are missing, doubled and mixed. What cannot be read that way is a
WeightscopeError.
"""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import weightscope
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.stream import open_source
from weightscope.errors import WeightscopeError
from weightscope.families.draft import draft_text
from weightscope.families.family_file import parse_family
from weightscope.families.registry import FAMILIES

TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64, torch.uint8]
SHAPES = st.one_of(
    st.sampled_from([(8, 8), (24, 8), (8, 24), (12, 8), (8, 12), (4, 8), (16, 8), (11, 8)]),
    st.lists(st.integers(0, 6), min_size=0, max_size=5).map(tuple),
)
WORDS = """model layers h blocks encoder decoder vision_model text_model attn self_attn mlp experts 0 1 03 7
q_proj k_proj v_proj o_proj c_attn c_proj qkv in_proj_weight up_proj gate_proj fc1 router wte embed_tokens
lm_head conv bias mask weight module"""
PARTS = st.sampled_from(WORDS.split())
LOOSE = st.one_of(
    st.lists(PARTS, min_size=1, max_size=7).map(".".join),
    st.text(st.characters(categories=("L", "N", "P"), include_characters="{}. "), min_size=1, max_size=12),
)
TEMPLATES = {
    name: [
        pattern.template.replace("{prefix}", prefix)
        for pattern in (*spec.patterns, *spec.ignored)
        for prefix in spec.prefixes
    ]
    for name, spec in FAMILIES.items()
}
NUMBERS = st.sampled_from(["0", "1", "2", "01", "12"])


@st.composite
def names(draw, families):
    """A name of one of these families, spoilt or not, or any name at all."""
    if not families or draw(st.integers(0, 4)) == 0:
        return draw(LOOSE)
    template = draw(st.sampled_from(TEMPLATES[draw(st.sampled_from(families))]))
    name = re.sub(r"\{\w+\}", lambda _: draw(NUMBERS), template)
    return draw(st.sampled_from(["", "", "", "module.", "model.", "tower."])) + name


@st.composite
def checkpoints(draw):
    """Tensors and a config."""
    families = draw(st.lists(st.sampled_from(sorted(FAMILIES)), max_size=2))
    whole = {}
    if families and draw(st.booleans()):  # whole layers of a family, so that its own checks are reached
        layers = [template for template in TEMPLATES[families[0]] if "{layer}" in template]
        shape = draw(SHAPES)
        whole = {t.replace("{layer}", str(n)).replace("{expert}", "0"): shape for t in layers for n in (0, 1)}
    more = draw(st.dictionaries(names(families), SHAPES, max_size=12))
    tensors = {
        name: torch.zeros(shape, dtype=draw(st.sampled_from(TYPES)) if name in more else torch.float32)
        for name, shape in {**whole, **more}.items()
    }
    types = [*(model_type for name in families for model_type in FAMILIES[name].model_types), "new", 7, None]
    config = {"model_type": draw(st.sampled_from(types))}
    for key in ("num_attention_heads", "num_key_value_heads", "hidden_size", "num_hidden_layers", "n_head"):
        if draw(st.integers(0, 3)) == 0:
            config[key] = draw(st.sampled_from([1, 2, 3, 8, 0, -1, None, "4", 2**70]))
    return tensors, config


def opened(tensors, config, spec=None):
    source = open_source(tensors, Reading())
    source.config = config
    return weightscope.Checkpoint(source, spec, partial=True)


def accounted(tensors, config, spec=None):
    """The family, after every tensor was looked for."""
    checkpoint = opened(tensors, config, spec)
    used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
    left_out = Counter(entry.tensor.name for entry in checkpoint.skipped)
    assert set(left_out.values()) <= {1}
    assert not used & left_out.keys()
    assert used | left_out.keys() == {name for name, tensor in tensors.items() if tensor.dim() >= 2}
    rows = [
        (matrix.stack, matrix.layer, matrix.attention_kind, matrix.group, matrix.expert, matrix.parameter)
        for matrix in checkpoint.matrices
    ]
    assert len(rows) == len(set(rows))
    checkpoint.notes  # noqa: B018
    return checkpoint.detection.spec.name


def three_sentences(error):
    return len(error.args) == 3 and all(sentence.endswith(".") for sentence in error.args)


def test_every_tensor_is_accounted_for_once():
    """They are read and refused, as unknown families and as known ones, and each outcome is reached."""
    seen = Counter()

    @settings(max_examples=300, database=None)
    @given(checkpoints())
    def look(checkpoint):
        refused = None
        try:
            seen["unknown" if accounted(*checkpoint) == "unknown" else "known"] += 1
        except WeightscopeError as error:
            refused = error
            seen["refused"] += 1
        assert refused is None or three_sentences(refused), refused.args

    look()
    assert min(seen["unknown"], seen["known"], seen["refused"]) >= 10, seen


def meaning(opened):
    """Every matrix, and what is skipped: the reasons name templates, which a draft may write otherwise."""
    return opened.matrices, [(entry.tensor, entry.kind) for entry in opened.skipped]


@settings(max_examples=200)
@given(checkpoints())
def test_a_draft_means_what_was_guessed_or_is_refused(checkpoint):
    tensors, config = checkpoint
    try:
        found = opened(tensors, {**config, "model_type": "new"})
        guessed = meaning(found)
    except WeightscopeError:
        return
    text = draft_text(found.tensors, found.config, found.detection.spec, found.sizes, "x")
    spec = parse_family(text, Path("x"))
    try:
        drafted = opened(tensors, config, spec)
        same = meaning(drafted) == guessed
    except WeightscopeError as error:  # a family is held to more than guesses are, but never to its templates
        assert "template" not in str(error)  # noqa: PT017
        return
    assert same


@pytest.mark.parametrize("spec", FAMILIES.values(), ids=lambda spec: spec.name)
def test_a_family_by_wish_accounts_for_everything_too(spec):
    layers = [template for template in TEMPLATES[spec.name] if "{layer}" in template][:1]
    tensors = {re.sub(r"\{\w+\}", "0", template): torch.zeros(24, 24) for template in layers}
    tensors |= {"else.weight": torch.zeros(3, 4), "conv.weight": torch.zeros(2, 2, 2)}
    refused = None
    try:
        assert accounted(tensors, {}, spec) == spec.name
    except WeightscopeError as error:  # a fused weight that needs heads, or an O
        refused = error
    assert refused is None or three_sentences(refused)
