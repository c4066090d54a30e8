"""Every way of computing the tangent kernel, against explicit Jacobians from jax.jacrev."""

import jax
import jax.numpy as jnp
import pytest
from empirical.architectures import NETWORKS, draw
from tolerances import assert_close

from jaxtheory.empirical import kernel, structured


def oracle(f, params, x1, x2):
    """J(x1) J(x2)ᵀ by jacrev, [n1, n2, *out, *out]."""
    first, second = (jax.tree.leaves(jax.jacrev(f)(params, x)) for x in (x1, x2))
    out = jax.eval_shape(f, params, x1).shape[1:]
    flat = lambda j, n: j.reshape(n, max(1, int(jnp.prod(jnp.array(out)))), -1)  # noqa: E731
    total = sum(
        jnp.einsum("ikp,jlp->ijkl", flat(a, len(x1)), flat(b, len(x2)), precision="highest")
        for a, b in zip(first, second, strict=True)
    )
    return total.reshape(len(x1), len(x2), *out, *out)


@pytest.mark.parametrize("name", NETWORKS)
def test_structured_is_the_contraction_of_jacobians(name, dtype, key):
    """Both strategies of every group: rows kept apart and rows summed."""
    network = NETWORKS[name]
    params, x = draw(network, key, 5, dtype)
    expected = oracle(network.f, params, x, x[:3])
    assert_close(kernel.ntk(network.f, params, x, x[:3], method="structured"), expected, condition=30)
    found = structured.structure(network.f, params, x)
    assert sum(leaf.rule == "fallback" for leaf in found.leaves) == network.fallbacks
