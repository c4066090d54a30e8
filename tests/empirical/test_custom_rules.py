"""Functions whose derivative rules are their own: kernels, operators and polynomials, against Jacobians."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import empirical


@jax.custom_vjp
def repeated(w, x):
    """Three steps by a while loop, which has no reverse mode; the rule states the derivative."""
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ w)), (0, x))[1]


def unrolled(w, x):
    for _ in range(3):
        x = jnp.tanh(x @ w)
    return x


repeated.defvjp(lambda w, x: (repeated(w, x), (w, x)), lambda saved, g: jax.vjp(unrolled, *saved)[1](g))


def net(params, x):
    return repeated(params["w"], x) @ params["v"]


def plain(params, x):
    return unrolled(params["w"], x) @ params["v"]


def problem():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape))  # noqa: E731
    return {"w": draw(3, 3), "v": draw(3, 2)}, draw(4, 3), draw(4, 2)


def jacobian(f, params, x):
    """[n o, P]"""
    leaves = jax.tree.leaves(jax.jacrev(f)(params, x))
    return np.concatenate([np.asarray(leaf).reshape(leaf.shape[0] * leaf.shape[1], -1) for leaf in leaves], axis=1)


@pytest.mark.parametrize(
    "method",
    ["auto", "jacobian", *(pytest.param(m, marks=pytest.mark.slow) for m in ("structured", "directions", "products"))],
)
def test_a_loop_inside_a_custom_rule_is_kept_closed(method, float64):
    params, x, _ = problem()
    j = jacobian(plain, params, x)
    theta = empirical.ntk(net, params, x, method=method).transpose(0, 2, 1, 3).reshape(8, 8)
    np.testing.assert_allclose(theta, j @ j.T, rtol=0, atol=1e-12 * abs(j @ j.T).max())
    assert [row.name for row in empirical.explain(net, params, x).fallbacks] == ["['w']"]


def test_forward_mode_is_the_transposed_pullback(float64):
    """The operator, its gradient, the linearization and the second-order polynomial, where JAX has no forward mode."""
    params, x, v = problem()
    j = jacobian(plain, params, x)
    product = jax.jit(lambda p, v: empirical.ntk_operator(net, p, x)(v))(params, v)
    np.testing.assert_allclose(product.ravel(), j @ (j.T @ v.ravel()), rtol=1e-12)
    moved = jax.tree.map(lambda p: p + 0.1, params)
    for degree in (1, 2):
        expected = empirical.taylor(plain, params, degree)(moved, x)
        np.testing.assert_allclose(empirical.taylor(net, params, degree)(moved, x), expected, rtol=1e-12)


def test_a_rule_that_is_not_linear_is_refused(unchecked):
    """A gradient clipped to unit length has no Jacobian to apply forward."""
    clipped = jax.custom_vjp(lambda w, x: x @ w)
    clipped.defvjp(lambda w, x: (x @ w, x), lambda x, g: (x.T @ (g / jnp.linalg.norm(g)), None))
    with pytest.raises(ValueError, match="linear in the cotangent"):
        empirical.ntk_operator(clipped, jnp.ones((3, 2)), jnp.ones((4, 3)))


@pytest.mark.slow
def test_a_differential_equation_by_diffrax(float64):
    """The default adjoint, whose steps are a while loop in a custom rule, against steps that JAX differentiates."""

    def solve(adjoint, params, x):
        def one(y):
            term = diffrax.ODETerm(lambda t, y, w: jnp.tanh(y @ w))
            steps = diffrax.ConstantStepSize()
            return diffrax.diffeqsolve(
                term, diffrax.Tsit5(), 0.0, 1.0, 0.25, y, args=params["w"], stepsize_controller=steps, adjoint=adjoint
            ).ys[0]

        return jax.vmap(one)(x) @ params["v"]

    params, x, _ = problem()
    j = jacobian(lambda p, x: solve(diffrax.DirectAdjoint(), p, x), params, x)
    default = lambda p, x: solve(diffrax.RecursiveCheckpointAdjoint(), p, x)  # noqa: E731
    for method in ("auto", "jacobian"):
        theta = empirical.ntk(default, params, x, method=method, batch="unchecked").transpose(0, 2, 1, 3).reshape(8, 8)
        np.testing.assert_allclose(theta, j @ j.T, rtol=0, atol=1e-10 * abs(j @ j.T).max())
    rows = empirical.explain(default, params, x, batch="unchecked").rows
    assert [row.rule for row in rows] == ["structured", "fallback"]
