"""Training of wide networks under any loss, with coupled outputs and from a state: against ODE solvers and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.results import Status

N, M, K = 4, 2, 2  # training points, test points, outputs
RNG = np.random.default_rng(5)
ROOT = RNG.normal(size=((N + M) * K, 5)) / 2  # of rank 5 < N K: Θ has null directions
THETA, CROSS = ROOT[: N * K] @ ROOT[: N * K].T, ROOT[N * K :] @ ROOT[: N * K].T
START, START_TEST = RNG.normal(size=(N, K)), RNG.normal(size=(M, K))
LABELS = np.eye(K)[[0, 1, 1, 0]]
SIGNS = 2 * LABELS - 1


def softmax_slope(f):
    return scipy.special.softmax(f, axis=-1) - LABELS


def logistic_slope(f):
    return -SIGNS * scipy.special.expit(-SIGNS * f)


def huber(f, y):
    """A user's own loss of one example, √(1 + |f − y|²) − 1."""
    return jnp.sqrt(1 + jnp.sum((f - y) ** 2)) - 1


def huber_slope(f):
    gap = f - LABELS
    return gap / np.sqrt(1 + np.sum(gap**2, axis=-1, keepdims=True))


CASES = {
    "cross_entropy": ("cross_entropy", LABELS, softmax_slope),
    "logistic": ("logistic", SIGNS, logistic_slope),
    "own": (huber, LABELS, huber_slope),
    "squared": ("squared", LABELS, lambda f: f - LABELS),
}


def tensors():
    """Θ and Θ* as [n m o o]."""
    return kernels.tensor_layout(jnp.asarray(THETA), K), kernels.tensor_layout(jnp.asarray(CROSS), K)


def ode(slope, rate, friction, times):
    """Outputs on training and test points by scipy, in the space of outputs and not of coefficients."""
    whole, size = np.concatenate([THETA, CROSS]), (N + M) * K

    def field(_, state):
        f = state[:size].reshape(N + M, K)
        force = -rate * whole @ slope(f[:N]).ravel()
        return force if friction is None else np.concatenate([state[size:], force - friction * state[size:]])

    start = np.concatenate([START, START_TEST]).ravel()
    start = start if friction is None else np.concatenate([start, 0 * start])
    found = scipy.integrate.solve_ivp(field, (0, times[-1]), start, "DOP853", times, rtol=1e-10, atol=1e-11)
    return found.y[:size].T.reshape(len(times), N + M, K)


SLOW = {"marks": pytest.mark.slow}  # as its neighbour, with another program


@pytest.mark.parametrize(
    ("name", "friction"),
    [
        ("cross_entropy", None),
        ("own", 0.7),
        *(pytest.param(*case, **SLOW) for case in (("cross_entropy", 0.7), ("own", None), ("logistic", None))),
    ],
)
def test_flow_of_any_loss_with_coupled_outputs_is_the_ode(name, friction, float64):
    loss, y, slope = CASES[name]
    theta, cross = tensors()
    times = np.array([0.0, 0.4, 3.0])
    path = kernels.gradient_flow(
        theta, y, learning_rate=0.8, times=times, friction=friction, initial=START, ntk_test=cross,
        initial_test=START_TEST, loss=loss, tolerance=1e-9, max_steps=500,
    )  # fmt: skip
    expected = ode(slope, 0.8, friction, times)
    assert int(path.status) == Status.OK
    assert np.abs(path.train - expected[:, :N]).max() < 1e-7
    assert np.abs(path.test - expected[:, N:]).max() < 1e-7


