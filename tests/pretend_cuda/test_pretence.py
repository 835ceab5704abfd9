"""What the pretended device promises: it is late, it mixes nothing, and it says when the host waits."""

import math

import pytest
import torch

from tests.pretend_cuda.fixtures import pretended
from tests.pretend_cuda.timeline import Haste


@pytest.fixture
def machine():
    with pretended(devices=2) as made:
        yield made


def test_tensors_say_where_they_are(machine):
    for made in (
        torch.zeros(2, device="cuda"),
        torch.tensor([1.0, 2.0], device="cuda"),
        torch.as_tensor(2.0, device="cuda").expand(2),
        torch.ones(2).cuda(),
        torch.ones(2).to("cuda"),
        torch.nn.Parameter(torch.ones(2, device="cuda")),
        torch.ones(2, device="cuda").new_zeros(2),
    ):
        assert made.is_cuda
        assert made.device == torch.device("cuda:0")
        assert made.shape == (2,)
    with torch.cuda.device(1):
        assert torch.empty(1, device="cuda").device.index == torch.ones(1).cuda().device.index == 1
    assert torch.ones(2, device="cuda:1").cpu().tolist() == [1, 1]


MIXED = {
    "sum": lambda here, there: there + here,
    "product": lambda here, there: there @ here,
    "out": lambda here, there: torch.mm(there, there, out=here),
    "out of scalars": lambda here, there: torch.sum(there, dim=0, out=here[0]),
    "stack": lambda here, there: torch.stack([here, there]),
    "in place": lambda here, there: here.add_(there),
    "other GPU": lambda here, there: there + there.to("cuda:1"),
    "number in a product": lambda here, there: torch.dot(there[0], here[0, :1].expand(2)),
}


@pytest.mark.parametrize("name", MIXED)
def test_devices_do_not_mix(machine, name):
    with pytest.raises(RuntimeError, match="same device"):
        MIXED[name](torch.ones(2, 2), torch.ones(2, 2, device="cuda"))


def test_what_a_gpu_takes_of_the_host(machine):
    there = torch.ones(2, 2, device="cuda")
    assert (there * torch.tensor(3.0)).sum().item() == 12
    assert there[:, torch.tensor([1])].shape == (2, 1)
    there[0] = torch.tensor([5.0, 6.0])
    there[1, 0] = 7.0
    assert there.tolist() == [[5, 6], [7, 1]]


@pytest.mark.parametrize("reach", [lambda t: t.numpy(), lambda t: memoryview(t), lambda t: t.numpy().data])
def test_the_host_reaches_into_nothing(machine, reach):
    with pytest.raises(TypeError):
        reach(torch.ones(2, device="cuda"))


WAITS = {
    "item": lambda t: t[0].item(),
    "float": lambda t: float(t[0]),
    "bool": lambda t: bool(t[0] > 0),
    "if": lambda t: 1 if (t > 0).all() else 2,
    "cpu": lambda t: t.cpu(),
    "tolist": lambda t: t.tolist(),
    "nonzero": lambda t: t.nonzero(),
    "mask": lambda t: t[t > 0],
    "unique": lambda t: t.unique(),
    "equal": lambda t: torch.equal(t, t),
    "copy to the host": lambda t: torch.empty(3).copy_(t),
    "copy from the host": lambda t: t.copy_(torch.ones(3)),
    "a list": lambda t: torch.tensor([1.0], device="cuda"),
    "new_tensor": lambda t: t.new_tensor(2.0),
    "index of the host": lambda t: t[torch.tensor([0])],
    "eigh": lambda t: torch.linalg.eigh(torch.diag(t)),
    "svdvals": lambda t: torch.linalg.svdvals(torch.diag(t)),
}
DOES_NOT_WAIT = {
    "where": lambda t: torch.where(t > 0, t, 0.0),
    "two numbers": lambda t: torch.where(t > 0, 1.0, math.nan),
    "fill": lambda t: t.fill_(3.0),
    "assigned": lambda t: t.__setitem__(slice(0, 2), 1.0),
    "cholesky": lambda t: torch.linalg.cholesky_ex(torch.diag(t)).info,
    "sort": lambda t: t.sort().values,
    "frexp": lambda t: torch.frexp(t).exponent,
    "draw": lambda t: torch.randn(3, device="cuda"),
    "pinned": lambda t: t.copy_(torch.empty(3, pin_memory=True), non_blocking=True),
}


