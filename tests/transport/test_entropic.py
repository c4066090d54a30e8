"""Entropic transport against dual and primal programs of scipy, closed forms, and plans made from its potentials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from conftest import relaxed_promotion

from jaxtheory import transport
from jaxtheory.results import Status
from jaxtheory.transport import blocks

A = np.array([0.1, 0.3, 0.0, 0.25, 0.35])
B = np.array([0.4, 0.1, 0.5])
TIGHT = {"tolerance": 1e-12, "max_iterations": 20_000}


@pytest.fixture(scope="module")
def pair():
    """Five and three points of the plane, float64."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((5, 2)), rng.standard_normal((3, 2)) + 0.5


def distances(x, y, p):
    return np.linalg.norm(np.asarray(x)[:, None] - np.asarray(y)[None], axis=-1) ** p


def dual(cost, a, b, epsilon):
    """OT_ε by scipy's maximizer of the semi-dual, whose only unknown is g."""

    def negative(g):
        soft = -epsilon * scipy.special.logsumexp((g[None] - cost) / epsilon, b=b[None], axis=1)
        return -(a @ soft + b @ g)

    return -scipy.optimize.minimize(negative, np.zeros(len(b)), method="BFGS", options={"gtol": 1e-11}).fun


def manhattan(u, v):
    """Σ|u_k − v_k|."""
    return jnp.abs(u - v).sum()


@pytest.mark.parametrize("how", [{"p": 1.0}, {"cost": manhattan}, {"block": 4}], ids=["p=1", "cost", "blocks"])
def test_entropic_is_the_dual_program(pair, how, float64):
    """Any cost, a weight of 0, blocks of one row: the value, and the marginals of the plan made from the potentials."""
    x, y = pair
    costs = np.abs(x[:, None] - y[None]).sum(-1) if "cost" in how else distances(x, y, how.get("p", 2.0))
    found = transport.entropic(jnp.asarray(x), jnp.asarray(y), epsilon=0.4, x_weights=A, y_weights=B, **how, **TIGHT)
    np.testing.assert_allclose(found.cost, dual(costs, A, B, 0.4), rtol=1e-9)
    f, g = (np.asarray(potential) for potential in found.potentials)
    plan = A[:, None] * B[None] * np.exp((f[:, None] + g[None] - costs) / 0.4)
    np.testing.assert_allclose(plan.sum(1), A, atol=1e-11)
    np.testing.assert_allclose(plan.sum(0), B, atol=1e-11)
    np.testing.assert_allclose(A @ f, B @ g, atol=1e-12)
    assert int(found.status) == Status.OK


@pytest.mark.parametrize("solve", [transport.entropic, transport.sinkhorn])
def test_costs_that_are_lost_in_a_large_epsilon_are_told(pair, solve):
    """float32: right to √eps of the mean cost up to ε = mean cost/√eps, and told above; where all costs are 0, OK."""
    x, y = (jnp.asarray(points, jnp.float32) for points in pair)
    mean = distances(*pair, 2.0).mean()
    root = float(jnp.finfo(jnp.float32).eps) ** 0.5
    at = jax.jit(jax.vmap(lambda epsilon: solve(x, y, epsilon=epsilon)))
    found = at(jnp.float32([0.5 * mean / root, 2 * mean / root, 1e12]))
    assert found.status.tolist() == [Status.OK, Status.ILL_CONDITIONED, Status.ILL_CONDITIONED]
    limit = mean if solve is transport.entropic else ((pair[0].mean(0) - pair[1].mean(0)) ** 2).sum()
    # of its value at ε = ∞ it misses a half of the costs' variance over ε, below mean²/ε times their kurtosis
    np.testing.assert_allclose(found.cost[0], limit, atol=10 * root * mean)
    same = solve(x[:1], x[:1], epsilon=1e12)
    assert (float(same.cost), int(same.status)) == (0.0, Status.OK)