@pytest.mark.parametrize("name", ["cross_entropy", pytest.param("own", **SLOW), "squared"])
def test_descent_of_any_loss_is_a_loop(name, float64):
    """PyTorch's and optax's heavy ball, v ← μ v − η ∇, step by step in NumPy; the velocity is Θ v in outputs."""
    loss, y, slope = CASES[name]
    theta, cross = tensors()
    steps, rate, momentum = [7, 0, 1, 23], 0.3, 0.6
    path = kernels.gradient_descent(
        theta, y, learning_rate=rate, steps=jnp.array(steps), momentum=momentum, initial=START, ntk_test=cross,
        initial_test=START_TEST, loss=loss,
    )  # fmt: skip
    outputs, velocity, seen = np.concatenate([START, START_TEST]), np.zeros(N * K), {}
    for k in range(24):
        seen[k] = outputs
        velocity_before, velocity = velocity, momentum * velocity - rate * slope(outputs[:N]).ravel()
        outputs = outputs + (np.concatenate([THETA, CROSS]) @ velocity).reshape(N + M, K)
    assert int(path.status) == Status.OK
    for i, k in enumerate(steps):
        assert_close(path.train[i], seen[k][:N], condition=1e3)
        assert_close(path.test[i], seen[k][N:], condition=1e3)
    assert_close(path.state.train, seen[23][:N], condition=1e3)
    assert_close(path.state.velocity, velocity_before.reshape(N, K), condition=1e3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squared", "cross_entropy"])
@pytest.mark.parametrize("kind", ["flow", "heavy ball", "descent"])
def test_a_run_continues_from_its_state(kind, name, float64):
    """In two parts as in one, outputs and velocity; also from 0, and to infinite times where the loss has them."""
    loss, y, _ = CASES[name]
    theta, cross = tensors()
    options = {"ntk_test": cross, "loss": loss, "learning_rate": 0.3}
    start = {"initial": START, "initial_test": START_TEST}
    if kind == "descent":
        run, axis, parts, dtype = kernels.gradient_descent, "steps", (5, 8), int
        options["momentum"] = 0.6
    else:
        run, axis, parts, dtype = kernels.gradient_flow, "times", (0.75, 1.25), float
        options |= {"tolerance": 1e-10, "max_steps": 500}
        options |= {"friction": 0.7} if kind == "heavy ball" else {}
    first, then = (np.array([0, part], dtype) for part in parts)
    once = run(theta, y, **{axis: np.array([0, sum(parts)], dtype)}, **start, **options)
    half = run(theta, y, **{axis: first}, **start, **options)
    again = run(theta, y, **{axis: then}, state=half.state, **options)
    for found, expected in zip(jax.tree.leaves(again.state), jax.tree.leaves(once.state), strict=True):
        assert np.abs(np.asarray(found) - np.asarray(expected)).max() < 1e-8
    assert_close(again.train[0], half.train[1], condition=10)
    if kind != "descent" and name == "squared":
        forever = {"times": np.array([np.inf])} | options
        limits = [run(theta, y, **forever, **given) for given in (start, {"state": half.state})]
        assert_close(limits[1].train, limits[0].train, condition=1e3)
        assert_close(limits[1].test, limits[0].test, condition=1e3)


def shared_kernels(theta, cross):
    """Θ and Θ* that all outputs share, in the three layouts."""
    return {
        "shared": (theta, cross),
        "matrix": tuple(np.kron(each, np.eye(K)) for each in (theta, cross)),
        "tensor": tuple(each[:, :, None, None] * np.eye(K) for each in (theta, cross)),
    }


def test_layouts_are_inverses():
    kernel = np.float32(RNG.normal(size=(N, M, K, K)))
    matrix = np.asarray(kernels.matrix_layout(kernel))
    for i, j, a, b in np.ndindex(kernel.shape):
        assert matrix[i * K + a, j * K + b] == kernel[i, j, a, b]
    np.testing.assert_array_equal(kernels.tensor_layout(matrix, K), kernel)
    with pytest.raises(ValueError, match="outputs must divide both sizes"):
        kernels.tensor_layout(matrix, 3)
    with pytest.raises(ValueError, match="ntk_train must end in"):
        kernels.gradient_flow(np.ones((2, 2, 3, 3)), np.ones((2, 2)), learning_rate=1.0, times=1.0)


@pytest.mark.slow
def test_all_layouts_are_one_kernel(float64):
    """[n n] as [n o, n o] and as [n n o o], in every function of dynamics."""
    theta, cross, y = THETA[:N, :N], THETA[N : N + M, :N], LABELS
    both = shared_kernels(theta, cross)
    found = {}
    for name, (train, test) in both.items():
        options = {"ntk_test": test, "learning_rate": 0.5}
        paths = [
            kernels.gradient_flow(train, y, times=1.0, **options),
            kernels.gradient_flow(train, y, times=1.0, friction=1.0, **options),
            kernels.gradient_descent(train, y, steps=3, momentum=0.5, **options),
            kernels.gradient_descent(train, y, steps=3, loss="cross_entropy", **options),
            kernels.cross_entropy_flow(train, y, times=1.0, max_steps=500, **options),
        ]
        corner = {"shared": theta[:M, :M], "matrix": both["matrix"][0][: M * K, : M * K], "tensor": train[:M, :M]}
        ensemble = kernels.ensemble_flow(
            train, test, train / 2, test / 2, corner[name], y, learning_rate=0.5, times=1.0
        )
        covariance = ensemble.covariance if name != "shared" else np.kron(ensemble.covariance[0], np.eye(K))[None]
        found[name] = [(path.train, path.test) for path in paths] + [(ensemble.mean, covariance)]
    for name in ("matrix", "tensor"):
        jax.tree.map(lambda one, other: assert_close(one, other, condition=1e3), found[name], found["shared"])


@pytest.mark.slow
def test_cross_entropy_flow_has_reverse_mode(float64):
    """The gradient in every argument against differences of scipy's solution; forward mode agrees."""
    slope, times = softmax_slope, np.array([0.5, 1.5])
    weights = RNG.normal(size=(2, N + M, K))

    def loss(rate, start, at):
        path = kernels.cross_entropy_flow(
            jnp.asarray(THETA), LABELS, learning_rate=rate, times=at, initial=START + start * LABELS,
            ntk_test=CROSS, initial_test=START_TEST, tolerance=1e-9, max_steps=300,
        )  # fmt: skip
        return jnp.sum(weights * jnp.concatenate([path.train, path.test], axis=1))

    point = (jnp.float64(0.8), jnp.float64(0.0), jnp.asarray(times))
    gradient = jax.jit(jax.grad(loss, (0, 1, 2)))
    found, h = gradient(*point), 1e-4

    def oracle(rate=0.8, at=times):
        return np.sum(weights * ode(slope, rate, None, at))

    assert abs(found[0] - (oracle(0.8 + h) - oracle(0.8 - h)) / (2 * h)) < 1e-5
    for i in range(2):
        moved = [times + sign * h * np.eye(2)[i] for sign in (1, -1)]
        assert abs(found[2][i] - (oracle(at=moved[0]) - oracle(at=moved[1])) / (2 * h)) < 1e-5
    tangent = (jnp.float64(0.3), jnp.float64(-1.0), jnp.array([0.2, 0.5]))
    forward = jax.jit(lambda *p: jax.jvp(loss, p, tangent)[1])
    assert_close(forward(*point), sum(jnp.sum(a * b) for a, b in zip(found, tangent, strict=True)), condition=1e3)


@pytest.mark.parametrize("friction", [None, 1.0])
def test_units_of_the_kernel_do_not_matter(friction):
    """2^20 Θ at the rate 2^-20 η is the same flow, to the bit: an error of a is an error of Θ a of the outputs."""
    theta, y, times = jnp.array([[1.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -1.0]), jnp.array([1.0, 20.0])

    def run(unit):
        how = {"learning_rate": 1 / unit, "times": times, "friction": friction, "loss": "logistic"}
        found = kernels.gradient_flow(unit * theta, y, **how)
        return found._replace(state=None), None if friction is None else unit * found.state.velocity

    jax.tree.map(np.testing.assert_array_equal, run(2.0**20), run(1.0))
    if friction is None:
        # f = (g, -g) with g' = σ(-g)/2, so g + e^g = 1 + t/2; some ten steps of local error 1e-5
        g = run(2.0**20)[0].train[:, 0]
        np.testing.assert_allclose(g + jnp.exp(g), 1 + times / 2, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [2.0**-83, 2.0**83])
def test_units_of_the_kernel_do_not_matter_to_the_squared_loss(unit):
    """To the bit: outputs, statuses (rounding decides what a small eigenvalue has learned) and derivatives in Θ."""
    theta, y, cross = jnp.array([[1.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -1.0]), jnp.array([[0.3, 0.2]])
    singular = jnp.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-22]])

    def run(gram, unit, count):
        rate = 0.25 / unit
        step = kernels.gradient_descent(
            unit * gram, y, learning_rate=rate, steps=[3, count], momentum=0.5, ntk_test=unit * cross
        )
        flow = kernels.gradient_flow(
            unit * gram, y, learning_rate=rate, times=[1.0, float(count)], ntk_test=unit * cross
        )
        return [(found.train, found.test, found.status) for found in (step, flow)]

    for gram, count, status in ((theta, 40, Status.OK), (singular, 10**6, Status.ILL_CONDITIONED)):
        jax.tree.map(np.testing.assert_array_equal, run(gram, unit, count), run(gram, 1.0, count))
        assert [int(found[2]) for found in run(gram, 1.0, count)] == [status] * 2
    slope = jax.grad(lambda gram, unit: sum(jnp.sum(found[1]) for found in run(gram, unit, 40)))
    np.testing.assert_array_equal(slope(theta, unit), slope(theta, 1.0))


