"""Model types that came later, against transformers' own modules: one test each."""

import pytest

import weightscope
from tests.parity.models import build
from tests.parity.more_cases import MORE
from tests.parity.test_families import assert_same_weights

ROLES = {"Q", "K", "V", "O", "QKV", "M1", "G", "M2"}


@pytest.mark.parametrize("case", MORE, ids=lambda case: case.name)
def test_a_model_type(case, tmp_path):
    """Every matrix of every layer is the module's; every tensor is accounted for, once."""
    model = build(case)
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == case.family
        assert_same_weights(checkpoint, model, case)
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        skipped = {entry.tensor.name for entry in checkpoint.skipped}
        assert used | skipped == {name for name, info in checkpoint.tensors.items() if len(info.shape) >= 2}
        assert not used & skipped
        assert {entry.kind for entry in checkpoint.skipped} <= {"buffer", "bias"}
        roles = [matrix for matrix in checkpoint.matrices if matrix.group in ROLES]
        assert len(roles) == len(case.expected(model))
        unnamed = {m.parameter for m in checkpoint.matrices if m.group in ("other", "conv")}
        assert {name for name in unnamed if not name.endswith(case.others)} == set()
        assert {name for name in case.others if not any(p.endswith(name) for p in unnamed)} == set()
        assert checkpoint.notes == ()
    with weightscope.open_checkpoint(model) as live:  # by the names it has in memory
        assert live.detection.spec.name == case.family
        assert_same_weights(live, model, case)
        assert live.notes == ()
