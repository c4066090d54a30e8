"""What users pass: inputs of every kind, rules, modules and axes in any order; and what is refused by name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.recursion import relu_kernels
from infinite.simulation import structs
from tolerances import assert_close

from jaxtheory import infinite, kernels
from jaxtheory.infinite import Moments, prior

SIGMA_W, SIGMA_B = 1.4, 0.3
RULE = prior.ntk(SIGMA_W, SIGMA_B)
SHAPES = {"a": (3, 16), "o": (16, 1)}
X = np.random.default_rng(0).standard_normal((4, 3))


@pytest.fixture(autouse=True)
def as_users_write(unchecked):
    """With NumPy's promotion, and without shapes checked by beartype."""
    with relaxed_promotion():
        yield


def relu_network(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["o"]


def limit(f=relu_network, x=X, rule=RULE, shapes=SHAPES, **options):
    params = structs(shapes, jnp.float32) if isinstance(shapes, dict) else shapes
    return infinite.limit(f, params, x, prior=rule, **options)


NNGP, NTK = relu_kernels(X, 1, SIGMA_W, 0.0)

STEPS = {
    "x (x > 0)": lambda h: h * (h > 0),
    "(x >= 0) x^2": lambda h: (h >= 0) * h**2,
    "not": lambda h: h * ~(h > 0),
    "an integer": lambda h: h * (h > 0).astype(int),
    "both sides": lambda h: jnp.where((h > 0) & (h < 1), h, 0.0),
    "an integer power": lambda h: h ** (1 + 0 * (h > 0)) * (h > 0),
    "a remainder": lambda h: ((h > 0) * 3 % 2) * h,
}
SAME = {
    "x (x > 0)": jax.nn.relu,
    "(x >= 0) x^2": lambda h: jax.nn.relu(h) ** 2,
    "not": lambda h: -jax.nn.relu(-h),
    "an integer": jax.nn.relu,
    "both sides": lambda h: h * (jnp.heaviside(h, 0.0) - jnp.heaviside(h - 1, 0.0)),
    "an integer power": jax.nn.relu,
    "a remainder": jax.nn.relu,
}


@pytest.mark.parametrize(
    "name", [*list(STEPS)[:2], *(pytest.param(n, marks=pytest.mark.slow) for n in list(STEPS)[2:])]
)
def test_booleans_are_numbers(name):
    """Comparisons times values are the activation that they make."""
    ours, theirs = (limit(lambda p, x: f[name](x @ p["a"]) @ p["o"]).both(X) for f in (STEPS, SAME))  # noqa: B023
    assert_close(ours.nngp, theirs.nngp)
    assert_close(ours.ntk, theirs.ntk)


EPSILON = 2.0**-10  # a number of every precision


@pytest.mark.slow
def test_half_precision_is_computed_in_single():
    """In the inputs, and where the network casts to it: the limit follows numbers, not their rounding."""
    half = jnp.asarray(X, jnp.bfloat16)
    rounded = np.asarray(half, np.float64)
    kernel = limit().nngp(half)
    assert kernel.dtype == jnp.float32
    assert_close(kernel, relu_kernels(rounded, 1, SIGMA_W, 0.0)[0], condition=2)

    def mixed(p, x):
        h = x.astype(jnp.bfloat16) @ p["a"].astype(jnp.bfloat16)
        h = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + jnp.asarray(EPSILON, jnp.bfloat16))
        return (jax.nn.relu(h) @ p["o"].astype(jnp.bfloat16)).astype(jnp.float32)

    def single(p, x):
        h = x @ p["a"]
        h = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + EPSILON)
        return jax.nn.relu(h) @ p["o"]

    assert_close(limit(mixed).nngp(rounded), limit(single).nngp(rounded))


TOWERS = SHAPES | {"b": (3, 16), "c": (16, 1)}


def test_inputs_may_be_trees():
    """Two towers of a tuple, a dict of one array; each array has the batch axis."""
    pair = (X, X[:, ::-1].copy())
    towers = lambda p, x: jax.nn.relu(x[0] @ p["a"]) @ p["o"] + jax.nn.relu(x[1] @ p["b"]) @ p["c"]  # noqa: E731
    found = limit(towers, pair, shapes=TOWERS)
    assert_close(found.nngp(pair), NNGP + relu_kernels(pair[1], 1, SIGMA_W, 0.0)[0])
    named = limit(lambda p, x: relu_network(p, x["image"]), {"image": X})
    assert_close(named.ntk({"image": X}, {"image": X[:2]}), NTK[:, :2], condition=10)
    with pytest.raises(ValueError, match="x1 must have the structure"):
        named.ntk(X)
    with pytest.raises(ValueError, match="x must hold arrays with one common first axis"):
        limit(towers, (X, X[:2]), shapes=TOWERS)


