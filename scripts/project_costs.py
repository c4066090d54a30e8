"""What each method costs a device of a mesh, and what 8, 64 and 512 accelerators would make of it.

    python scripts/project_costs.py
    python scripts/project_costs.py --devices 1 2 4 8 16 32 64 128 256 512

A projection from counts, not a measurement: the flops of matrix products, the bytes that must move and the collectives
are those that the tests find in the compiled programs; the rates are a data sheet's. A call takes the longer of its
flops and its bytes, then its collectives, which it never hides behind them.
"""

import argparse
import itertools
import math
from typing import NamedTuple

ITEM = 4  # bytes of a float32
PIVOTS = 32
LAYER = 98  # flops an entry of a ReLU layer's arc-cosine maps, none of them of a product


class Collective(NamedTuple):
    """A kind, the numbers in its result on one device, and how often it happens."""

    kind: str
    numbers: float
    times: float = 1


class Cost(NamedTuple):
    """Of one device of p: flops of matrix products, bytes through its memory, collectives."""

    flops: float
    bytes: float
    collectives: tuple[Collective, ...] = ()


class Rates(NamedTuple):
    """Of one accelerator: flops/s, bytes/s of memory, of a link within a host and to another, seconds a collective."""

    flops: float = 67e12
    memory: float = 3.35e12
    link: float = 450e9
    network: float = 50e9
    latency: float = 20e-6
    host: int = 8


