"""The gates of `infinite`: limits of several networks, ready networks, and priors."""

import functools

import gates.test_activations
import jax
import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static, tree

from jaxtheory import infinite
from jaxtheory.infinite import Moments, MonteCarlo, prior

X1 = np.array([[1.0, -0.5], [0.0, 2.0], [0.3, 0.7]])
X2 = X1[:2]
IMAGES = np.random.default_rng(0).standard_normal((2, 4, 4, 1))
TOKENS = np.random.default_rng(1).standard_normal((2, 3, 2))
RULE = prior.ntk(1.4, 0.3)


def structs(shapes):
    """Shapes of parameters."""
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


DENSE = structs({"a": (2, 16), "b": (16,), "o": (16, 1)})


def dense(p, x):
    return jax.nn.relu(x @ p["a"] + p["b"]) @ p["o"]


def dense_of_numbers(p, x):
    return jax.nn.relu(x @ p["a"][:1] + p["b"]) @ p["o"]


def smooth(p, x):
    return jnp.tanh(x @ p["a"] / jnp.sqrt(x.shape[-1])) @ p["o"] / jnp.sqrt(p["o"].shape[0])


def normalized(p, x):
    h = jnp.einsum("ntc,cd->ntd", x, p["a"])
    h = h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-3)
    return h.mean(1) @ p["o"]


def tower(p, x):
    return dense(p, x["left"]) + dense(p, x["right"])


def every_token(p, x):
    return jax.nn.relu(jnp.einsum("ntc,cd->ntd", x, p["a"])) @ p["o"]


def in_training(p, x):
    h = jax.nn.relu(x @ p["a"] + p["b"])
    return jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, h.shape), 2 * h, 0) @ p["o"]


def looked_up(p, t):
    return jax.nn.relu(p["embedding"][t].mean(1)) @ p["o"]


@functools.cache
def read(f, example, *, drawn=False):
    """The limit of a network of this file at examples of a shape, read once."""
    shapes = structs({"embedding": (5, 16), "o": (16, 1)}) if f is looked_up else DENSE
    x = jax.ShapeDtypeStruct((1, *example), jnp.int32 if f is looked_up else jnp.float32)
    x = {"left": x, "right": x} if f is tower else x
    draws = MonteCarlo(jax.random.key(0), 8, 4) if drawn else None
    return infinite.limit(f, shapes, x, prior=prior.unit() if f is smooth else RULE, monte_carlo=draws)


def kernels(f, *example):
    """Both kernels of a limit as a function of two batches, and of one with itself."""

    def function(x1, x2=None):
        return read(f, example).both(x1, x2)._asdict()

    return function


def plane(x1, x2):
    """A network of points in the plane, or on a line."""
    numbers = np.ndim(x1) == 1 or np.shape(x1)[1:] == (1,)
    return kernels(dense_of_numbers if numbers else dense, 1 if numbers else 2)(x1, x2)


PAIR = {"x1": points(X1), "x2": points(X2)}
BOTH = {"nngp": 0, "ntk": 0}
HALF = {"kinds": "as limit, whose inputs they share"}
EQUAL = {"x1": np.array([[1.0, -0.5], [0.3, 0.7]]), "x2": np.array([[1.0, -0.5], [-1.0, 0.5]])}
MATRIX = Derivative(("x1",), EQUAL, output=lambda r: r["nngp"])
GENERIC = Derivative(("x1", "x2"), {"x2": np.array([[-0.4, 1.1], [0.8, 0.2]])}, output=lambda r: r["nngp"])
# the third derivative of a ReLU's kernel jumps at correlation 1, so that differences of the first one, exact in the
# limit of small steps h, are off by up to h/3 at the step 1e-4 of these numbers
KINKED = MATRIX._replace(condition=1e4)


def ready(name, make, argument, **options):
    """An entry of a ready network: both kernels of two batches, for fixed standard deviations."""
    network = functools.cache(lambda: make(1.4, 0.3))  # not before it is used
    arguments = {"x1": argument, "x2": argument._replace(value=argument.value[:1])}
    return Entry(
        name,
        lambda x1, x2: network().both(x1, x2)._asdict(),
        arguments,
        permute={"x1": BOTH, "x2": {"nngp": 1, "ntk": 1}},
        **options,
    )


def deviations(name, make, example, **options):
    """An entry of a ready network as a function of its standard deviations."""
    return Entry(
        name,
        lambda sigma_w, sigma_b: make(sigma_w, sigma_b).ntk(example),
        {"sigma_w": number(1.4), "sigma_b": number(0.3)},
        invalid={"sigma_w": (-1.0,), "sigma_b": (-1.0,)},
        derivatives=(Derivative(("sigma_w", "sigma_b")),),
        slow=True,
        skip={"precision": "the inputs have one precision"},
        **options,
    )


def rule(name, function, arguments, **options):
    """An entry of a prior: the moments of a weight and of a bias."""

    def moments(**given):
        made = function(**given)
        return [made("a/kernel", (4, 3)), made("a/bias", (3,))]

    plain = {"precision": "Python floats give Python floats"}
    return Entry(name, moments, arguments, skip=plain, **options)


def mlp(sigma_w, sigma_b):
    return infinite.mlp(1, "relu", sigma_w, sigma_b)


