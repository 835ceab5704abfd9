"""A user's own settings for float32 products change no reported number, and are found again as they were."""

import math

import pytest
import torch

import weightscope
from tests.factories import write_checkpoint
from weightscope.spectra.precision import float32_products

NEW = hasattr(torch.backends.mkldnn, "matmul") and hasattr(torch.backends, "fp32_precision")


def for_all(precision):
    torch.backends.fp32_precision = precision


def for_cpu(precision):
    torch.backends.mkldnn.matmul.fp32_precision = precision


def for_gpu(precision):
    torch.backends.cuda.matmul.fp32_precision = precision


def allow_tf32():
    torch.backends.cuda.matmul.allow_tf32 = True


SETTINGS = {
    "highest": lambda: torch.set_float32_matmul_precision("highest"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "allow_tf32": allow_tf32,
}
if NEW:
    SETTINGS |= {
        "bf16 for all": lambda: for_all("bf16"),
        "tf32 for all": lambda: for_all("tf32"),
        "bf16 on this backend": lambda: for_cpu("bf16"),
        "bf16 for all and on this backend": lambda: (for_all("bf16"), for_cpu("bf16")),
        "ieee for all, bf16 on this backend": lambda: (for_all("ieee"), for_cpu("bf16")),
    }


def shown():
    """What each setting says, and what each backend's says once the one for all is changed."""
    if not NEW:
        return torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    backends = (torch.backends, torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)
    before = torch.backends.fp32_precision
    found = [backend.fp32_precision for backend in backends]
    for other in ("ieee", "tf32"):
        for_all(other)
        found += [backend.fp32_precision for backend in backends]
    for_all(before)
    return found


@pytest.fixture(autouse=True)
def _restored():
    torch.set_float32_matmul_precision("highest")
    yield
    if NEW:
        for each in (for_all, for_cpu, for_gpu):
            each("none")
    torch.set_float32_matmul_precision("highest")


def product_error():
    """Of a product that bfloat16 gets wrong in the third digit."""
    generator = torch.Generator().manual_seed(0)
    matrix, vector = torch.randn(600, 600, generator=generator), torch.randn(600, generator=generator)
    exact = matrix.double() @ vector.double()
    return float((torch.mv(matrix, vector).double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["exact", "bfloat16"])
def test_a_setting_holds_inside_and_not_after(name, kind):
    SETTINGS[name]()
    before = shown()
    with float32_products("exact"):
        assert product_error() < 1e-6
        with float32_products(kind):
            pass
        assert product_error() < 1e-6
    assert shown() == before
    with pytest.raises(ZeroDivisionError), float32_products(kind):
        raise ZeroDivisionError
    assert shown() == before


def test_the_common_setting_can_still_be_read():
    """It fails where a backend's own was set in between, and ours is set and taken back."""
    for precision in ("highest", "high", "medium"):
        torch.set_float32_matmul_precision(precision)
        with float32_products("bfloat16"):
            pass
        assert torch.get_float32_matmul_precision() == precision


def checkpoint(folder, dtype):
    """Beyond the size that is solved directly; a trained-like and a Gaussian layer: short and long runs."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, power in enumerate((-0.7, 0.0)):
        for name, rows in (("attn.c_attn", 480), ("attn.c_proj", 160), ("mlp.c_fc", 640)):
            weight = torch.randn(160, rows, generator=generator)
            fall = torch.arange(1, 161) ** power
            tensors[f"h.{layer}.{name}.weight"] = (weight * fall[:, None]).to(dtype)
        tensors[f"h.{layer}.mlp.c_proj.weight"] = torch.randn(640, 160, generator=generator).to(dtype)
    return write_checkpoint(folder, tensors, {"model_type": "gpt2", "n_head": 4, "n_embd": 160})


@pytest.mark.parametrize("bound", ["residual", "probable", "audited", "proved"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_reported_number_depends_on_a_setting(tmp_path, dtype, bound):
    folder, found = checkpoint(tmp_path, dtype), {}
    for name, setting in SETTINGS.items():
        setting()
        before = shown()
        analysis = weightscope.analyze(folder, spectrum=True, bound=bound)
        assert shown() == before
        found[name] = analysis.table, analysis.spectra
        if NEW:
            for each in (for_all, for_cpu, for_gpu):
                each("none")
    (table, spectra), *others = found.values()
    assert set(table["method"].str.split("+").str[0]) == {"lanczos"}
    for other_table, other_spectra in others:
        for expected, other in ((table, other_table), (spectra, other_spectra)):
            for column in expected.columns:
                if expected[column].dtype.kind == "f":
                    assert other[column].tolist() == pytest.approx(
                        expected[column].tolist(), rel=1e-12, nan_ok=True
                    ), column
    assert not math.isnan(table["nuclear_norm"].sum())
