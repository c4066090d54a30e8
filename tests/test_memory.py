"""Predicted bytes of the large calls against those that the compiler allots."""

from importlib.metadata import version

import jax
import pytest

from jaxtheory import double_descent, empirical, feature_learning, kernels, meanfield, memory

KERNEL = kernels.gaussian(2.0)
OTHER_SCHEDULE = version("jaxlib") == "0.10.2"


def numbers(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def allotted(function, *arguments):
    """What the compiler allots, by its own schedule and, of jaxlib 0.10.2, by the one that it is given."""
    lowered, schedules = jax.jit(function).lower(*arguments), [None]
    if OTHER_SCHEDULE:
        schedules.append({"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED"})
    each = [lowered.compile(compiler_options=options).memory_analysis() for options in schedules]
    sizes = [(found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes) for found in each]
    return [memory.Bytes(*map(float, size)) for size in sizes]


def assert_peak(found, predicted):
    """Within a fifth, by every schedule."""
    for one in found:
        assert abs(predicted.peak - one.peak) <= one.peak / 5


def assert_predicted(found, predicted):
    """The peak, and arguments and results within a hundredth."""
    assert_peak(found, predicted)
    for one in found:
        assert abs(predicted.result - one.result) <= one.result / 100
        assert abs(predicted.arguments - one.arguments) <= one.arguments / 100


@pytest.mark.parametrize(
    ("n1", "n2", "d", "block"),
    [(1024, None, 16, 256), (1024, 512, 16, None), (4096, None, 512, 1024), (512, 4096, 64, 1024)],
)
def test_gram(n1, n2, d, block):
    others = () if n2 is None else (numbers(n2, d),)
    found = allotted(lambda x, *x2: kernels.gram(KERNEL, x, *x2, block=block), numbers(n1, d), *others)
    assert_predicted(found, memory.gram(n1, n2, dimension=d, block=block))
    # the result is most of it, and says little: by its own schedule, which is the last of them, the rest is right too
    assert abs(memory.gram(n1, n2, dimension=d, block=block).temporaries / found[-1].temporaries - 1) < 0.2


@pytest.mark.slow
def test_gram_of_all_at_once():
    found = allotted(lambda x: kernels.gram(KERNEL, x), numbers(1024, 16))
    assert_predicted(found, memory.gram(1024, dimension=16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "d", "o", "options"),
    [
        (512, 16, 1, {"solver": "cholesky"}),
        (1024, 16, 10, {"solver": "auto"}),
        (4096, 16, 1, {"solver": "cg", "rank": 256, "block": 512}),
        (12_288, 64, 1, {"solver": "auto"}),
        (8192, 16, 32, {"solver": "cg", "rank": 256, "block": 512}),
        (4096, 16, 2, {"solver": "cg", "rank": 64, "block": 2048}),
        (4096, 16, 100, {"solver": "cg", "rank": 128, "block": 512}),
    ],
)
def test_fit(n, d, o, options):
    found = allotted(lambda x, y: kernels.fit(KERNEL, x, y, 0.1, **options), numbers(n, d), numbers(n, o))
    assert_predicted(found, memory.fit(n, dimension=d, outputs=o, **options))


@pytest.mark.parametrize(
    ("particles", "samples", "d", "block"),
    [
        (65_536, 256, 16, None),
        (1024, 256, 16, None),
        pytest.param(4096, 1024, 64, None, marks=pytest.mark.slow),
        pytest.param(4096, 1024, 16, 128, marks=pytest.mark.slow),
    ],
)
def test_simulate(particles, samples, d, block):
    def run(theta, x, y):
        risk = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y, block=block)
        return meanfield.simulate(meanfield.gradient_flow(risk, 0.1), theta, steps=2, key=jax.random.key(0)).state.cloud

    found = allotted(run, numbers(particles, d), numbers(samples, d), numbers(samples))
    predicted = memory.simulate(particles, d, samples=samples, block=block)
    assert_peak(found, predicted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "depth", "steps", "samples", "groups"),
    [(4, 2, 20, 4096, 8), (8, 2, 20, 8192, 8), (4, 3, 20, 8192, 4), (4, 2, 80, 8192, 2)],
)
def test_solve(n, depth, steps, samples, groups):
    options = {"depth": depth, "steps": steps, "samples": samples, "groups": groups}

    def run(x, y):
        return feature_learning.solve(x, y, richness=1.0, step_size=0.1, key=jax.random.key(0), **options)

    found = allotted(run, numbers(n, 3), numbers(n))
    assert_peak(found, memory.solve(n, **options))


def test_a_block_fits_its_limit():
    needed = lambda block: memory.gram(1000, 1000, dimension=4, block=block)  # noqa: E731
    for limit in (4.1e6, 4.8e6, 1e7):
        block = memory.largest_block(needed, 1000, limit)
        assert needed(block).peak <= limit
        assert block == 1000 or needed(2 * block).peak > limit
    assert memory.largest_block(needed, 1000, 0.0) == 1


def test_sizes_below_one_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"block must be a size >= 1, got block=0"):
        memory.gram(10, dimension=2, block=0)
    with pytest.raises(ValueError, match=r"solver must be .* got solver=eigenpro"):
        memory.fit(10, dimension=2, solver="eigenpro")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "features", "m", "outputs", "ridge"),
    [
        (40, 160, 300, 1, 0.0),
        *(
            pytest.param(*sizes, marks=pytest.mark.slow)
            for sizes in [
                (150, 700, 300, 1, 0.0),
                (500, 1500, 200, 1, 0.1),
                (64, 3000, 64, 3, 0.1),
                (90, 90, 5000, 1, 0.0),
                (100, 2000, 20, 10, 0.0),
                (200, 200, 1000, 1, 0.0),
            ]
        ),
    ],
)
def test_width_path(n, features, m, outputs, ridge):
    """Sizes other than those from which the constants were found."""
    given = (numbers(n, features), numbers(n, outputs), numbers(m, features), numbers(m, outputs))
    found = allotted(lambda *arrays: double_descent.width_path(*arrays, ridge=ridge), *given)
    predicted = memory.width_path(n, features, tests=m, outputs=outputs, ridge=ridge > 0)
    assert {one.arguments for one in found} == {predicted.arguments}
    assert all(abs(one.result - predicted.result) <= 64 for one in found)
    assert_peak(found, predicted)


@pytest.mark.parametrize(
    ("n", "width", "outputs", "options", "least"),
    [
        (64, 256, 10, {}, 0.2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (2000, 512, 1, {}, 0.5),
                (64, 256, 10, {"method": "jacobian"}, 0.8),
                (64, 256, 10, {"output": "trace", "block": 8, "method": "jacobian"}, 0.5),
            ]
        ),
    ],
)
def test_ntk(n, width, outputs, options, least):
    """What the compiler allots; the bound that chooses blocks is above it, and less than 1 / `least` of it."""
    params, x = [numbers(32, width), numbers(width, width), numbers(width, outputs)], numbers(n, 32)

    def f(params, x):
        return jax.numpy.tanh(jax.numpy.tanh(x @ params[0]) @ params[1]) @ params[2]

    found, bound = memory.ntk(f, params, x, **options), empirical.explain(f, params, x, **options).bytes
    held = 1 if options.get("output") == "trace" else outputs**2
    assert found.result == 4 * n**2 * held
    assert found.arguments == 4 * (n * 32 + 32 * width + width**2 + width * outputs)
    peak = found.arguments + found.result + bound
    assert least * peak <= found.peak <= peak
