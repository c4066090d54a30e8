"""Arrays on meshes with Explicit axes: the kernel of one device, results on the same mesh, and named refusals."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtheory import empirical

RNG = np.random.default_rng(0)
W, V, X = (RNG.standard_normal(shape) for shape in ((4, 8), (8, 2), (8, 4)))
# what is split over which axis: examples, hidden units, or both
SPLITS = {"examples": ("a", None), "units": (None, "b"), "both": ("a", "b")}


def net(p, x):
    return jnp.tanh(x @ p["w"]) @ p["v"]


def jacobian():
    """[n, o, P], by hand: hidden units h, slopes 1 − h²."""
    h = np.tanh(X @ W)
    first = np.einsum("ni,nj,jo->noij", X, 1 - h**2, V).reshape(8, 2, -1)
    second = np.einsum("nj,ok->nojk", h, np.eye(2)).reshape(8, 2, -1)
    return np.concatenate([first, second], axis=-1)


@pytest.fixture
def mesh():
    return jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)


def placed(mesh, split):
    """Parameters and examples on the mesh."""
    rows, units = SPLITS[split]
    put = lambda value, *spec: jax.device_put(jnp.asarray(value), NamedSharding(mesh, PartitionSpec(*spec)))  # noqa: E731
    return {"w": put(W, None, units), "v": put(V, units, None)}, put(X, rows)


@pytest.mark.parametrize("in_use", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("split", [*(pytest.param(s, marks=pytest.mark.slow) for s in ("examples", "units")), "both"])
def test_arrays_on_an_explicit_mesh(split, in_use, mesh, float64):
    j = jacobian()
    expected = np.einsum("ikp,jkp->ij", j, j) / 2
    with jax.set_mesh(mesh) if in_use else contextlib.nullcontext():
        params, x = placed(mesh, split)
        theta = empirical.ntk(net, params, x, output="trace")
        np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-12)
        assert theta.sharding.mesh == mesh
        assert not empirical.explain(net, params, x).fallbacks
        np.testing.assert_allclose(theta + theta, 2 * expected, rtol=0, atol=1e-12)  # as any array of the mesh
        product = empirical.ntk_operator(net, params, x)
        v = jax.device_put(jnp.asarray(X[:, :2]), x.sharding)
        np.testing.assert_allclose(product(v), np.einsum("ikp,jlp,jl->ik", j, j, X[:, :2]), rtol=0, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["structured", "jacobian", "directions", "products"])
def test_methods_and_groups_on_an_explicit_mesh(method, mesh, float64):
    j = jacobian()
    with jax.set_mesh(mesh):
        params, x = placed(mesh, "both")
        theta = empirical.ntk(net, params, x, jnp.asarray(X[:4]), method=method)
        np.testing.assert_allclose(theta, np.einsum("ikp,jlp->ijkl", j, j[:4]), rtol=0, atol=1e-12)
        parts = empirical.ntk_by_group(net, params, x, groups="leaf", output="trace", method=method)
        np.testing.assert_allclose(sum(parts.values()), np.einsum("ikp,jkp->ij", j, j) / 2, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_rows_over_another_mesh_and_weighted_operators(mesh, float64):
    """A kernel whose rows lie on all devices in a line, and Gauss-Newton of the squared loss, JᵀJ / n."""
    j = jacobian()
    flat = j.reshape(16, -1)
    with jax.set_mesh(mesh):
        params, x = placed(mesh, "both")
        theta = empirical.ntk(net, params, x, output="trace", mesh=mesh)
        np.testing.assert_allclose(theta, np.einsum("ikp,jkp->ij", j, j) / 2, rtol=0, atol=1e-12)
        y = jax.device_put(jnp.zeros((8, 2)), NamedSharding(mesh, PartitionSpec("a")))
        order = np.r_[32:48, :32]  # leaves by name
        moved = empirical.ggn_operator(net, params, x, y)(jnp.asarray(flat[0, order]))
        np.testing.assert_allclose(moved, (flat.T @ (flat @ flat[0]) / 8)[order], rtol=0, atol=1e-11)


def test_split_arrays_inside_jit_are_refused(mesh):
    with jax.set_mesh(mesh):
        params, x = placed(mesh, "examples")
        with pytest.raises(ValueError, match=r"must be split over Auto axes alone, got .*8@a.*; call it outside jit"):
            jax.jit(lambda p, x: empirical.ntk(net, p, x))(params, x)
