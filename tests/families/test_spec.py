"""Templates: what they match, and what is refused."""

from dataclasses import fields
from itertools import product

import pytest

from weightscope.errors import UnknownFamily
from weightscope.families.matching import NameMatcher
from weightscope.families.registry import FAMILIES, get_family
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import SIZES, CopyPattern, FamilySpec, Group, IgnoredPattern, MatrixPattern

SPEC = FamilySpec(
    name="x",
    prefixes=("model.", ""),
    patterns=(
        MatrixPattern(template="{prefix}layers.{layer}.wq.weight", group=Group.Q),
        MatrixPattern(template="{prefix}layers.{layer}.experts.{expert}.w1", group=Group.M1),
        MatrixPattern(template="{prefix}layers.{layer}.0.weight", group=Group.K),
        MatrixPattern(template="{prefix}layers.{layer}.1.weight", group=Group.V),
    ),
    ignored=(IgnoredPattern(template="{prefix}layers.{layer}.mask", reason="a mask"),),
)


@pytest.mark.parametrize(
    ("name", "group", "layer", "expert"),
    [
        ("layers.0.wq.weight", Group.Q, 0, None),
        ("model.layers.12.wq.weight", Group.Q, 12, None),
        ("module.model.layers.3.wq.weight", Group.Q, 3, None),
        ("_orig_mod.layers.3.wq.weight", Group.Q, 3, None),
        ("layers.1.experts.10.w1", Group.M1, 1, 10),
        ("layers.7.0.weight", Group.K, 7, None),
        ("layers.7.1.weight", Group.V, 7, None),
    ],
)
def test_matches(name, group, layer, expert):
    match = NameMatcher(SPEC).match(name)
    assert (match.pattern.group, match.layer, match.expert) == (group, layer, expert)


@pytest.mark.parametrize(
    "name",
    [
        "layers.0.wq",
        "layers.x.wq.weight",
        "other.layers.0.wq.weight",
        "layers.0.wq.weight.more",
        "layers.7.2.weight",
    ],
)
def test_does_not_match(name):
    assert NameMatcher(SPEC).match(name) is None


def test_ignored():
    assert NameMatcher(SPEC).match("layers.0.mask").pattern.reason == "a mask"


@pytest.mark.parametrize("template", ["", "{layer}.{layer}", "{block}.weight", "a{", "a}b", "{ layer}"])
def test_templates_that_could_never_match_are_refused(template):
    with pytest.raises(UnknownFamily, match="name template"):
        MatrixPattern(template=template, group=Group.Q)


def test_unknown_layout_is_refused():
    with pytest.raises(UnknownFamily, match="contiguous_qkv"):
        MatrixPattern(template="a", group=Group.QKV, layout="nonsense")


@pytest.mark.parametrize("spec", FAMILIES.values(), ids=lambda spec: spec.name)
def test_registry_entries_are_whole(spec):
    groups = {pattern.group for pattern in spec.patterns}
    latent = {Group.KV_A, Group.K_B} <= groups
    if spec.name not in ("mamba", "rwkv"):  # without attention and feed-forward part
        assert latent or Group.QKV in groups or {Group.Q, Group.K, Group.V} <= groups
        assert {Group.O, Group.M1, Group.M2} <= groups
    assert groups & {Group.EMBEDDING, Group.CONV}, "what reads the input: tokens or an image"
    assert spec.reference
    assert get_family(spec.name) is spec
    names = [p.template for p in (*spec.patterns, *spec.ignored)]
    assert len(names) == len(set(names))


def test_families_of_one_model_type_have_no_layer_name_in_common():
    templates = {}
    for spec in FAMILIES.values():
        for prefix, pattern in product(spec.prefixes, spec.patterns):
            name = pattern.template.replace("{prefix}", prefix)
            for model_type in spec.model_types if "{layer}" in name else ():
                assert templates.setdefault((model_type, name), spec.name) == spec.name


@pytest.mark.parametrize("keys", [{"encoder": {"depth": "n"}}, {"encoder": {"heads": "n", "width": "m"}}])
def test_unknown_sizes_of_a_stack_are_refused(keys):
    with pytest.raises(UnknownFamily, match="The sizes are"):
        FamilySpec(name="own", patterns=(), stack_keys=keys)


def test_a_copy_of_a_name_that_could_never_match_is_refused():
    with pytest.raises(UnknownFamily, match="name template"):
        CopyPattern(template="lm_head.weight", of=("a{",))


def test_sizes_are_those_of_the_config_reader():
    assert tuple(field.name for field in fields(ConfigSizes)) == SIZES