def test_the_residual_is_that_of_the_plan(pair, float64):
    """After three iterations: the marginal error of the plan that numpy makes from the potentials."""
    x, y = pair
    found = transport.entropic(jnp.asarray(x), jnp.asarray(y), epsilon=0.05, x_weights=A, y_weights=B, max_iterations=3)
    f, g = (np.asarray(potential) for potential in found.potentials)
    plan = A[:, None] * B[None] * np.exp((f[:, None] + g[None] - distances(x, y, 2.0)) / 0.05)
    expected = np.abs(plan.sum(1) - A).sum() + np.abs(plan.sum(0) - B).sum()
    np.testing.assert_allclose(found.residual, expected, rtol=1e-9)
    assert expected > 1e-3
    assert int(found.status) == Status.NOT_CONVERGED


def test_unbalanced_transport_is_the_primal_program(pair, float64):
    """Masses 2 and .7 with ρ = .8: scipy minimizes over all plans, by log P."""
    x, y = pair
    x, a, b, epsilon, rho = x[:3], 2 * np.array([0.2, 0.5, 0.3]), 0.7 * B, 0.3, 0.8
    costs = distances(x, y, 2.0)
    divergence = lambda p, q: (p * np.log(p / q) - p + q).sum()  # noqa: E731

    def primal(log_plan):
        plan, product = np.exp(log_plan.reshape(3, 3)), a[:, None] * b[None]
        first, second = plan.sum(1), plan.sum(0)
        value = (plan * costs).sum() + epsilon * divergence(plan, product)
        value += rho * (divergence(first, a) + divergence(second, b))
        change = np.log(first / a)[:, None] + np.log(second / b)[None]
        return value, (plan * (costs + epsilon * np.log(plan / product) + rho * change)).ravel()

    options = {"gtol": 1e-10}
    best = scipy.optimize.minimize(primal, np.full(9, -3.0), method="BFGS", jac=True, options=options).fun
    found = transport.entropic(
        jnp.asarray(x), jnp.asarray(y), epsilon=epsilon, penalty=rho, x_weights=a, y_weights=b, **TIGHT
    )
    np.testing.assert_allclose(found.cost, best, rtol=1e-9)
    assert int(found.status) == Status.OK


@pytest.mark.parametrize("masses", [(3.0, 0.5), (1.0, 1.0)])
def test_a_large_penalty_needs_no_more_iterations_than_constraints(pair, masses, float64):
    """ρ = 2500 ε: no gap between the dual and numpy's primal of the plan, where updates alone would need 10^4."""
    x, y = pair
    a, b, epsilon, rho = masses[0] * A, masses[1] * B, 0.4, 1000.0
    found = transport.entropic(
        jnp.asarray(x),
        jnp.asarray(y),
        epsilon=epsilon,
        penalty=rho,
        x_weights=a,
        y_weights=b,
        **TIGHT | {"max_iterations": 300},
    )
    f, g = (np.asarray(potential) for potential in found.potentials)
    costs, product = distances(x, y, 2.0), a[:, None] * b[None]
    plan = product * np.exp((f[:, None] + g[None] - costs) / epsilon)
    kl = lambda p, q: (scipy.special.xlogy(p, p) - scipy.special.xlogy(p, q) - p + q).sum()  # noqa: E731
    primal = (plan * costs).sum() + epsilon * kl(plan, product) + rho * (kl(plan.sum(1), a) + kl(plan.sum(0), b))
    np.testing.assert_allclose(found.cost, primal, rtol=1e-10)
    assert int(found.status) == Status.OK