def test_lists_and_integers_are_inputs():
    """Lists are arrays, integers and booleans are the numbers that they are, without wrapping."""
    whole = np.array([[200, 3, 1], [0, 255, 7]], np.uint8)
    found = limit(x=whole)
    expected = relu_kernels(whole.astype(float), 1, SIGMA_W, 0.0)[0]
    assert_close(found.nngp(whole), expected)
    assert_close(limit(x=whole.tolist()).nngp(whole.tolist()), expected)
    assert_close(limit().nngp(whole > 0), relu_kernels((whole > 0) * 1.0, 1, SIGMA_W, 0.0)[0])


def test_numbers_are_points_on_a_line():
    """x of shape [n] for networks of [n 1]."""
    line = X[:, 0]
    found = limit(x=line, shapes={"a": (1, 16), "o": (16, 1)})
    assert_close(found.nngp(line), relu_kernels(X[:, :1], 1, SIGMA_W, 0.0)[0])
    assert_close(found.nngp(line), found.nngp(X[:, :1]))


def test_no_examples_have_an_empty_kernel():
    assert limit().both(X[:0]).ntk.shape == (0, 0)
    assert limit().nngp(X[:0], X).shape == (0, 4)


@pytest.mark.parametrize("zero", [np.float32(0), np.zeros(()), jnp.float32(0.0), 0])
def test_a_mean_of_zero_of_any_kind_is_zero(zero):
    law = lambda path, shape: Moments(zero, SIGMA_W**2 / shape[0], 1.0)  # noqa: E731
    assert_close(limit(rule=law, check_width=False).nngp(X), NNGP)


@pytest.mark.slow
def test_the_matrix_is_symmetric_to_the_bit():
    """At inputs whose angles are all 0 or π up to rounding, over several blocks, so that regression takes it."""
    x = np.linspace(-31, 31, 200, dtype=np.float32)[:, None]
    kernel = infinite.mlp(2, "relu", 2**0.5, 0.0)
    for matrix in (kernel.ntk(x), kernel.ntk(x, x)):
        np.testing.assert_array_equal(matrix, np.asarray(matrix).T)
    # eigenvalues of rounding are as low as −2, of 2e5: √ε in the angle
    assert int(kernels.fit(kernel.ntk, jnp.asarray(x), jnp.sin(x[:, 0] / 10), 10.0).status) == 0


