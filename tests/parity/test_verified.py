"""What `weightscope families --verified` says of a family is what the tests do with it.

A new family: add a case to `tests/parity/cases.py`, `mixtures.py` or a file that `more_cases.py` gathers,
and write `verified="modules"` into its entry, or `verified="forward pass"` if it has a fused weight. If
transformers cannot load it, put it together in a test marked `@by_formula("NAME")` and write
`verified="formula"`. Spellings of it that transformers does not write are named in the entry's
`formula=("...",)`, and their test is marked in the same way.
"""

import importlib
import pkgutil

import pytest
import transformers

import tests.parity
from tests.parity.cases import CASES
from tests.parity.formula import FAMILIES_BY_FORMULA
from tests.parity.mixtures import MIXTURES
from tests.parity.more_cases import MORE
from tests.parity.more_mixtures import MORE_MIXTURES
from tests.parity.test_state_space import MODELS as STATE_SPACE_MODELS
from weightscope.families.registry import FAMILIES
from weightscope.families.verification import TRANSFORMERS, verification

for module in pkgutil.iter_modules(tests.parity.__path__, "tests.parity."):  # each marks its tests
    if module.name.rpartition(".")[2].startswith("test_"):
        importlib.import_module(module.name)
EXPERTS = {mixture.family for mixture in (*MIXTURES.values(), *MORE_MIXTURES.values()) if mixture.experts}
STATE_SPACE = {"mamba", "rwkv"} if STATE_SPACE_MODELS else set()
HYBRIDS = {mixture.family for mixture in MORE_MIXTURES.values()}
TWO_LISTS = {"xlm"}  # test_more_families.py
WITH_CASE = {case.family for case in (*CASES, *MORE)} | EXPERTS | HYBRIDS | STATE_SPACE | TWO_LISTS


@pytest.mark.parametrize("spec", FAMILIES.values(), ids=lambda spec: spec.name)
def test_what_is_said_is_what_is_tested(spec):
    # Of experts it is compared what each computes.
    fused = spec.name in EXPERTS or any(pattern.layout is not None for pattern in spec.patterns)
    if spec.name in WITH_CASE:
        expected = "forward pass" if fused else "modules"
    else:
        expected = "formula" if spec.name in FAMILIES_BY_FORMULA else "not verified"
    assert expected != "not verified", f"{spec.name}: {__doc__}"
    assert spec.verified == expected, f'The entry of {spec.name} should say verified="{expected}". {__doc__}'


@pytest.mark.parametrize("spec", FAMILIES.values(), ids=lambda spec: spec.name)
def test_spellings_that_transformers_does_not_write(spec):
    tested = spec.name in FAMILIES_BY_FORMULA and spec.name in WITH_CASE
    assert bool(spec.formula) == tested, f"{spec.name}: formula={spec.formula}. {__doc__}"


def test_marks_and_cases_name_families():
    assert set(FAMILIES_BY_FORMULA) | WITH_CASE == set(FAMILIES)


def test_a_family_whose_case_disappears_is_found(monkeypatch):
    monkeypatch.setitem(globals(), "WITH_CASE", WITH_CASE - {"llama"})
    with pytest.raises(AssertionError, match="llama"):
        test_what_is_said_is_what_is_tested(FAMILIES["llama"])
    monkeypatch.setitem(globals(), "FAMILIES_BY_FORMULA", {})
    with pytest.raises(AssertionError, match="phi-msft"):
        test_what_is_said_is_what_is_tested(FAMILIES["phi-msft"])
    with pytest.raises(AssertionError, match="mpt"):
        test_spellings_that_transformers_does_not_write(FAMILIES["mpt"])


def test_lines():
    assert verification(FAMILIES["llama"]) == "transformers 5.23, modules"
    assert verification(FAMILIES["phi3"]) == "transformers 5.23, forward pass"
    assert verification(FAMILIES["phi-msft"]) == "formula"
    assert verification(FAMILIES["mpt"]) == (
        "transformers 5.23, forward pass; formula: grouped queries, as llm-foundry writes them"
    )


def test_the_version_that_is_said_is_the_one_that_judges():
    if not transformers.__version__.startswith(f"{TRANSFORMERS}."):
        pytest.skip(f"verified with transformers {TRANSFORMERS}, and this is {transformers.__version__}")