def pairs(n: int, p: int) -> int:
    """Pairs of points on each device where a device meets itself and the ⌊p/2⌋ after it."""
    return (n // p) ** 2 * (1 + p // 2)


def gram(n: int, entry: int, p: int, block: int) -> Cost:
    """`kernels.gram(kernel, x)`, `entry` flops an entry: 2 d for n points in d dimensions, infinite width or not.

    A device computes half of its own block and all of those with the ⌊p/2⌋ devices after it, in blocks of its own.
    """
    size = min(block, n // p)
    count = -(-(n // p) // size)
    entries = (count * (count + 1) // 2 + p // 2 * count**2) * size**2
    sent = (Collective("collective-permute", (n // p) ** 2),) * ((p - 1) // 2)
    return Cost(entry * entries, ITEM * n**2 / p, sent)


def matvec(n: int, d: int, outputs: int, p: int, block: int) -> Cost:
    """`kernels.matvec(kernel, x, v)`: each pair of blocks serves both triangles; its entries are written and read."""
    blocks = max(-(-n // block), math.ceil(math.sqrt(8 * p))) if p > 1 else -(-n // block)
    size = -(-n // blocks)
    blocks = -(-n // size)
    entries = -(-blocks * (blocks + 1) // 2 // p) * size**2
    sent = (Collective("all-gather", n * outputs), Collective("reduce-scatter", n * outputs // p))
    return Cost(entries * (2 * d + 4 * outputs), ITEM * 3 * entries, sent)


def iteration(n: int, d: int, outputs: int, rank: int, p: int, block: int) -> Cost:
    """One of the conjugate gradients of `kernels.fit`: a product with K, one with the preconditioner, three norms."""
    product = matvec(n, d, outputs, p, block)
    norms = (Collective("all-reduce", rank * outputs), Collective("all-reduce", outputs, 3))
    flops, moved = 4 * n * rank * outputs / p, ITEM * 2 * n * rank / p
    return Cost(product.flops + flops, product.bytes + moved, product.collectives + norms)


def preconditioner(n: int, d: int, rank: int, p: int) -> Cost:
    """Randomly pivoted Cholesky by 32 columns, three passes of Cholesky QR; rank³ terms and K's diagonal undivided."""
    pivots = min(PIVOTS, rank)
    steps = -(-rank // pivots)
    draws = (Collective("all-gather", n, steps), Collective("all-reduce", pivots**2, steps))
    rows = (Collective("all-reduce", pivots * rank, steps), Collective("all-reduce", rank**2, 3))
    flops = 2 * n * rank * (d + 7 * rank + pivots) / p + 12 * rank**3 + 2 * n * d
    return Cost(flops, ITEM * (steps + 9) * n * rank / p, draws + rows)


def tangent_kernel(method: str, n: int, widths: tuple[int, ...], p: int) -> tuple[Cost, float]:
    """`empirical.ntk(f, params, x, mesh=)` of a dense network, o² numbers a pair; and what derivatives add at most.

    They are of a device's own n/p examples and of those it meets, which it takes anew: the part that p does not divide.
    """
    outputs, met, seen = widths[-1], pairs(n, p), n // p * (2 + p // 2)
    parameters = sum(a * b for a, b in itertools.pairwise(widths))
    forward = 2 * parameters
    flops, more = {
        "jacobian": (2 * outputs**2 * parameters * met, seen * (1 + 2 * outputs) * forward),
        "structured": (2 * (sum(widths[:-1]) + outputs**2 * sum(widths[1:])) * met, seen * (1 + outputs) * forward),
        "products": (outputs * forward * met, outputs * forward * met + seen * (1 + 2 * outputs) * forward),
    }[method]
    sent = (Collective("all-to-all", n**2 * outputs**2 // p),) if p > 1 else ()
    return Cost(flops, ITEM * outputs**2 * n**2 / p, sent), more


def operator(n: int, parameters: int, p: int) -> Cost:
    """A product with `empirical.ntk_operator`: forward and backward through n/p examples, a gradient summed."""
    return Cost(8 * parameters * n / p, ITEM * 4 * parameters, (Collective("all-reduce", parameters),))


def flow_step(particles: int, n: int, d: int, outputs: int, p: int, *, blocks: bool = True) -> Cost:
    """A step of `meanfield.simulate` on a risk of n points: φ, its reverse, and φ again where there are blocks."""
    pair = (6 if blocks else 4) * d + 6 * outputs
    sent = (Collective("all-reduce", n * outputs),)
    return Cost(pair * n * particles / p, ITEM * 8 * particles * d / p, sent)


def points(count: int, flops: float, moved: float, p: int) -> Cost:
    """`sweeps.run` and `networks.train_widths`: whole points, or networks, for each device, and nothing is sent."""
    share = -(-count // p)
    return Cost(share * flops, share * moved)


def sent_bytes(one: Collective, p: int) -> float:
    """What a device sends for a collective, by a ring."""
    factor = {
        "all-reduce": 2 * (p - 1) / p,
        "all-gather": (p - 1) / p,
        "reduce-scatter": p - 1,
        "all-to-all": (p - 1) / p,
        "collective-permute": 1,
    }[one.kind]
    return ITEM * factor * one.numbers * one.times


def seconds(cost: Cost, p: int, rates: Rates) -> tuple[float, float]:
    """Of the work and of the communication."""
    sent = sum(sent_bytes(one, p) for one in cost.collectives) if p > 1 else 0.0
    calls = sum(one.times for one in cost.collectives) if p > 1 else 0
    rate = rates.link if p <= rates.host else rates.network
    return max(cost.flops / rates.flops, cost.bytes / rates.memory), sent / rate + calls * rates.latency


def examples(p: int) -> dict[str, Cost]:
    """One size of each method, such as a large accelerator would be lent for."""
    kernel, derivatives = tangent_kernel("structured", 2**14, (784, 1024, 1024, 1024, 10), p)
    return {
        "gram, n = 131,072, d = 784": gram(2**17, 2 * 784, p, 2048),
        "infinite width, depth 30, n = 131,072, d = 784": gram(2**17, 2 * 784 + 30 * LAYER, p, 2048),
        "conjugate gradients, n = 2^20, d = 784, 10 outputs: an iteration": iteration(2**20, 784, 10, 6144, p, 2048),
        "its preconditioner, rank 6 √n": preconditioner(2**20, 784, 6144, p),
        "empirical NTK, structured, n = 16,384, 10 outputs, 3 layers of 1,024": kernel._replace(
            flops=kernel.flops + derivatives
        ),
        "a product with its operator": operator(2**14, 784 * 1024 + 2 * 1024**2 + 10240, p),
        "a step of 2^24 particles, d = 100, n = 1,000": flow_step(2**24, 1000, 100, 1, p),
        "sweep of 4,096 points of 1 TFLOP, or as many networks": points(4096, 1e12, 1e10, p),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in Rates()._asdict().items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"of `Rates`; {value} by default")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8, 64, 512], help="numbers of devices")
    given = vars(parser.parse_args())
    counts, rates = given.pop("devices"), Rates(**given)
    print("Projected seconds (share of communication), not measured:\n")
    print("| method | " + " | ".join(f"p = {p}" for p in counts) + " |\n| --- |" + " --- |" * len(counts))
    for name in examples(1):
        spent = [seconds(examples(p)[name], p, rates) for p in counts]
        print(f"| {name} | " + " | ".join(f"{sum(s):.2g} ({s[1] / sum(s):.0%})" for s in spent) + " |")


if __name__ == "__main__":
    main()