REFUSED = {
    "a number as prior": ({"rule": 1.5}, "prior must be a function"),
    "a prior that is not called": ({"rule": prior.ntk}, r"got prior=prior.ntk; call it: prior=prior.ntk\(\)"),
    "unit that is not called": ({"rule": prior.unit}, r"got prior=prior.unit; call it: prior=prior.unit\(\)"),
    "rules that are not called": ({"rule": prior.by_path}, r"call it: prior=prior.by_path\("),
    "a function of one argument": ({"rule": lambda path: Moments(0.0, 1.0, 1.0)}, "prior must be a function"),
    "a class as prior": ({"rule": Moments}, "prior must be a function"),
    "moments as prior": ({"rule": Moments(0.0, 1.0, 1.0)}, "prior must be a function"),
    "a prior of pairs": ({"rule": lambda path, shape: (0.0, 1.0)}, "prior must return Moments.*for 'a'"),
    "a variance that is none": (
        {"rule": lambda path, shape: Moments(0.0, None, 1.0)},
        "variance of a must be one real",
    ),
    "a variance for each entry": (
        {"rule": lambda path, shape: Moments(0.0, np.ones(shape), 1.0)},
        "variance of a must be one real number",
    ),
    "a mean that is text": ({"rule": lambda path, shape: Moments("0", 1.0, 1.0)}, "mean of a must be one real number"),
    "an infinite mean": ({"rule": lambda path, shape: Moments(np.inf, 1.0, 1.0)}, "mean of a must be finite"),
    "a prior of numbers": ({"rule": lambda path, shape: 1.0}, "prior must return Moments.*for 'a'"),
    "a negative variance": ({"rule": lambda path, shape: Moments(0.0, -1.0, 1.0)}, "variance of a must be >= 0"),
    "one example": ({"x": X[0]}, r"x must have a batch axis first, got x=shape \(3,\).*x\[None\]"),
    "a single number": ({"x": 1.0}, "x must have a batch axis first"),
    "a string": ({"x": "abc"}, "x must be numbers"),
    "objects": ({"x": np.full((2, 3), None)}, "x must be numbers"),
    "a masked array": ({"x": np.ma.array(X, mask=X > 0)}, "x must be numbers"),
    "ragged rows": ({"x": [[1.0, 2.0], [1.0]]}, r"x must be numbers, in arrays, got x=\[\[1.0, 2.0"),
    "None": ({"x": None}, "x must hold at least one array"),
    "no function": ({"f": "relu"}, "f must be a function"),
    "parameters that are none": ({"shapes": "abc"}, "params must hold arrays"),
    "a negative scale": ({"scale": -1.0}, "scale must be positive"),
    "a key as draws": ({"monte_carlo": jax.random.key(0)}, "monte_carlo must be None or MonteCarlo"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_named(name):
    """The argument, what it must be, and what to pass."""
    arguments, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        limit(**arguments)


GAIN = {"a": (3, 16), "o": (16, 1), "alpha": (16,)}


def gained(p, x):
    return (x @ p["a"] + p["alpha"] * jax.nn.relu(x @ p["a"])) @ p["o"]


def test_a_factor_is_named_by_the_prior():
    """A vector that multiplies activations is no bias: its mean is asked for; one of 1 is no factor."""
    with pytest.raises(ValueError, match=r"prior must give the mean of alpha, .*by_path\(\{\"alpha\": Moments"):
        limit(gained, shapes=GAIN)
    rule = prior.by_path({"alpha": Moments(1.0, 0.0, 0.0)}, prior.ntk())
    plain = lambda p, x: (x @ p["a"] + jax.nn.relu(x @ p["a"])) @ p["o"]  # noqa: E731
    found, expected = limit(gained, shapes=GAIN, rule=rule).nngp(X), limit(plain, shapes=GAIN, rule=rule).nngp(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    shapes = structs(GAIN, jnp.float32) | {"alpha": jax.ShapeDtypeStruct((16,), "bool")}
    with pytest.raises(infinite.NoLimitError, match="parameter alpha is of type bool"):
        infinite.limit(gained, shapes, X, prior=rule)


WRONG = {"prior.unit": prior.unit, "a pair": lambda path, shape: (0.0, 1.0), "a number": 2.0}
USES = {
    "draw": lambda rule: prior.draw(jax.random.key(0), {"a": X}, rule),
    "validate": lambda rule: prior.validate(rule, {"a": X}),
    "scale_by_weight": lambda rule: prior.scale_by_weight(rule).update({"a": X}, None),
    "by_path": lambda rule: prior.draw(jax.random.key(0), {"a": X}, prior.by_path({}, rule)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_prior_is_named_wherever_it_is_used(use, name):
    with pytest.raises(ValueError, match=r"(prior|default) must (be a function|return Moments)"):
        USES[use](WRONG[name])


def test_other_examples_are_named():
    kernel = limit().nngp
    with pytest.raises(ValueError, match="x2 must hold examples of shapes"):
        kernel(X, X[:, :2])
    with pytest.raises(ValueError, match="x1 must be numbers"):
        kernel("abc")


@pytest.mark.slow
def test_a_negative_variance_is_nan_inside_jit():
    for name, sigmas in {"sigma_w": (-1.0, 0.1), "sigma_b": (1.0, -0.1)}.items():
        with pytest.raises(ValueError, match=f"{name} must be >= 0"):
            prior.ntk(*sigmas)
        found = jax.jit(lambda w, b: infinite.mlp(1, "relu", w, b).nngp(jnp.asarray(X, jnp.float32)))(*sigmas)
        assert np.isnan(found).all()


# layouts


Module = type("Module", (), {"__module__": "equinox._module"})


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Linear(Module):
    """As in Equinox: [out, in], of one example; the activation and a number are leaves."""

    weight: Any
    bias: Any
    activation: Any = jax.nn.relu
    p: Any = 0.5

    def __call__(self, x):
        return self.activation(self.weight @ x + self.bias)

    def tree_flatten_with_keys(self):
        names = ("weight", "bias", "activation", "p")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    def tree_flatten(self):
        return (self.weight, self.bias, self.activation, self.p), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def module(width=16):
    sizes = structs({"w": (width, 3), "b": (width,), "v": (1, width), "c": (1,)}, jnp.float32)
    return [Linear(sizes["w"], sizes["b"]), Linear(sizes["v"], sizes["c"], lambda x: x)]


@pytest.mark.slow
def test_weights_of_out_and_in_have_the_fan_in_that_is_contracted():
    """A list of modules, one module, a transposed kernel, a vector that reads out; the rule that was used is told."""
    nngp, ntk = relu_kernels(X, 1, SIGMA_W, SIGMA_B)
    listed = infinite.limit(lambda m, x: jax.vmap(lambda z: m[1](m[0](z)))(x), module(), X, prior=RULE)
    assert_close(listed.both(X).nngp, nngp)
    assert_close(listed.both(X).ntk, ntk, condition=10)
    assert listed.prior("0/weight", (16, 3)).variance == pytest.approx(SIGMA_W**2 / 3)
    assert listed.prior("0/bias", (16,)).variance == pytest.approx(SIGMA_B**2)
    alone = infinite.limit(
        dataclasses.replace(module()[1], activation=lambda x: x), None, jnp.ones((2, 16)), prior=RULE
    )
    assert_close(alone.nngp(jnp.ones((2, 16))), np.full((2, 2), SIGMA_W**2 + SIGMA_B**2))

    def transposed(p, x):
        return jax.nn.relu(x @ p["a"].T) @ p["o"].T

    def vector(p, x):
        return (jax.nn.relu(x @ p["a"].T) @ p["o"])[:, None]

    for f, shapes in ((transposed, {"a": (16, 3), "o": (1, 16)}), (vector, {"a": (16, 3), "o": (16,)})):
        assert_close(limit(f, shapes=shapes).nngp(X), NNGP)


@pytest.mark.slow
def test_convolutions_of_out_and_in_are_those_of_in_and_out():
    """Kernels OIHW of images NCHW, against HWIO of NHWC."""
    image = np.random.default_rng(1).standard_normal((2, 4, 4, 2))

    def convolved(numbers):
        def f(p, x):
            h = jax.lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=numbers)
            return jax.nn.relu(h).mean((1, 2) if numbers[0] == "NHWC" else (2, 3)) @ p["o"]

        return f

    first = limit(
        convolved(("NCHW", "OIHW", "NCHW")), image.transpose(0, 3, 1, 2), shapes={"k": (8, 2, 3, 3), "o": (8, 1)}
    )
    last = limit(convolved(("NHWC", "HWIO", "NHWC")), image, shapes={"k": (3, 3, 2, 8), "o": (8, 1)})
    assert_close(first.ntk(image.transpose(0, 3, 1, 2)), last.ntk(image))


def test_a_rule_that_reads_the_wrong_axis_is_refused_by_its_parameter():
    """A rule of the user's that takes [out, in] for [in, out]."""
    wrong = lambda path, shape: RULE(path, shape)  # noqa: E731
    with pytest.raises(infinite.NoLimitError, match=r"power of the width \(weight 1/bias, 1/weight\)"):
        infinite.limit(lambda m, x: jax.vmap(lambda z: m[1](m[0](z)))(x), module(), X, prior=wrong)


def test_tables_have_no_fan_in():
    """Rows that are looked up have variance σ_w² whatever their name, also one by one under `vmap`."""
    tokens = np.array([[1, 2], [3, 3]])
    f = lambda p, t: jax.vmap(jax.vmap(lambda i: p["weight"][i]))(t).mean(1) @ p["o"]  # noqa: E731
    found = limit(f, tokens, shapes={"weight": (7, 16), "o": (16, 1)})
    assert_close(found.nngp(tokens), SIGMA_W**4 * np.diag([0.5, 1.0]))


TIED = {
    "looked up": lambda p, x: (p["e"][x].mean(1) @ p["w"]) @ p["e"].T,
    "after a residual": lambda p, x: (p["e"][x] + jnp.tanh(p["e"][x] @ p["w"] + p["b"][None]))[:, -1] @ p["e"].T,
    "one-hot": lambda p, x: jax.nn.one_hot(x, 7).mean(1) @ p["e"] @ p["e"].T,
    "a bias that reads out": lambda p, x: jnp.tanh(p["e"][x].mean(1) + p["b"]) @ p["b"][:, None],
}


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_tied_embeddings_are_refused(name, bias):
    """The output at a token of the input is no Gaussian of mean zero, whatever the bias's variance."""
    shapes = {"e": (7, 16), "w": (16, 16), "b": (16,)}
    with pytest.raises(infinite.NoLimitError, match=r"another role by.*a weight of its own") as caught:
        limit(TIED[name], np.array([[1, 2], [3, 3]]), prior.ntk(1.0, bias), shapes)
    assert "test_inputs.py:" in str(caught.value)


@pytest.mark.slow
def test_a_limit_made_inside_jit_serves_other_traces():
    """A function that is cached makes it there; what it found out of tokens belongs to no trace."""
    shapes, tokens, made = {"e": (5, 16), "o": (16, 1)}, jnp.array([[0, 1], [4, 2]]), []

    def kernel(t):
        made.extend([] if made else [limit(lambda p, t: jax.nn.relu(p["e"][t].mean(1)) @ p["o"], t, shapes=shapes)])
        return made[0].nngp(t)

    for found in (jax.jit(kernel)(tokens), jax.jit(lambda t: kernel(t))(tokens), kernel(tokens)):
        assert_close(found[0, 1] / found[0, 0], 1 / np.pi)  # no token in common: two independent normal numbers