def test_unbalanced_transport_between_two_points_is_a_number(float64):
    """One point each: log P = (ε log ab + ρ log a + ρ log b − c)/(ε + 2ρ), and S_ε from it; 0 at x = y, a = b."""
    a, b, c, epsilon, rho = 2.0, 0.5, 1.5**2, 0.3, 0.7

    def cost(a, b, c):
        plan = np.exp((epsilon * np.log(a * b) + rho * np.log(a * b) - c) / (epsilon + 2 * rho))
        kl = lambda q: plan * np.log(plan / q) - plan + q  # noqa: E731
        return plan * c + epsilon * kl(a * b) + rho * (kl(a) + kl(b))

    expected = cost(a, b, c) - (cost(a, a, 0.0) + cost(b, b, 0.0)) / 2 + epsilon / 2 * (a - b) ** 2
    how = {"epsilon": epsilon, "penalty": rho, **TIGHT}
    x, y = jnp.zeros((1, 1)), jnp.full((1, 1), 1.5)
    found = transport.sinkhorn(x, y, x_weights=[a], y_weights=[b], **how)
    np.testing.assert_allclose(found.cost, expected, rtol=1e-10)
    np.testing.assert_allclose(transport.sinkhorn(x, x, x_weights=[a], y_weights=[a], **how).cost, 0.0, atol=1e-11)


@pytest.mark.slow
def test_derivatives_reach_what_a_cost_closes_over(pair, float64):
    """The scale of a cost: gradient ⟨∂c, P⟩ from the plan, and the potentials' by differences."""
    x, y = (jnp.asarray(points) for points in pair)

    def solve(scale):
        found = transport.entropic(x, y, cost=lambda u, v: scale * ((u - v) ** 2).sum(), epsilon=0.5, **TIGHT)
        return found.cost, found.potentials.f, found.potentials.g

    h, at = 1e-4, jax.jit(solve)
    f, g = (np.asarray(potential) for potential in at(0.8)[1:])
    costs = distances(*pair, 2.0)
    plan = np.exp((f[:, None] + g[None] - 0.8 * costs) / 0.5) / 15
    np.testing.assert_allclose(jax.jit(jax.grad(lambda s: solve(s)[0]))(0.8), (plan * costs).sum(), rtol=1e-9)
    slope = jax.jit(jax.jacfwd(lambda s: solve(s)[1]))(0.8)
    np.testing.assert_allclose(slope, (at(0.8 + h)[1] - at(0.8 - h)[1]) / (2 * h), atol=1e-6)


@pytest.mark.slow
def test_a_gradient_in_a_weight_is_a_potential(pair, float64):
    """Along a change of weights that keeps the mass, the derivative is ⟨f, change⟩, also at a weight of 0."""
    x, y = (jnp.asarray(points) for points in pair)
    solve = lambda a: transport.entropic(x, y, epsilon=0.5, x_weights=a, y_weights=B, **TIGHT)  # noqa: E731
    slope = jax.grad(lambda a: solve(a).cost)(jnp.asarray(A))
    change = np.array([-0.3, -0.2, 0.4, 0.2, -0.1])
    np.testing.assert_allclose(slope @ change, solve(jnp.asarray(A)).potentials.f @ change, rtol=1e-9)


@pytest.mark.slow
def test_a_batch_is_its_problems_and_a_warm_start_saves_iterations(pair):
    """vmap over ε; ε lowered by a scan, each from the last potentials, ends as a cold start, in fewer iterations."""
    x, y = (jnp.asarray(points, jnp.float32) for points in pair)
    levels = jnp.array([1.0, 0.3, 0.1])
    solve = lambda e, start: transport.entropic(x, y, epsilon=e, start=start, tolerance=1e-4)  # noqa: E731
    zero = transport.Potentials(jnp.zeros(5), jnp.zeros(3))
    batch = jax.vmap(lambda level: solve(level, zero))(levels)
    cold = [solve(level, zero) for level in levels]
    np.testing.assert_allclose(batch.cost, [one.cost for one in cold], rtol=1e-4)

    def lower(start, level):
        found = solve(level, start)
        return found.potentials, found

    annealed = jax.jit(lambda: jax.lax.scan(lower, zero, levels)[1])()
    assert (annealed.status == Status.OK).all()
    np.testing.assert_allclose(annealed.cost, batch.cost, rtol=1e-3)
    assert annealed.iterations[-1] < cold[-1].iterations
    assert solve(0.1, cold[-1].potentials).iterations <= 2


