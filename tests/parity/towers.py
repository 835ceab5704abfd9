"""Models of several stacks: where each has its layers, and what attends to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar

import torch
import transformers as hf

from tests.parity import probe


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Where a model class keeps the weights of one stack."""

    stack: str
    layers: str
    """From the model to the stack's layers."""
    depth: int
    attention: Mapping[str, str]
    """Group to module inside a layer."""
    cross: Mapping[str, str] = field(default_factory=dict)
    """The same for cross attention."""
    feed_forward: Mapping[str, str]
    fused: tuple[str, str] = ("", "")
    """The attention module and the one in it that is Q, K and V: judged by what attention does with it."""
    gate: tuple[str, str] = ("", "")
    """The feed-forward module and its activation, if it is gated: G and M1 are judged by what it does."""

    def below(self, path: str) -> Tower:
        """The same tower of a model that keeps it under this path."""
        return Tower(**{**self.__dict__, "layers": f"{path}.{self.layers}"})


@dataclass(frozen=True, kw_only=True)
class TowerCase:
    """A model class of a family."""

    name: str
    family: str
    build: Callable[[], hf.PreTrainedModel]
    towers: tuple[Tower, ...]
    others: tuple[str, ...] = ()
    """Ends of the names that are in no group."""
    query_scale: ClassVar[float] = 1

    def expected(self, model: hf.PreTrainedModel) -> list[tuple[dict[str, object], torch.Tensor]]:
        """Every matrix of every layer, by what finds it."""
        found = []
        for tower in self.towers:
            layers = attrgetter(tower.layers)(model)
            assert len(layers) == tower.depth
            for layer, block in enumerate(layers):
                for kind, weights in _by_kind(tower, block).items():
                    place = {"stack": tower.stack, "layer": layer, "attention_kind": kind}
                    found += [({**place, "group": group}, weight) for group, weight in weights.items()]
        return found


def _by_kind(tower: Tower, block: torch.nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    def weights(paths: Mapping[str, str]) -> dict[str, torch.Tensor]:
        return {group: attrgetter(path)(block).weight for group, path in paths.items()}

    attention, feed_forward = weights(tower.attention), weights(tower.feed_forward)
    if tower.fused[0]:
        attention |= probe.alone_receives(
            *(attrgetter(path)(block) for path in (tower.fused[0], ".".join(tower.fused)))
        )
    # Keys and values of cross attention read something else than its queries do: no QKV.
    attention["QKV"] = torch.cat([attention[group] for group in "QKV"])
    if tower.gate[0]:
        mlp, down = (attrgetter(path)(block) for path in (tower.gate[0], tower.feed_forward["M2"]))
        feed_forward |= probe.gate_and_up(mlp, attrgetter(tower.gate[1])(mlp), down, down.out_features)
    assert attention.keys() == set("QKVO") | {"QKV"}
    assert {"M1", "M2"} <= feed_forward.keys()
    return {"self": attention, "cross": weights(tower.cross), "": feed_forward}
