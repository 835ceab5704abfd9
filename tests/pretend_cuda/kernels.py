"""Every operator that is no copy: checks of devices, results' shapes at once, their values late."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pretend_cuda.blocks import fresh, garbage
from tests.pretend_cuda.copies import converted, copied, put
from tests.pretend_cuda.machine import Machine
from tests.pretend_cuda.operators import Operator, known
from tests.pretend_cuda.products import with_tf32
from tests.pretend_cuda.shapes import Meta, metas_of
from tests.pretend_cuda.tensor import DeviceTensor, tensors_in

_ATEN = torch.ops.aten
_PINNING = {_ATEN._pin_memory.default, _ATEN.is_pinned.default, _ATEN.pin_memory.default}


class Everywhere(TorchDispatchMode):
    """Sends this thread's operators to a machine where they have to do with a device."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to be sure of it takes two seconds of imports

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if DeviceTensor not in types and func not in _PINNING:
            device = args[1] if func is _ATEN.to.device else kwargs.get("device")
            if (device is None or device.type != "cuda") and not kwargs.get("pin_memory"):
                return func(*args, **kwargs)
        return carry_out(self._machine, func, args, kwargs)


def carry_out(machine: Machine, func: Any, args: Any, kwargs: Any) -> Any:
    """An operator with a tensor on a device, or that makes one."""
    if func is _ATEN._to_copy.default:
        return converted(machine, *args, **kwargs)
    if func is _ATEN.copy_.default:
        if len({(type(one), one.device) for one in args[:2]}) > 1:
            non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
            copied(machine, args[1], args[0], non_blocking=non_blocking)
            return args[0]
    elif func in _PINNING:
        if func is _ATEN.is_pinned.default:
            return machine.pinned.has(args[0])
        return machine.pinned.take(args[0].clone())
    operator, asks = known(func), _asks_for_device(kwargs)
    if asks:
        kwargs = {**kwargs, "device": torch.device("cuda", machine.index_of(kwargs["device"]))}
    if operator.composite:
        with Everywhere(machine):
            return func.decompose(*args, **kwargs)
    tensors = list(tensors_in((args, kwargs)))
    if not tensors and not asks:  # pinned memory
        made = func(*args, **{**kwargs, "pin_memory": False})
        return machine.pinned.take(made.copy_(garbage(made.shape, made.stride(), made.dtype)))
    device = kwargs["device"].index if asks else tensors[0].block.line.device
    changed = [given for one in operator.writes for given in _given(one, args, kwargs)]
    for one in (*tensors, *changed):
        if not isinstance(one, DeviceTensor) or one.block.line.device != device:
            _refuse(device, one)
    places = _held(machine, operator, device, args)
    names = {name: _held(machine, operator, device, one) for name, one in kwargs.items()} if kwargs else {}
    if asks:
        names["device"] = "cpu"
    names.pop("pin_memory", None)
    if not asks and kwargs.get("device") is not None:  # as large as one on the device, on the host
        return func(*places, **names)
    if operator.view:
        return _viewed(tensors[0], func, places, names)
    if operator.random:
        return _drawn(machine, device, func, places, names)
    if operator.fetches or (operator.indexing and _by_mask(args[1])):
        machine.catch_up(device, str(func))
        return _there(machine, device, func(*places, **names))
    if changed:
        put(machine, machine.current_line(device), with_tf32(func, operator, places, names), *tensors)
        return changed[0] if len(changed) == 1 else tuple(changed)
    return _computed(machine, device, func, tensors, places, names)


def _computed(machine: Machine, device: int, func: Any, tensors: Any, args: Any, kwargs: Any) -> Any:
    found = metas_of(func, args, kwargs)
    metas = [found] if isinstance(found, Meta) else found
    made = [DeviceTensor(*fresh(machine, device, *meta)) for meta in metas]
    operator = known(func)
    if not operator.allocates_only:
        targets, run = [one.held for one in made], with_tf32(func, operator, args, kwargs)

        def compute() -> None:
            results = run()
            for target, result in zip(
                targets, results if isinstance(results, (tuple, list)) else [results], strict=True
            ):
                target.copy_(result)

        put(machine, machine.current_line(device), compute, *tensors, *made)
    return made[0] if isinstance(found, Meta) else tuple(made)


def _viewed(tensor: DeviceTensor, func: Any, args: Any, kwargs: Any) -> Any:
    with torch.inference_mode():
        found = func(*args, **kwargs)
    with torch.inference_mode(tensor.is_inference()):  # a view is what it is a view of
        if isinstance(found, (list, tuple)):
            return [DeviceTensor(one, tensor.block) for one in found]
        return DeviceTensor(found, tensor.block)


def _there(machine: Machine, device: int, found: Any) -> Any:
    if isinstance(found, (list, tuple)):
        return tuple(_there(machine, device, one) for one in found)
    if not isinstance(found, Tensor):
        return found
    made = DeviceTensor(*fresh(machine, device, found.shape, found.stride(), found.dtype))
    target, value = made.held, found.detach()
    put(machine, machine.current_line(device), lambda: target.copy_(value), made)
    return made


def _drawn(machine: Machine, device: int, func: Any, args: Any, kwargs: Any) -> Any:
    """Random numbers: a launch takes its place in the generator's sequence at once."""
    generator = kwargs.get("generator")
    if generator is not None and (there := machine.generators.get(generator._cdata)) != device:
        found = "cpu" if there is None else f"cuda:{there}"
        raise RuntimeError(f"Expected a 'cuda:{device}' generator device but found '{found}'")
    if func._schema.is_mutable:
        raise NotImplementedError(f"{func} in place")
    return _there(machine, device, func(*args, **kwargs))


def _refuse(device: int, other: Tensor) -> NoReturn:
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"cuda:{device} and {other.device}!"
    )


def _held(machine: Machine, operator: Operator, device: int, values: Any) -> Any:
    """Arguments as they lie in memory; of the host's own only what a GPU takes as a number or an index."""
    if isinstance(values, DeviceTensor):
        return values.held
    if isinstance(values, Tensor):
        if not operator.indexing and (values.dim() or not (operator.pointwise or operator.moves)):
            _refuse(device, values)
        if operator.moves:
            machine.catch_up(device, f"{operator.name} with a tensor on the host")
        return values.detach().clone()
    if isinstance(values, (list, tuple)):
        return type(values)([_held(machine, operator, device, one) for one in values])
    return values


def _by_mask(indices: Any) -> bool:
    return any(one is not None and one.dtype == torch.bool for one in indices)


def _given(argument: tuple[int, str], args: Any, kwargs: Any) -> list[Any]:
    place, name = argument
    return [args[place]] if place < len(args) else [kwargs[name]] if name in kwargs else []


def _asks_for_device(kwargs: Any) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type == "cuda"
