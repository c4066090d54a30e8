"""The sizes of a model: found and replaced wherever they stand, and nothing else changed."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn

from jaxtheory.programs.sizes import name_of, resized, sizes


class Pair(NamedTuple):
    inputs: int
    outputs: int


@dataclasses.dataclass(frozen=True)
class Config:
    layers: tuple[Pair, ...]
    heads: dict[str, int]
    bias: bool = True
    rate: float = 2.0
    padding: int = 0


CONFIG = Config((Pair(3, 8), Pair(8, 1)), {"query": 4})


def test_sizes_are_the_positive_integers_that_are_no_booleans():
    found = {name_of(place): size for place, size in sizes(CONFIG).items()}
    assert found == {"layers[0][0]": 3, "layers[0][1]": 8, "layers[1][0]": 8, "layers[1][1]": 1, "heads.query": 4}


def test_replaced_sizes_leave_everything_else_as_it_was():
    wider = resized(CONFIG, {place: 2 * size for place, size in sizes(CONFIG).items() if size == 8})
    assert wider == Config((Pair(3, 16), Pair(16, 1)), {"query": 4})
    assert isinstance(wider.layers[0], Pair)
    assert CONFIG.layers[0] == Pair(3, 8)
    assert resized(CONFIG, {}) is CONFIG


def test_a_module_of_flax_is_cloned_with_the_modules_in_it():
    module = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(10)])
    wider = resized(module, {("layers", 0, "features"): 64})
    assert [layer.features for layer in (wider.layers[0], wider.layers[2])] == [64, 10]
    assert module.layers[0].features == 32
