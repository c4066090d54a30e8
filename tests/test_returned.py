"""What functions of the user's return: refused by name and with an action, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtheory import (
    data,
    double_descent,
    empirical,
    feature_learning,
    generalization,
    kernels,
    losses,
    meanfield,
    networks,
    optimization,
    transport,
)  # fmt: skip
from jaxtheory.checks import Checked, returned
from jaxtheory.optimization import edge_of_stability, implicit_bias, teacher_student

KEY = jax.random.key(0)
X, Y = jnp.linspace(0.0, 1.0, 6).reshape(3, 2), jnp.array([1.0, -1.0, 0.5])
GRAM, W = jnp.eye(3) + 0.1, jnp.array([0.1, 0.2])
CLOUD = jnp.array([[0.0, 1.0], [2.0, 1.0]])
DESCENT = {"learning_rate": 0.1, "steps": 2}
FEATURE_LEARNING = {"depth": 1, "richness": 0.5, "step_size": 0.1, "steps": 2}


def run(flow, **options):
    return meanfield.simulate(flow, CLOUD, steps=1, key=KEY, **options)


def langevin(functional, temperature=0.1, step_size=0.1, **options):
    return run(meanfield.langevin(functional, temperature, step_size), **options)


def net(w, x):
    return x @ w


def wrong(w, x, y):
    return jnp.mean((x @ w > 0) != (y > 0))


def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)


# the name in the error, a good function, and the call of it
NUMBERS = {
    "kernels.gradient_flow": ("loss", lambda f: kernels.gradient_flow(GRAM, Y, learning_rate=0.1, times=1.0, loss=f)),
    "kernels.gradient_descent": ("loss", lambda f: kernels.gradient_descent(GRAM, Y, loss=f, **DESCENT)),
    "losses.values": ("loss", lambda f: losses.values(f, Y, Y)),
    "losses.curvatures": ("loss", lambda f: losses.curvatures(f, Y, Y)),
    "empirical.ggn_operator": ("loss", lambda f: empirical.ggn_operator(net, W, X, Y, loss=f)(W)),
    "empirical.influence": ("loss", lambda f: empirical.influence(net, W, X, Y, X, Y, damping=0.1, loss=f)),
    "feature_learning.solve": (
        "loss", lambda f: feature_learning.solve(X, Y, loss=f, samples=32, groups=2, key=KEY, **FEATURE_LEARNING)
    ),
    "feature_learning.networks": (
        "loss", lambda f: feature_learning.networks(X, Y, width=4, loss=f, key=KEY, **FEATURE_LEARNING)
    ),
    "meanfield.risk": ("loss", lambda f: meanfield.risk(lambda x, theta: x @ theta, f, X, Y)(CLOUD)),
    "meanfield.potential": ("energy", lambda f: langevin(meanfield.potential(f))),
    "meanfield.many_body": ("energy", lambda f: meanfield.many_body(f, 2)(CLOUD)),
    "meanfield.stein_discrepancy": ("energy", lambda f: meanfield.stein_discrepancy(f, kernels.gaussian())(CLOUD)),
    "meanfield.consensus": (
        "objective",
        lambda f: run(meanfield.consensus(f, drift=1.0, noise=0.1, sharpness=1.0, step_size=0.1)),
    ),
    "meanfield.langevin": ("step_size", lambda f: langevin(meanfield.quadratic(1.0), 0.1, f)),
    "meanfield.simulate": ("stop", lambda f: langevin(meanfield.quadratic(1.0), stop=f)),
    "transport.entropic": ("cost", lambda f: transport.entropic(X, X, epsilon=0.5, cost=f)),
    "double_descent.optimal_ridge": ("risk", double_descent.optimal_ridge),
    "optimization.eyring_kramers": ("potential", lambda f: optimization.eyring_kramers(f, W, W, temperature=0.1)),
    "edge_of_stability.sharpness": ("loss", lambda f: edge_of_stability.sharpness(f, W, KEY)),
    "edge_of_stability.central_flow": ("loss", lambda f: edge_of_stability.central_flow(f, W, step_size=0.1, steps=2)),
    "teacher_student.isotropic_leap": ("function", lambda f: teacher_student.isotropic_leap(f, 2)),
    "generalization.random_direction": ("loss", lambda f: generalization.random_direction(f, W, 0.1, KEY, draws=4)),
    "generalization.worst_direction": ("loss", lambda f: generalization.worst_direction(f, W, 0.1)),
    "generalization.relative_flatness": ("loss", lambda f: generalization.relative_flatness(f, X)),
    "generalization.gradient_signal": ("loss", lambda f: generalization.gradient_signal(f, W, X, Y)),
    "generalization.gaussian_posterior": (
        "loss", lambda f: generalization.gaussian_posterior(f, wrong, W, W, X, Y, key=KEY, steps=2, draws=4)
    ),
    "networks.train": ("loss", lambda f: networks.train(f, W, optimizer=optax.sgd(0.1), steps=2)),
}  # fmt: skip
ARRAYS = {
    "kernels.gram": ("kernel", lambda f: kernels.gram(f, X, block=2)),
    "kernels.gram at once": ("kernel", lambda f: kernels.gram(f, X)),
    "kernels.matvec": ("kernel", lambda f: kernels.matvec(f, X, Y)),
    "kernels.diagonal": ("kernel", lambda f: kernels.diagonal(f, X)),
    "kernels.fit": ("kernel", lambda f: kernels.fit(f, X, Y, 0.1)),
    "kernels.fit of integers": ("kernel", lambda f: kernels.fit(f, jnp.arange(3), Y, 0.1)),
    "kernels.posterior": ("kernel", lambda f: kernels.posterior(f, X, Y, 0.1, X)),
    "kernels.nystrom": ("kernel", lambda f: kernels.nystrom(f, X, 2, KEY)),
    "kernels.lanczos_density": ("kernel", lambda f: kernels.lanczos_density(f, X, KEY, order=2, probes=2)),
    "kernels.random_features": ("activation", lambda f: kernels.random_features(X, 4, KEY, activation=f)),
    "data.random_teacher": ("activation", lambda f: data.random_teacher(X, 4, KEY, activation=f)),
    "networks.multilayer": (
        "activation",
        lambda f: (built := networks.multilayer(2, 4, 1, activation=f)).apply(built.init(KEY), X),
    ),
    "feature_learning.activation": (
        "activation", lambda f: feature_learning.solve(X, Y, activation=f, samples=96, key=KEY, **FEATURE_LEARNING)
    ),
    "meanfield.neuron": ("activation", lambda f: meanfield.predict(meanfield.neuron(f), CLOUD, X)),
    "meanfield.interaction": ("kernel", lambda f: meanfield.interaction(f)(CLOUD)),
    "meanfield.stein": ("kernel", lambda f: run(meanfield.stein(meanfield.quadratic(1.0), f, 0.1, 0.1))),
    "implicit_bias.mirror_descent": (
        "inverse", lambda f: implicit_bias.mirror_descent(X, Y, f, step_size=0.1, steps=2)
    ),
}  # fmt: skip
TREES = {
    "meanfield.mean": ("feature", lambda f: meanfield.mean(CLOUD, f)),
    "meanfield.predict": ("unit", lambda f: meanfield.predict(f, CLOUD, X)),
    "meanfield.simulate": ("observe", lambda f: langevin(meanfield.quadratic(1.0), observe=f)),
    "networks.train": (
        "record", lambda f: networks.train(jnp.sum, W, optimizer=optax.sgd(0.1), steps=2, record=f)
    ),
    "empirical.taylor": ("f", lambda f: empirical.taylor(f, W, 1)(W, X)),
    "generalization.learned_prior": ("learn", lambda f: generalization.learned_prior(loss, wrong, f, X, Y, KEY)),
}  # fmt: skip


def answers(value):
    """A function of anything that returns a value."""
    return lambda *args: value


@pytest.mark.parametrize("case", NUMBERS)
def test_what_is_no_real_number_is_refused(case):
    name, call = NUMBERS[case]
    for bad in (None, "a", (1.0, 2.0), jnp.ones(2, complex), jnp.ones(5)):
        with pytest.raises(ValueError, match=rf"{name} must return one real number, got {name}=.*; \w+"):
            call(answers(bad))


@pytest.mark.parametrize("case", ARRAYS)
def test_what_is_no_array_of_the_known_shape_is_refused(case):
    name, call = ARRAYS[case]
    for bad in (None, "a", [1.0], jnp.ones(2, complex), jnp.ones(5)):
        with pytest.raises(ValueError, match=rf"{name} must return (one real number|real numbers .*), got"):
            call(answers(bad))


@pytest.mark.parametrize("case", TREES)
def test_what_holds_no_arrays_is_refused(case):
    name, call = TREES[case]
    for bad in (None, "a"):
        with pytest.raises(ValueError, match=rf"{name} must (return|be arrays)"):
            call(answers(bad))


def test_integers_and_booleans_are_numbers_where_no_derivative_is_taken():
    """Counts of common symbols are a kernel, and steps an activation."""
    symbols = jnp.array([[0, 1, 2], [0, 1, 1], [2, 2, 2]])
    common = lambda a, b: (a[:, None] == b[None]).sum(-1)  # noqa: E731
    counts = np.asarray((symbols[:, None] == symbols[None]).sum(-1))
    assert (np.asarray(kernels.gram(common, symbols)) == counts).all()
    fitted = kernels.fit(common, symbols, Y, 1.0)
    np.testing.assert_allclose(fitted.alpha, np.linalg.solve(counts + np.eye(3), np.asarray(Y)), atol=1e-6)
    assert kernels.gram(lambda a, b: a @ b.T, jnp.arange(3)).tolist() == np.outer(range(3), range(3)).tolist()
    assert kernels.nystrom(common, symbols, 3, KEY).dtype == jnp.float32
    step = kernels.random_features(X, 4, KEY, activation=lambda x: x > 0)
    assert (step == kernels.random_features(X, 4, KEY, activation="step")).all()
    assert float(meanfield.potential(lambda theta: 1)(CLOUD)) == 1.0


def test_a_step_has_no_slope_to_follow():
    with pytest.raises(ValueError, match=r"loss must return one real number, got loss=int32; make it floating"):
        losses.slopes(lambda f, y: jnp.int32(f > y), Y, Y)


def test_steps_keep_nan():
    """x > 0 is False at NaN, which is no feature of it."""
    bad = jax.jit(lambda x: kernels.random_features(x, 4, KEY, activation="step"))(X.at[1, 0].set(jnp.nan))
    assert np.isnan(bad[1]).all()
    assert np.isfinite(bad[0]).all()
    density = kernels.SpectralDensity(jnp.array([[jnp.nan, 1.0], [1.0, 3.0]]), jnp.ones((2, 2)))
    assert np.isnan(kernels.spectral_sum(density, lambda v: v > 2).value)


def test_the_same_function_is_the_same_program():
    """Equal where the functions are: nothing is compiled again."""
    assert Checked("loss", jnp.sum) == losses.resolve(jnp.sum)
    assert hash(Checked("loss", jnp.sum)) == hash(losses.resolve(jnp.sum))
    assert losses.resolve(losses.hinge) is losses.hinge


def test_further_axes_are_named():
    assert returned("kernel", jnp.ones((2, 3, 4)), (2, 3, ...)).shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"shape \[2 2 \.\.\.\], got kernel=shape \[2, 3\]"):
        returned("kernel", jnp.ones((2, 3)), (2, 2, ...))
