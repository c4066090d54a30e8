"""The gates of `expressivity`: networks written out and exact counts, computed on the host."""

from fractions import Fraction

import numpy as np
from gates.gates import Gates
from gates.harness import Entry, static

from jaxtheory import expressivity
from jaxtheory.expressivity import barron, depth, kolmogorov, regions, ridgelet, three_layers
from jaxtheory.expressivity import relu_network as rn

HOST = {"precision": "computed in float64 on the host", "jit": "the numbers must be known"}
TENT, BOTH = rn.tent(), rn.identity(2)
NAN, INF = [[np.nan]], [[np.inf]]
BOX = {"net": static(TENT), "low": static(0.0), "high": static(1.0)}
BAD_BOX = {"net": (rn.identity(3), [(NAN, [0.0])]), "low": (2.0, np.nan, -np.inf), "high": (0.0, np.nan, np.inf)}
WIDTHS = {"inputs": static(2), "widths": static([4, 3])}
BAD_WIDTHS = {"inputs": (0,), "widths": ([], [0], [2.5])}
PAIR = {"activation": static("relu"), "derivative": static(4), "dim": static(1)}
BAD_PAIR = {"activation": ("selu",), "derivative": (3, 0, -1), "dim": (0,)}
RADIAL = {"profile": static(np.cos), "dim": static(4)}
BAD_RADIAL = {"profile": (lambda r: r[:1], lambda r: r * np.nan), "dim": (1,)}
INNER = {"dim": static(4), "degree": static(2)}
SMALL = {"inner": static(3), "outer": static(3)}
BAD_SMALL = {"inner": (2,), "outer": (0,)}


def host(name, function, args, invalid):
    """An entry of known numbers; plain values are static arguments."""
    held = {key: value if hasattr(value, "kind") else static(value) for key, value in args.items()}
    return Entry(f"expressivity.{name}", function, held, invalid, skip=HOST)


NETWORKS = [
    host("relu_network.network", rn.network, {"layers": TENT}, {"layers": ([], [(NAN, [0.0])], [(INF, [0.0])])}),
    host("relu_network.audit", rn.audit, {"net": TENT}, {"net": ([], [(NAN, [0.0])])}),
    host("audit", expressivity.audit, {"net": TENT}, {"net": ([],)}),
    host("relu_network.affine", rn.affine, {"weight": [[1.0]], "bias": [0.5]}, {"weight": (NAN, INF, [1.0])}),
    host("relu_network.compose", lambda net: rn.compose(TENT, net), {"net": TENT}, {"net": (BOTH,)}),
    host("relu_network.concatenate", lambda net: rn.concatenate(TENT, net), {"net": TENT}, {"net": (BOTH,)}),
    host("relu_network.deepen", rn.deepen, {"net": TENT, "depth": 3}, {"depth": (1, 0)}),
    host("relu_network.entrywise", rn.entrywise, {"net": TENT, "count": 2}, {"net": (BOTH,), "count": (0,)}),
    host("relu_network.identity", rn.identity, {"dim": 2, "hidden": 1}, {"dim": (0,), "hidden": (-1,)}),
    host("relu_network.parallel", rn.parallel, {"nets": [TENT, TENT]}, {"nets": ([], [TENT, BOTH])}),
    host("relu_network.side_by_side", rn.side_by_side, {"nets": [TENT, BOTH]}, {"nets": ([],)}),
    host("relu_network.skip", rn.skip, {"net": TENT}, {"net": ([],)}),
    host(
        "relu_network.restrict",
        rn.restrict,
        {"net": BOTH, "origin": [0.0, 0.5], "directions": [[1.0, 0.0]]},
        {"origin": ([np.nan, 0.0], [0.0]), "directions": ([[np.inf, 0.0]], [1.0, 0.0])},
    ),
    host(
        "relu_network.spline",
        rn.spline,
        {"knots": [0.0, 1.0], "values": [0.0, 2.0]},
        {"knots": ([1.0, 0.0], [0.0, np.nan], [0.0]), "values": ([0.0], [0.0, np.inf])},
    ),
    host("relu_network.tent", rn.tent, {}, {}),
    host("relu_network.clip", rn.clip, {"low": 0.0, "high": 1.0}, {"low": (1.0, np.nan, -np.inf), "high": (np.inf,)}),
    *[
        host(f"relu_network.{f.__name__}", f, {argument: 2}, {argument: (0, -1)})
        for f, argument in (
            (rn.sawtooth, "k"),
            (rn.square, "m"),
            (rn.product, "m"),
            (rn.partition_of_unity, "cells"),
        )
    ],
    host("relu_network.product_tree", rn.product_tree, {"factors": 3, "m": 2}, {"factors": (0,), "m": (0,)}),
    host("relu_network.tensor_product", rn.tensor_product, {"nets": [TENT, TENT], "m": 2}, {"nets": ([],), "m": (0,)}),
    host("three_layers.radial", three_layers.radial, RADIAL | SMALL, BAD_RADIAL | BAD_SMALL),
    host("three_layers.radial_error", three_layers.radial_error, RADIAL | SMALL, BAD_RADIAL),
    host("three_layers.inner_product", three_layers.inner_product, INNER | SMALL, {"dim": (2,), "degree": (0,)}),
    host(
        "three_layers.inner_product_error", three_layers.inner_product_error, INNER | SMALL, {"dim": (2,)} | BAD_SMALL
    ),
]