@pytest.mark.parametrize("differentiate", [False, True], ids=["value", "gradient"])
@pytest.mark.first_case
def test_memory_is_that_of_the_points_and_a_block(differentiate):
    """At 10^5 × 10^5 points the compiled program holds at most 100 (n + m) numbers and a few blocks of 2^18 pairs."""
    n, d = 100_000, 3
    points, numbers = jax.ShapeDtypeStruct((n, d), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.float32)

    def solve(x, y, a, b):
        return transport.entropic(x, y, epsilon=0.1, x_weights=a, y_weights=b, max_iterations=1).cost

    program = jax.grad(solve, (0, 1, 2, 3)) if differentiate else solve
    held = jax.jit(program).lower(points, points, numbers, numbers).compile().memory_analysis()
    total = held.temp_size_in_bytes + held.argument_size_in_bytes + held.output_size_in_bytes
    assert total < 4 * (100 * 2 * n + 4 * 2**18)


def test_what_entropic_refuses(unchecked):
    x, y = jnp.zeros((3, 2)), jnp.ones((2, 2))
    wrong = [
        ({"epsilon": -1.0}, "epsilon must be positive"),
        ({"p": 0.0}, "p must be positive"),
        ({"penalty": 0.0}, "penalty must be positive"),
        ({"cost": manhattan, "p": 1.0}, "p must be left out beside a cost"),
        ({"cost": lambda u, v: u - v}, "cost must return one real number"),
        ({"x_weights": jnp.ones(2)}, r"x_weights must have shape \(3,\)"),
        ({"block": 0}, "block must be >= 1 pair"),
        ({"max_iterations": 0}, "max_iterations must be >= 1"),
        ({"start": transport.Potentials(jnp.zeros(2), jnp.zeros(2))}, "start must hold one number for each of 3"),
    ]
    for how, message in wrong:
        with pytest.raises(ValueError, match=message):
            transport.entropic(x, y, **({"epsilon": 1.0} | how))
    with pytest.raises(ValueError, match="y must have the 2 components of x"):
        transport.entropic(x, jnp.ones((2, 3)), epsilon=1.0)
    empty = transport.entropic(x, y, epsilon=1.0, x_weights=jnp.zeros(3))
    assert int(empty.status) == Status.NOT_FINITE


@pytest.mark.slow
def test_entropic_is_that_of_ott_jax():
    """The regularized cost of ott-jax at the same ε, 40 points in three dimensions, float32."""
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal((40, 3)) + shift, jnp.float32) for shift in (0.0, 0.5))
    with relaxed_promotion():
        problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=0.2))
        theirs = sinkhorn.Sinkhorn(threshold=1e-4, max_iterations=5000)(problem)
    ours = transport.entropic(x, y, epsilon=0.2, tolerance=1e-4, max_iterations=5000)
    np.testing.assert_allclose(ours.cost, theirs.reg_ot_cost, rtol=1e-4)


@pytest.mark.parametrize("far", [0.0, 30.0, 1e3, np.nan])
def test_a_softmin_does_not_depend_on_what_is_near(pair, far, float64):
    """Against numpy, also where the sums are out of range, where nothing is known, and in a batch."""
    x, y = (jnp.asarray(points) for points in pair)
    g, number = jnp.array([0.3, -1.0, 2.0]), jnp.asarray(0.01)
    problem = blocks.Problem(x, y, jnp.asarray(A), jnp.asarray(B), number, None, None)
    pairs = blocks.Pairs(blocks.squared_cost, blocks.squared_cost, None)
    expected = -scipy.special.logsumexp(np.asarray(g) - distances(x, y, 2.0) / 0.01, b=B[None], axis=1)
    near = jnp.asarray(expected).at[2].add(far)
    update = lambda at: blocks.softmin_near(pairs, problem, g, at)  # noqa: E731
    np.testing.assert_allclose(update(near), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(update)(jnp.stack([near, near + 1])), [expected] * 2, rtol=1e-12)
