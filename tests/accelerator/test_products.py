"""Every float32 product that decides an answer asks for all its bits; an accelerator's default keeps 10 or fewer of 23.

Read from traced programs, so that a CPU, where the default is exact, can say so; and these programs are lowered for
GPUs and TPUs, so that it can say that, too.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerator.cases import CASES, IMAGES, NET, X_NEW, X, Y, relu_net
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxtheory import empirical, infinite, kernels, meanfield
from jaxtheory.expressivity import two_layers
from jaxtheory.optimization import implicit_bias, landscapes

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
# A sweep compiles programs of its points, which keep whatever they ask for.
PROGRAMS = {name: (case.function, case.arguments) for name, case in CASES.items() if name != "sweeps: run"}
# Filters are slices and sums, a transform has no product.
WITHOUT_PRODUCTS = {"data: standardize", "smoothness: wavelets"}
KEY = jax.random.key(0)
SIGNS = np.sign(Y[:, 0])


def eigenpro(x: Any, y: Any) -> Any:
    return kernels.fit(kernels.gaussian(3.0), x, y, 0.1, solver="eigenpro", key=KEY).alpha


def density(x: Any) -> Any:
    return kernels.lanczos_density(kernels.gaussian(3.0), x, KEY, order=8, probes=2)


def eigenpairs(params: Any, x: Any) -> Any:
    operator = empirical.ntk_operator(relu_net, params, x)
    return empirical.top_eigenpairs(operator, (len(x), 32), 2, KEY), empirical.trace(operator, (len(x), 32), KEY)


def adversary(x: Any, y: Any) -> Any:
    return two_layers.adversary(KEY, (x, y), (x, y), 4, starts=1, steps=2)


def finite(network: Any) -> Any:
    """A network whose limit is known, at a width."""
    return lambda x: network.apply(network.init(KEY, x.shape[1:], 8), x)


def summed_first(params: Any, x: Any) -> Any:
    """A network whose inputs go through a matrix that is no parameter."""
    return jax.nn.relu((x @ jnp.ones((x.shape[1], 7), x.dtype)) @ params["in"]) @ params["out"]


def known_product(x: Any) -> Any:
    shapes = {"in": jax.ShapeDtypeStruct((7, 64), x.dtype), "out": jax.ShapeDtypeStruct((64, 1), x.dtype)}
    return infinite.limit(summed_first, shapes, jax.ShapeDtypeStruct((1, 20), x.dtype), prior=infinite.prior.ntk()).ntk(
        x
    )


# Their draws differ between dtypes, so that only the programs can be compared.
DRAWING = {
    "kernels: eigenpro": (eigenpro, (X, Y)),
    "kernels: lanczos_density": (density, (X,)),
    "empirical: eigenpairs": (eigenpairs, (NET, X)),
    "expressivity: adversary": (adversary, (X, Y[:, 0])),
    "infinite: a known product": (known_product, (X,)),
    "infinite: a mlp": (finite(infinite.mlp()), (X,)),
    "infinite: a cnn": (finite(infinite.cnn()), (IMAGES,)),
    "infinite: an attention": (finite(infinite.attention()), (X[None],)),
    "meanfield: sinkhorn": (partial(meanfield.wasserstein.sinkhorn, epsilon=1.0), (X, X_NEW)),
    "optimization: relu_student": (landscapes.relu_student, (X[:6], X[6:10])),
    "optimization: max_margin": (implicit_bias.max_margin, (X, SIGNS)),
    "optimization: hyperbolic_interpolant": (
        partial(implicit_bias.hyperbolic_interpolant, scale=0.5),
        (X[:8], SIGNS[:8]),
    ),
}


def equations(value: Any) -> Iterator[Any]:
    """Those of a program and of the programs inside."""
    if isinstance(value, ClosedJaxpr | Jaxpr):
        for equation in value.eqns:
            yield equation
            for inner in equation.params.values():
                yield from equations(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from equations(inner)


def traced(function: Any, arguments: tuple[Any, ...]) -> Any:
    """The program of a function of float32 arrays, not compiled."""
    arrays = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), arguments)
    return jax.jit(lambda *arrays: function(*arrays)).trace(*arrays)


def precisions(program: Any) -> list[Any]:
    """What each float32 product asks for."""
    products = [e for e in equations(program) if e.primitive.name in ("dot_general", "conv_general_dilated")]
    return [e.params["precision"] for e in products if e.invars[0].aval.dtype == jnp.float32]


@pytest.mark.parametrize("name", [*PROGRAMS, *DRAWING])
def test_every_product_asks_for_the_highest_precision(name):
    """And the program is one for GPUs and TPUs too: nothing in it is known to CPUs alone."""
    program = traced(*(PROGRAMS | DRAWING)[name])
    asked = precisions(program.jaxpr)
    assert set(asked) <= {HIGHEST}
    assert bool(asked) == (name not in WITHOUT_PRODUCTS)
    for platform in ("cuda", "tpu"):
        assert "stablehlo" in program.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.smoke
def test_a_product_that_does_not_is_found_wherever_it_is():
    def program(matrices, x):
        looped = jax.lax.fori_loop(0, 2, lambda _, v: jax.jit(relu_net)(matrices, v)[:, :20], x)
        return jax.lax.cond(x[0, 0] > 0, lambda: looped, lambda: jnp.matmul(x, x.T, precision="highest") @ x)

    assert sorted(precisions(traced(program, (NET, X)).jaxpr), key=str) == [HIGHEST, *[None] * 4]
