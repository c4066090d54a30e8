"""Complex outputs and parameters: Hermitian kernels against Jacobians of real and imaginary parts, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxtheory import empirical

RNG = np.random.default_rng(0)
X, X2 = RNG.normal(size=(3, 4)), RNG.normal(size=(2, 4))
W, U = RNG.normal(size=(2, 4, 2))
REAL = {"w": W, "u": U}
COMPLEX = {"w": W + 1j * U, "b": RNG.normal(size=2)}


def waves(p, x):
    """Complex amplitudes of real parameters, one of which makes phases."""
    phase, amplitude = x @ p["u"], jnp.tanh(x @ p["w"])
    return lax.complex(amplitude * jnp.cos(phase), amplitude * jnp.sin(phase))


def moduli(p, x):
    """Complex parameters with a real one, not holomorphic."""
    h = x.astype(complex) @ p["w"]
    return h * jnp.abs(h).astype(complex) + h.conj() * p["b"].astype(complex)[None]


def jacobian(f, params, x):
    """[n, o, P] by jacrev of the real and the imaginary part, in all real and imaginary parts of the parameters."""
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
    halves = [[leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf] for leaf in leaves]

    def outputs(halves):
        joined = [half[0] if len(half) == 1 else lax.complex(*half) for half in halves]
        out = f(jax.tree.unflatten(tree, joined), x)
        return out.real, out.imag

    real, imaginary = (
        np.concatenate([np.asarray(j).reshape(*j.shape[:2], -1) for j in jax.tree.leaves(part)], -1)
        for part in jax.jacrev(outputs)(halves)
    )
    return real + 1j * imaginary


def kept(theta, output):
    """What `output` keeps of a full kernel [n1, n2, o, o]."""
    return {
        "full": theta,
        "trace": np.einsum("ijkk->ij", theta) / theta.shape[-1],
        "diagonal": np.einsum("ijkk->ijk", theta),
        "sum-of-logits": theta.sum((2, 3)) / theta.shape[-1],
        (-1,): np.einsum("ijkk->ij", theta) / theta.shape[-1],
    }[output]


def check(f, params, output, x2, **options):
    """A kernel against J Jᴴ."""
    left, right = (jacobian(f, params, x) for x in (X, X if x2 is None else x2))
    expected = kept(np.einsum("ikp,jlp->ijkl", left, right.conj()), output)
    actual = empirical.ntk(f, params, jnp.asarray(X), x2, output=output, **options)
    assert actual.dtype == jnp.complex128
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * abs(expected).max())
    return actual


def hermitian(theta):
    """Equal to its conjugate transpose, to the bit."""
    np.testing.assert_array_equal(theta, theta.conj().transpose(1, 0, *range(2, theta.ndim)[::-1]))


def test_kernel_of_complex_outputs_is_hermitian(float64):
    assert abs(check(waves, REAL, "full", jnp.asarray(X2), method="structured").imag).max() > 0.1
    hermitian(check(waves, REAL, "full", None, method="jacobian"))


WAYS = [("structured", output) for output in ("full", "trace", "diagonal", "sum-of-logits", (-1,))]
WAYS += [("jacobian", "trace"), ("directions", "diagonal"), ("products", "full")]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "output"), WAYS)
def test_every_method_and_output(float64, method, output):
    for f, params in ((waves, REAL), (moduli, COMPLEX)):
        check(f, params, output, jnp.asarray(X2), method=method, block=(2, 1))
        found = check(f, params, output, None, method=method)
        if output != "diagonal":
            hermitian(found)


@pytest.mark.slow
def test_a_complex_parameter_counts_as_two_real_ones(float64):
    """Of a holomorphic function the kernel is twice that of its complex derivatives; of a real one it is real."""
    params = {"w": jnp.asarray(COMPLEX["w"])}
    f = lambda p, x: jnp.sin(x.astype(complex) @ p["w"])  # noqa: E731
    j = np.asarray(jax.jacrev(f, holomorphic=True)(params, jnp.asarray(X, complex))["w"]).reshape(3, 2, -1)
    actual = empirical.ntk(f, params, X)
    expected = 2 * np.einsum("ikp,jlp->ijkl", j, j.conj())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * abs(expected).max())
    power = lambda p, x: jnp.abs(moduli(p, x)) ** 2  # noqa: E731
    j = jacobian(power, COMPLEX, X).real
    actual = empirical.ntk(power, COMPLEX, X, output="trace", method="jacobian")
    assert actual.dtype == jnp.float64
    expected = np.einsum("ikp,jkp->ij", j, j) / 2
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * abs(expected).max())


def test_the_operator_is_linear_over_complex_vectors(float64):
    v = jnp.asarray(RNG.normal(size=(3, 2)) + 1j * RNG.normal(size=(3, 2)))
    for f, params in ((waves, REAL), (moduli, COMPLEX)):
        j = jacobian(f, params, X)
        expected = np.einsum("ikp,jlp,jl->ik", j, j.conj(), v)
        theta = empirical.ntk_operator(f, params, X)
        np.testing.assert_allclose(theta(v), expected, rtol=0, atol=1e-13 * abs(expected).max())
        np.testing.assert_allclose(theta(1j * v), 1j * expected, rtol=0, atol=1e-13 * abs(expected).max())


def test_linearization_in_complex_parameters(float64):
    moved = jax.tree.map(lambda leaf: leaf * (1 + 0.1j) if np.iscomplexobj(leaf) else leaf + 0.2, COMPLEX)
    steps = [moved["b"] - COMPLEX["b"], moved["w"] - COMPLEX["w"]]
    step = np.concatenate([steps[0], steps[1].real.ravel(), steps[1].imag.ravel()])
    expected = moduli(COMPLEX, X) + jacobian(moduli, COMPLEX, X) @ step
    np.testing.assert_allclose(empirical.linearize(moduli, COMPLEX)(moved, X), expected, rtol=1e-13)


@pytest.mark.slow
def test_features_of_complex_outputs_are_those_of_their_parts(float64, key):
    features = lambda f: empirical.projected_gradients(f, COMPLEX, X, size=5, key=key)  # noqa: E731
    real, imaginary = (features(lambda p, x, part=part: part(moduli(p, x))) for part in (jnp.real, jnp.imag))
    np.testing.assert_allclose(features(moduli), lax.complex(real, imaginary), rtol=1e-12)


@pytest.mark.slow
def test_a_whole_batch_groups_and_derivatives(float64):
    """Complex outputs less their mean over the batch; kernels of groups add up; a gradient through the kernel."""
    centered = lambda p, x: waves(p, x) - waves(p, x).mean(0, keepdims=True)  # noqa: E731
    for output in ("full", "trace", "diagonal"):
        check(centered, REAL, output, jnp.asarray(X2), batch="whole")
        check(centered, REAL, output, None, batch="whole")
    check(waves, REAL, "full", None, batch="unchecked")
    parts = empirical.ntk_by_group(moduli, COMPLEX, X, groups="leaf")
    assert list(parts) == ["['b']", "['w']"]
    np.testing.assert_allclose(sum(parts.values()), empirical.ntk(moduli, COMPLEX, X), rtol=1e-12)
    slope = lambda u: empirical.ntk(waves, {"w": jnp.asarray(W), "u": u}, X)[0, 1].real.sum()  # noqa: E731
    step = jnp.asarray(RNG.normal(size=(4, 2)))
    # a central difference is off by its third derivative times h²/6, and by ε/h
    expected = (slope(U + 1e-5 * step) - slope(U - 1e-5 * step)) / 2e-5
    np.testing.assert_allclose(jnp.vdot(jax.grad(slope)(jnp.asarray(U)), step), expected, rtol=1e-7)


@pytest.mark.slow
def test_averages_over_initializations(key):
    """f = (w + i u) x with u = 2 w: E f conj f' = 5 x x', of the kernel 5 x x' exactly."""
    f = lambda w, x: lax.complex(x @ w, 2 * (x @ w))  # noqa: E731
    x = jnp.asarray(X, jnp.float32)
    init = lambda key: jax.random.normal(key, (4, 1))  # noqa: E731
    found = empirical.nngp(init, f, x, None, key, 400)
    expected = 5 * np.asarray(x @ x.T)
    assert (abs(np.asarray(found.kernel) - expected) < 5 * np.asarray(found.standard_error)).all()
    exact = empirical.mean_ntk(init, f, x, None, key, 2)
    # products of four numbers of either part, in float32
    np.testing.assert_allclose(exact.kernel, expected, rtol=0, atol=1e-5)
    assert float(exact.standard_error.max()) < 1e-5


