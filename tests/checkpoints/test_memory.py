"""Weights in memory: modules and state dicts, tied names, and tensors that hold no values."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import weightscope
from weightscope.checkpoints.dtypes import BY_TORCH_NAME
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError, OptionError, QuantizedCheckpointError, WeightscopeError


class Tied(nn.Module):
    """An embedding whose weight is the unembedding's too, a buffer, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.linear = nn.Linear(4, 3)
        self.lm_head = nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.embed.weight
        self.register_buffer("steps", torch.arange(5))
        self.register_buffer("hidden", torch.ones(2, 2), persistent=False)


def assert_refused(
    state: dict[Any, Any] | nn.Module, kind: type[WeightscopeError], *words: str
) -> WeightscopeError:
    with pytest.raises(kind) as caught:
        open_source(state)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_a_module_is_its_parameters_and_persistent_buffers() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with open_source(module) as source:
        assert source.reference == "Sequential"
        assert set(source.index) == {
            "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
            "1.num_batches_tracked",
        }  # fmt: skip
        assert source.index["0.weight"].shape == (2, 3)
        assert source.index["1.num_batches_tracked"].shape == ()
        assert source.files == ()
        assert source.notes == ()
        for name, info in source.index.items():
            found = source.read(info)
            assert torch.equal(found, module.state_dict()[name])
            assert not found.requires_grad
        assert source.received_bytes == source.index.nbytes


def test_reading_copies_nothing() -> None:
    weight = torch.ones(2, 3, requires_grad=True)
    with open_source({"weight": weight}) as source:
        assert source.reference == "state_dict"
        found = source.read(source.index["weight"])
        assert found.data_ptr() == weight.data_ptr()
        assert not found.requires_grad


def test_positions_follow_each_other() -> None:
    state = {
        "a": torch.ones(2, 3),
        "b": torch.ones((), dtype=torch.int8),
        "c": torch.ones(0, 3),
        "d": torch.ones(1),
    }
    with open_source(state) as source:
        assert [(info.start, info.stop) for info in source.index.values()] == [
            (0, 24),
            (24, 25),
            (25, 25),
            (25, 29),
        ]
        assert source.index.nbytes == 29


@pytest.mark.parametrize("state", [Tied(), Tied().state_dict()], ids=["module", "state dict"])
def test_tied_weights_are_recorded_once(state: Any) -> None:
    with open_source(state) as source:
        assert set(source.index) == {"embed.weight", "linear.weight", "linear.bias", "steps"}
        assert source.tied == {"lm_head.weight": "embed.weight"}
    with weightscope.open_checkpoint(state) as checkpoint:
        (skipped,) = [entry for entry in checkpoint.skipped if entry.tensor.name == "lm_head.weight"]
        assert skipped.reason == "tied to embed.weight"
        assert skipped.kind == "tied"


def test_only_the_same_view_is_tied() -> None:
    base = torch.randn(4, 4)
    state = {
        "whole": base,
        "again": base.view(4, 4),
        "transposed": base.T,
        "top": base[:2],
        "flat": base.view(16),
        "as_integers": base.view(torch.int32),
        "copy": base.clone(),
        "empty": torch.empty(0, 4),
        "also_empty": torch.empty(0, 4),
    }
    with open_source(state) as source:
        assert source.tied == {"again": "whole"}
        assert set(source.index) == state.keys() - {"again"}


def test_tied_and_counted_once_by_analyze() -> None:
    weight = torch.randn(6, 4)
    state = {f"layers.{layer}.mlp.up_proj.weight": weight for layer in range(2)}
    analysis = weightscope.analyze(state, groups="all")
    assert len(analysis.table) == 1
    assert analysis.skipped["reason"].tolist() == ["tied to layers.0.mlp.up_proj.weight"]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).view(3, 4).T,
        torch.arange(24.0).view(4, 6)[:, ::2],
        torch.arange(24.0).view(4, 6)[1:3, 2:5],
        torch.ones(1, 3).expand(4, 3),
    ],
    ids=["transposed", "every second column", "block", "expanded"],
)
def test_non_contiguous_tensors_read_as_they_look(tensor: torch.Tensor) -> None:
    assert not tensor.is_contiguous()
    with open_source({"x": tensor}) as source:
        info = source.index["x"]
        assert info.shape == tuple(tensor.shape)
        assert info.nbytes == tensor.numel() * 4
        assert torch.equal(source.read(info), tensor)
    found = weightscope.analyze({"x": tensor}, groups="all").table
    assert found["frobenius_norm"].item() == pytest.approx(tensor.double().norm().item(), rel=1e-12)


