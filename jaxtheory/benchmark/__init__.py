"""How fast this device is, and how much of that the main computations reach: the command `jaxtheory benchmark`.

First the device's ceilings, as measured: products of square matrices and the bytes a second of x + y. Then, for each
computation, the flops of its algorithm's products and the bytes of its arguments and results, both from the sizes, and
the time that these would take at the ceilings, the larger of the two, over the time it took. What keeps that share
from 100 % is work that is neither: exponentials and angles, factorizations, small products, arrays read twice. Where a
peer is installed, it runs in turns with ours in the same process.
"""

from jaxtheory.benchmark.record import Record, table
from jaxtheory.benchmark.rows import ROWS, SIZES, Sizes

__all__ = ["ROWS", "SIZES", "Record", "Sizes", "table"]