def test_labels_of_the_logistic_loss_are_signs():
    """0 and 1 would train nothing at 0: refused, by both functions."""
    labels = jnp.array([0.0, 1.0])
    flow = kernels.gradient_flow(jnp.eye(2), labels, learning_rate=1.0, times=1.0, loss="logistic", max_steps=100)
    steps = kernels.gradient_descent(jnp.eye(2), labels, learning_rate=1.0, steps=2, loss="logistic")
    assert flow.status == steps.status == Status.INVALID_INPUT


def test_stopped_integration_says_so(float64):
    path = kernels.gradient_flow(THETA, LABELS, learning_rate=1e6, times=[1.0], loss=huber, max_steps=3)
    assert int(path.status) == Status.NOT_CONVERGED
    assert jnp.isnan(path.train).all()
    bad = kernels.gradient_descent(THETA, SIGNS, learning_rate=0.1, steps=1, loss="cross_entropy")
    assert int(bad.status) == Status.INVALID_INPUT  # signs are no probabilities
    run = jax.jit(lambda k: kernels.gradient_descent(THETA, SIGNS, learning_rate=0.1, steps=k, loss="logistic",
                                                     max_steps=4))  # fmt: skip
    known = kernels.gradient_descent(THETA, SIGNS, learning_rate=0.1, steps=4, loss="logistic")
    assert int(run(4).status) == Status.OK
    assert_close(run(4).train, known.train)
    assert int(run(5).status) == Status.NOT_CONVERGED


