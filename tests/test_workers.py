"""Tests run side by side, each process on as many threads as it was given: one, if nobody said otherwise."""

import os

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info  # comes with scikit-learn


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process may have every core")
def test_a_worker_computes_on_one_thread():
    np.linalg.svd(np.eye(2))
    given = int(os.environ["OMP_NUM_THREADS"])
    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    assert pools == dict.fromkeys(pools, given)
    assert torch.get_num_threads() == given