@pytest.mark.parametrize("torch_name", BY_TORCH_NAME)
def test_every_dtype_of_a_header_is_known(torch_name: str) -> None:
    dtype = getattr(torch, torch_name, None)
    if dtype is None:
        pytest.skip("a dtype that this torch does not have")
    with open_source({"x": torch.empty(2, 3, dtype=dtype)}) as source:
        info = source.index["x"]
        assert info.dtype == BY_TORCH_NAME[torch_name]
        assert source.read(info).dtype == dtype


@pytest.mark.parametrize(
    "config",
    [{"model_type": "gpt2"}, SimpleNamespace(to_dict=lambda: {"model_type": "gpt2"})],
    ids=["mapping", "transformers"],
)
def test_a_modules_config_is_taken(config: object) -> None:
    module = nn.Linear(2, 2)
    module.config = config  # type: ignore[assignment]
    with open_source(module) as source:
        assert source.config == {"model_type": "gpt2"}
        assert source.has_config


@pytest.mark.parametrize("config", [None, "gpt2", SimpleNamespace(model_type="gpt2")], ids=repr)
def test_other_configs_are_none(config: object) -> None:
    module = nn.Linear(2, 2)
    module.config = config  # type: ignore[assignment]
    with open_source(module) as source:
        assert source.config == {}
        assert not source.has_config


def test_what_is_no_tensor_is_passed_over() -> None:
    with open_source({"x": torch.ones(2, 2), "_extra_state": {"amax": 1.0}, "version": 3}) as source:
        assert set(source.index) == {"x"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(3, 2, device="meta"),
        lambda: {"weight": torch.empty(2, 3, device="meta")},
    ],
    ids=["module", "state dict"],
)
def test_meta_tensors_have_no_values(make: Callable[[], Any]) -> None:
    assert_refused(make(), CheckpointFormatError, "'weight' is on the meta device", "Load the weights first")


def test_lazy_modules_have_no_values() -> None:
    assert_refused(nn.LazyLinear(2), CheckpointFormatError, "'weight' belongs to a lazy module")


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(3, 2)])


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested).*:UserWarning")
@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda: torch.eye(3).to_sparse(), "torch.sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "torch.sparse_csr"),
        (lambda: torch.eye(4).to_sparse_bsr((2, 2)), "torch.sparse_bsr"),
        (nested, "nested"),
    ],
    ids=["coo", "csr", "bsr", "nested"],
)
def test_tensors_that_are_not_dense_are_refused(make: Callable[[], torch.Tensor], layout: str) -> None:
    assert_refused(
        {"x": make()}, CheckpointFormatError, f"'x' is not dense: its layout is {layout}", ".to_dense()"
    )


@pytest.mark.filterwarnings("ignore:.*quantize.*")
def test_quantised_tensors_are_refused() -> None:
    state = {"x": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.quint8)}
    assert_refused(state, QuantizedCheckpointError, "'x' has the quantised dtype torch.quint8")


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex32], ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf.*:UserWarning")
def test_unsupported_dtypes_are_refused(dtype: torch.dtype) -> None:
    state = {"ok": torch.ones(2, 2), "x": torch.empty(2, 2, dtype=dtype)}
    assert_refused(state, CheckpointFormatError, f"'x' has the dtype {dtype}")


@pytest.mark.parametrize("name", [0, None, ("a", "b"), "a\nb", "a\x1b[2J", "\ud800"], ids=ascii)
def test_names_are_printable_text(name: Any) -> None:
    assert_refused({name: torch.ones(2, 2)}, CheckpointFormatError, f"It names a tensor {name!r}")


@pytest.mark.parametrize(
    "source", [3, None, b"demo", [torch.ones(2, 2)], torch.ones(2, 2), nn.Linear], ids=repr
)
def test_other_objects_hold_no_weights(source: Any) -> None:
    with pytest.raises(OptionError, match=r"an nn\.Module or a state dict"):
        open_source(source)


def test_an_empty_state_dict_has_no_tensors() -> None:
    with open_source({}) as source:
        assert len(source.index) == 0
        assert source.index.nbytes == 0