STABLE = {
    "of low rank": THETA,
    "of units 1e-6": 1e-6 * THETA,
    "of arc-cosines": np.kron(kernels.arc_cosine(1)(ROOT[:N], ROOT[:N]), np.eye(K)),
}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_smaller_step_converges_and_a_larger_one_does_not(momentum, float64):
    """On three kernels: residuals along the first eigenvector shrink or grow by 0.9^k or 1.1^k without momentum."""
    for kernel in STABLE.values():
        theta = jnp.asarray(kernel)
        edge = kernels.max_learning_rate(theta, momentum=momentum)
        top = np.linalg.eigh(kernel)[1][:, -1]
        for factor in (0.95, 1.05):
            path = kernels.gradient_descent(
                theta, jnp.asarray(LABELS), learning_rate=factor * edge, steps=[0, 500], momentum=momentum
            )
            left = np.abs(top @ (np.asarray(path.train[1]) - LABELS).ravel())
            assert (left > 1e6) if factor > 1 else (left < 1e-6)


@pytest.mark.slow
def test_the_edge_of_cross_entropy_near_its_minimum(float64):
    """Soft labels, whose minimum is finite: with the curvature there, 0.95 of the step returns to it, 1.05 leaves."""
    y, theta = jnp.asarray(0.6 * LABELS + 0.2), jnp.asarray(np.eye(N * K) + THETA)
    minimum = jnp.log(y)
    for momentum in (0.0, 0.5):
        edge = kernels.max_learning_rate(theta, loss="cross_entropy", momentum=momentum, outputs=minimum, targets=y)
        options = {"loss": "cross_entropy", "momentum": momentum, "initial": minimum + 0.01 * jnp.asarray(START)}
        gaps = []
        for factor in (0.95, 1.05):
            path = kernels.gradient_descent(theta, y, learning_rate=factor * edge, steps=[0, 1000], **options)
            gaps.append(np.abs(jax.nn.softmax(path.train[1]) - y).max())
        assert gaps[0] < 1e-6
        assert gaps[1] > 1e-3


@pytest.mark.slow
def test_local_curvature_is_that_of_the_hessian(float64):
    """λ_max(Θ H) of the softmax by NumPy's eigenvalues; never larger than the bound of 1/2."""
    p = scipy.special.softmax(START, axis=1)
    hessian = np.zeros((N * K, N * K))
    for i in range(N):
        hessian[i * K : (i + 1) * K, i * K : (i + 1) * K] = np.diag(p[i]) - np.outer(p[i], p[i])
    expected = 2 * 1.9 / np.linalg.eigvals(THETA @ hessian).real.max()
    options = {"loss": "cross_entropy", "momentum": 0.9}
    found = kernels.max_learning_rate(THETA, outputs=START, targets=LABELS, **options)
    assert_close(found, expected, condition=100)
    assert found > kernels.max_learning_rate(THETA, **options)
    assert_close(kernels.max_learning_rate(THETA, **options), 2 * 1.9 * 2 / np.linalg.eigvalsh(THETA)[-1], condition=10)
    assert jnp.isinf(kernels.max_learning_rate(jnp.zeros((2, 2))))
    assert jnp.isnan(kernels.max_learning_rate(-jnp.eye(2)))
    with pytest.raises(ValueError, match="outputs must be given for a loss of unknown curvature"):
        kernels.max_learning_rate(THETA, loss=huber)