def test_explain_counts_real_and_imaginary_parts():
    table = empirical.explain(moduli, jax.tree.map(jnp.asarray, COMPLEX), X)
    assert [row.name for row in table.rows] == ["['b']", "['w'].real", "['w'].imag"]


OPERATORS = (empirical.ggn_operator, empirical.empirical_fisher_operator, empirical.weighted_ntk_operator)
REFUSED = {
    **{
        f"{operator.__name__} of complex {what}": (
            lambda operator=operator, f=f, params=params: operator(f, params, X, np.ones((3, 2)), loss="squared"),
            told,
        )
        for operator in OPERATORS
        for what, f, params, told in (
            ("outputs", waves, REAL, r"f must .*real.* y\.imag"),
            ("parameters", lambda p, x: jnp.abs(moduli(p, x)), COMPLEX, r"params\['w'\] must .*lax\.complex"),
        )
    },
    "eigenvalues of a Hermitian operator": (
        lambda: empirical.trace(empirical.ntk_operator(waves, REAL, X), (3, 2), jax.random.key(0)),
        r"operator must .*complex64; let it act on real and imaginary parts",
    ),
    "the drift of a complex kernel": (
        lambda: empirical.ntk_drift(waves, REAL, X, np.ones((3, 2))),
        r"f must .*y\.real",
    ),
    "a block of more examples than there are": (
        lambda: empirical.ntk(waves, REAL, X, block=4),
        r"block must lie within the 3 by 3 examples, got block=\(4, 4\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_complex_meaning_is_refused(name, unchecked):
    call, told = REFUSED[name]
    with pytest.raises(ValueError, match=told):
        call()