@pytest.mark.parametrize("name", [*WAITS, *DOES_NOT_WAIT])
def test_what_waits(machine, name):
    tensor = torch.ones(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    if name in DOES_NOT_WAIT:
        DOES_NOT_WAIT[name](tensor)
        assert machine.waits == []
        return
    with pytest.raises(RuntimeError, match="synchronizing"):
        WAITS[name](tensor)
    torch.cuda.set_sync_debug_mode("default")
    WAITS[name](tensor)


@pytest.mark.parametrize("haste", list(Haste), ids=lambda haste: haste.value)
@pytest.mark.parametrize("waits", [False, True])
def test_pinned_memory_is_read_when_the_copy_is_carried_out(haste, waits):
    with pretended(haste=haste):
        host = torch.empty(4, pin_memory=True)
        assert host.is_pinned()
        assert host.isnan().all()
        there, copied, beside = torch.zeros(4, device="cuda"), torch.cuda.Event(), torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        host.fill_(1)
        with torch.cuda.stream(beside):
            there.copy_(host, non_blocking=True)
            copied.record()
        if waits:
            copied.synchronize()
        host.fill_(2)
        torch.cuda.current_stream().wait_event(copied)
        # Where copies run ahead this one had its chance when it was asked for, unless it was to wait.
        assert there.tolist() in ([[1] * 4] if waits else [[1] * 4, [2] * 4])
        assert waits or haste is Haste.SIDE or there.tolist() == [2] * 4


@pytest.mark.parametrize("haste", [Haste.NONE, Haste.WORK], ids=lambda haste: haste.value)
def test_without_a_wait_what_comes_beside_is_not_there(haste):
    with pretended(haste=haste):
        there, beside = torch.zeros(4, device="cuda"), torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            there.add_(1)
        assert there.sum().item() == 0
        torch.cuda.current_stream().wait_stream(beside)
        assert there.sum().item() == 4


def test_an_event_that_was_never_recorded_holds_nobody_up(machine):
    event = torch.cuda.Event()
    event.synchronize()
    torch.cuda.current_stream().wait_event(event)
    assert event.query()


def given_back(keep):
    beside = torch.cuda.Stream()
    there = torch.zeros(4, device="cuda")
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        there.add_(1)
    if keep:
        there.record_stream(beside)


@pytest.mark.parametrize("keep", [False, True])
def test_memory_is_given_back_in_the_order_of_its_stream(keep):
    with pretended() as machine:
        given_back(keep)
        machine.timeline.reach_all()
        assert len(machine.timeline.faults) == (0 if keep else 1)
        machine.timeline.faults.clear()


def test_memory_may_be_in_use_when_it_is_given_out():
    with pretended(haste=Haste.SIDE) as machine:
        torch.zeros(4, device="cuda") + 1
        there = torch.empty(4, device="cuda")
        with torch.cuda.stream(torch.cuda.Stream()):
            there.fill_(1)
        assert "not be done with" in machine.timeline.faults.pop()


def test_faults_are_reported():
    def failing():
        with pretended() as machine:
            machine.timeline.faults.append("something")

    with pytest.raises(AssertionError, match="something"):
        failing()


def test_memory_is_counted(machine):
    before = torch.cuda.mem_get_info("cuda:1")[0]
    there = torch.empty(1000, dtype=torch.float64, device="cuda:1")
    view = there[500:]
    del there
    assert torch.cuda.mem_get_info("cuda:1")[0] == before - 8000
    del view
    assert torch.cuda.mem_get_info("cuda:1")[0] == before
    machine.total_bytes = 1000
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1001, dtype=torch.uint8, device="cuda")


def test_a_graph_is_replayed_and_waits_for_nothing(machine):
    there = torch.zeros(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        there.add_(1)
    assert there.tolist() == [0, 0, 0]
    for _ in range(3):
        graph.replay()
    assert there.tolist() == [3, 3, 3]
    with (
        pytest.raises(RuntimeError, match="not permitted when stream is capturing"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        float(there.sum())


def test_a_generator_is_of_one_device(machine):
    drawn = torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    again = torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    assert drawn.tolist() == again.tolist()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device="cuda", generator=torch.Generator().manual_seed(1))


def test_tf32_where_it_is_allowed(machine):
    exact = 1 + 2.0**-15
    one = torch.full((2, 2), exact, device="cuda")
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        late = one @ one
        torch.backends.cuda.matmul.allow_tf32 = False
        assert late.tolist() == [[2.0, 2.0]] * 2  # by the settings when it was asked for
        assert (one @ one).tolist() != [[2.0, 2.0]] * 2
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_nothing_is_left_behind():
    before = (torch.cuda.Stream, torch.Tensor.to, torch.tensor, torch.Generator, torch.cuda.is_available())
    with pretended():
        assert torch.cuda.is_available()
    after = (torch.cuda.Stream, torch.Tensor.to, torch.tensor, torch.Generator, torch.cuda.is_available())
    assert all(one is other for one, other in zip(before, after, strict=True))
