"""Copies beside the work: nothing is overwritten that is still needed, whatever the device is late with."""

import pytest
import torch

import weightscope
from tests.factories import gpt2_tensors, write_gpt2
from weightscope.sweep.plan import Plan, plan_sweep
from weightscope.sweep.run import Seconds
from weightscope.sweep.transfer import HostLane, Slot, lane_of, transfer


class LateLane:
    """A device that copies as late as it may, and whose buffers are spoilt where that is allowed."""

    def __init__(self):
        self.slots, self.pending, self.busy, self.log = [], {}, set(), []

    def slot(self, nbytes):
        made = Slot(
            host=torch.full((nbytes,), 7, dtype=torch.uint8),
            device=torch.full((nbytes,), 9, dtype=torch.uint8),
        )
        self.slots.append(made)
        return made

    def _flush(self, slot):
        if nbytes := self.pending.pop(id(slot), None):
            slot.device[:nbytes] = slot.host[:nbytes].clone()

    def wait(self, slot):
        self._flush(slot)
        slot.host.fill_(7)
        self.log.append(("wait", self.slots.index(slot)))

    def copy(self, slot, nbytes):
        assert id(slot) not in self.busy, "a buffer was overwritten that is still worked on"
        self.pending[id(slot)] = nbytes
        self.log.append(("copy", self.slots.index(slot)))

    def arrive(self, slot):
        self._flush(slot)
        self.busy.add(id(slot))
        self.log.append(("arrive", self.slots.index(slot)))

    def leave(self, slot):
        self.busy.remove(id(slot))
        slot.device.fill_(9)
        self.log.append(("leave", self.slots.index(slot)))


@pytest.mark.parametrize("make", [LateLane, HostLane])
@pytest.mark.parametrize("budget", [1, 1500, 10**9])
def test_every_tensor_arrives_as_it_was_stored(tmp_path, make, budget):
    stored = gpt2_tensors(layers=4)
    lane = make()
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=4, shards=2)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=budget)
        clock, seen = Seconds(), 0
        for step, tensors in transfer(plan, checkpoint.source, clock, lane):
            assert list(tensors) == list(step.tensors)
            for info, tensor in tensors.items():
                assert torch.equal(tensor, stored[info.name]), info.name
                seen += 1
        assert seen == sum(len(step.tensors) for step in plan.steps)
        assert checkpoint.source.received_bytes == plan.read_bytes
        assert clock.read > 0
    if isinstance(lane, LateLane):
        assert len(lane.slots) == min(2, len(plan.steps))
        for number in range(len(lane.slots)):  # each slot goes round and round
            rounds = [event for event, slot in lane.log if slot == number]
            assert rounds == ["wait", "copy", "arrive", "leave"] * (len(rounds) // 4)


def test_what_is_in_memory_is_handed_on_as_it_is():
    state = gpt2_tensors(layers=2)
    with weightscope.open_checkpoint(state) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors)
        for _, tensors in transfer(plan, checkpoint.source, Seconds(), HostLane()):
            assert all(tensor.data_ptr() == state[info.name].data_ptr() for info, tensor in tensors.items())


def test_a_failing_read_is_raised_where_the_tensors_are_asked_for(tmp_path):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=2)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1)
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(weightscope.errors.CheckpointFormatError, match="shrank"):
            list(transfer(plan, checkpoint.source, Seconds(), HostLane()))


def test_nothing_to_do():
    assert list(transfer(Plan(steps=()), None, Seconds(), HostLane())) == []
    assert isinstance(lane_of(torch.device("cpu")), HostLane)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("make", [LateLane, HostLane])
def test_every_tensor_arrives_from_the_hub_too(tmp_path, make, hub):
    """Ranges of several requests land in the pinned buffer, whatever the network does."""
    stored = gpt2_tensors(layers=4)
    folder = write_gpt2(tmp_path / "model", layers=4, shards=2)
    hub.add("org/gpt", {path.name: path for path in folder.iterdir()})
    hub.random_faults(seed=3, rate=0.3)
    with weightscope.open_checkpoint("org/gpt", connections=3) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1500)
        seen = 0
        for _, tensors in transfer(plan, checkpoint.source, Seconds(), make()):
            for info, tensor in tensors.items():
                assert torch.equal(tensor, stored[info.name])
                seen += 1
    assert seen == len({part.tensor.name for matrix in plan.matrices for part in matrix.slices})
    assert any(request.faults for request in hub.stats.requests)