READY = [
    ready("mlp", mlp, points(X1)),
    ready("resnet_mlp", lambda w, b: infinite.resnet_mlp(1, "erf", w, b), points(X1), slow=True),
    ready("cnn", lambda w, b: infinite.cnn(1, "relu", w, b), quantity(IMAGES), slow=True),
    ready("attention", lambda w, b: infinite.attention(1, "relu", w, b), quantity(TOKENS), slow=True),
    Entry(
        "myrtle",
        lambda x1: infinite.myrtle(5).nngp(x1),
        {"x1": quantity(np.random.default_rng(2).standard_normal((1, 8, 8, 1)))},
        slow=True,
    ),
]

ENTRIES = [
    Entry(
        "infinite.limit", plane, PAIR, permute={"x1": BOTH, "x2": {"nngp": 1, "ntk": 1}}, derivatives=(GENERIC, KINKED)
    ),
    Entry(
        "infinite.limit, one batch",
        lambda x1: kernels(dense, 2)(x1),
        {"x1": quantity(X1)},
        skip=HALF,
    ),
    Entry(
        "infinite.limit, smooth",
        kernels(smooth, 2),
        {"x1": quantity(X1), "x2": quantity(X2)},
        derivatives=(MATRIX._replace(output=lambda r: r["ntk"]), MATRIX._replace(args=("x1", "x2"))),
        slow=True,
    ),
    Entry(
        "infinite.limit, normalized tokens",
        kernels(normalized, 3, 2),
        {"x1": quantity(TOKENS), "x2": quantity(TOKENS[:1])},
        derivatives=(Derivative(("x1",), {"x1": TOKENS, "x2": TOKENS[:1]}, output=lambda r: r["nngp"]),),
        slow=True,
    ),
    Entry(
        "infinite.limit, a tree of inputs",
        kernels(tower, 2),
        {"x1": tree({"left": X1, "right": X1[::-1]})},
        slow=True,
    ),
    Entry(
        "infinite.limit, positions",
        kernels(every_token, 3, 2),
        {"x1": quantity(TOKENS), "x2": quantity(TOKENS[:1])},
        permute={"x1": BOTH, "x2": {"nngp": 1, "ntk": 1}},
        slow=True,
    ),
    Entry(
        "infinite.limit, dropout",
        kernels(in_training, 2),
        {"x1": quantity(X1), "x2": quantity(X2)},
        permute={"x1": BOTH, "x2": {"nngp": 1, "ntk": 1}},
        slow=True,
    ),
    Entry("infinite.limit, tokens", kernels(looked_up, 3), {"x1": integers([[0, 1, 1], [4, 2, 0]])}, slow=True),
    *(entry._replace(name=f"infinite.{entry.name}") for entry in READY),
    deviations("infinite.mlp, standard deviations", mlp, X1.tolist()),
    rule(
        "infinite.prior.ntk",
        prior.ntk,
        {"sigma_w": number(1.4), "sigma_b": number(0.3)},
        invalid={"sigma_w": (-1.0,), "sigma_b": (-1.0,)},
    ),
    rule(
        "infinite.prior.lecun",
        prior.lecun,
        {"sigma_b": number(0.3), "weight": static("one")},
        invalid={"sigma_b": (-1.0,), "weight": ("two", None)},
    ),
    rule(
        "infinite.prior.he",
        prior.he,
        {"sigma_b": number(0.3), "weight": static("variance")},
        invalid={"sigma_b": (-1.0,), "weight": ("two", None)},
    ),
    rule("infinite.prior.unit", lambda: prior.unit(), {}),
    rule(
        "infinite.prior.by_path",
        prior.by_path,
        {"rules": static({"bias": Moments(0.0, 1.0, 1.0)}), "default": static(RULE)},
        invalid={"rules": (1.0, {1: 2}), "default": (None, "ntk")},
    ),
    Entry(
        "infinite.prior.draw",
        lambda w, key: prior.draw(key, {"w": w}, prior.unit()),
        {"w": quantity(np.ones((2, 3))), "key": key()},
        skip={
            "poison": "only shapes are read",
            "kinds": "the parameters have the type they are given in",
            "wrong kinds": "takes any pytree of arrays",
            "precision": "float32 and float64 draw different numbers",
        },
    ),
    Entry(
        "infinite.prior.scale_by_weight",
        lambda w: prior.scale_by_weight(prior.ntk(2.0)).update({"w": w}, None)[0],
        {"w": quantity(np.ones((2, 3)))},
        scale={"w": {"w": 1}},
        skip=dict.fromkeys(("kinds", "wrong kinds"), "takes what optax passes"),
    ),
    Entry(
        "infinite.prior.validate",
        lambda params: prior.validate(prior.unit(), params) or {"agrees": 1.0},
        {"params": tree({"w": np.random.default_rng(3).standard_normal(64)})},
        skip={"jit": "compares numbers and raises", "precision": "it returns nothing"},
    ),
    Entry(
        "infinite.prior.named_leaves",
        lambda params: dict(prior.named_leaves(params)),
        {"params": tree({"w": np.ones(3), "b": [np.zeros(2)]})},
    ),
]

ONCE = dict.fromkeys(
    ("jit", "poison", "invalid", "kinds", "axes", "sizes", "wrong kinds", "permute", "precision", "derivatives"),
    "the same function under another name",
)
ALIASES = [
    *(entry._replace(name=f"infinite.networks.{entry.name}", skip=ONCE, slow=True) for entry in READY),
    *(
        entry._replace(name=entry.name.replace("activations.", "infinite.duals."), skip=ONCE, slow=True)
        for entry in gates.test_activations.ENTRIES
        if "dual" in entry.name
    ),
]
ENTRIES += ALIASES


class TestInfinite(Gates):
    """Every public function; the kernels of `limit` on several networks."""

    entries = ENTRIES