COUNTS = [
    host("linear_regions", expressivity.linear_regions, BOX, BAD_BOX),
    host("regions.linear_regions", regions.linear_regions, BOX | {"arithmetic": "float64"}, BAD_BOX),
    host("breakpoints", expressivity.breakpoints, BOX, BAD_BOX),
    host("regions.breakpoints", regions.breakpoints, BOX, {"net": (BOTH,)}),
    host("regions.arrangement", regions.arrangement, {"neurons": 8, "dim": 2}, {"neurons": (-1,), "dim": (-1,)}),
    host("regions.montufar_lower", regions.montufar_lower, WIDTHS, BAD_WIDTHS | {"widths": ([1, 4], [])}),
    host("regions.serra_upper", regions.serra_upper, WIDTHS, BAD_WIDTHS),
    host("depth.harmonics", depth.harmonics, {"dim": 3, "degree": 5}, {"dim": (1,), "degree": (-1,)}),
    host(
        "depth.inner_product_certificate",
        depth.inner_product_certificate,
        {"dim": 4, "degree": 2, "neurons": 3},
        {"dim": (1,), "degree": (0,), "neurons": (-1,)},
    ),
    host(
        "depth.radial_certificate",
        depth.radial_certificate,
        RADIAL | {"neurons": 10},
        {"profile": (lambda r: 0 * r, lambda r: r * np.nan, lambda r: np.cos(1e4 * r)), "dim": (1,), "neurons": (-1,)},
    ),
    host(
        "depth.neurons_needed",
        depth.neurons_needed,
        {"certificate": lambda n: 1 / (1 + n), "error": 0.1},
        {"certificate": (lambda n: 1.0, lambda n: np.nan), "error": (0.0, 1.0, np.nan)},
    ),
    host("kolmogorov.beta", kolmogorov.beta, {"r": 3, "dim": 2}, {"r": (-1,), "dim": (0,)}),
    host(
        "kolmogorov.inner",
        kolmogorov.inner,
        {"x": ["0.58", Fraction(1, 2)], "dim": 2},
        {"x": ("abc", None, [0.5], "nan", "0.123456789"), "dim": (1,)},
    ),
    host(
        "kolmogorov.inner_table",
        kolmogorov.inner_table,
        {"dim": 2, "base": 6, "digits": 2},
        {"dim": (1,), "base": (2,), "digits": (0, 30)},
    ),
    host(
        "kolmogorov.superpose",
        lambda f, dim, digits: kolmogorov.superpose(f, dim=dim, base=6, digits=digits),
        {"f": lambda x: x.sum(1), "dim": 2, "digits": 1},
        {"f": (lambda x: x[:, 0] * np.nan, lambda x: x), "dim": (1, 3), "digits": (0, 9)},
    ),
    host("ridgelet.admissibility", ridgelet.admissibility, PAIR, BAD_PAIR),
    host(
        "ridgelet.retained",
        ridgelet.retained,
        PAIR | {"ratio": [0.0, 1.0]},
        BAD_PAIR | {"ratio": ([-1.0], [np.nan], [np.inf])},
    ),
    host(
        "ridgelet.grid",
        ridgelet.grid,
        {"scale": 1.0, "reach": 1.0, "dim": 1, "step": 0.5},
        {"scale": (0.0, np.nan), "reach": (-1.0, np.inf), "dim": (3,), "step": (0.0, 2.0)},
    ),
    host("barron.gamma_ratio", barron.gamma_ratio, {"a": 2.0}, {}),
    host(
        "ridgelet.polar_grid",
        ridgelet.polar_grid,
        {"scale": 1.0, "reach": 1.0, "radii": 2, "angles": 3, "offset_step": 3.0, "shift": 0.5},
        {"scale": (0.0, np.nan), "reach": (-1.0, np.inf), "radii": (0, 1.5), "angles": (0,), "shift": (1.0, -0.1)},
    ),
]
ENTRIES = NETWORKS + COUNTS


class TestExpressivityHost(Gates):
    """Every function of the room that runs on the host."""

    entries = ENTRIES
