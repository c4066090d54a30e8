"""The gates of `networks`: parameterizations, ready architectures, the training loop and sweeps over widths."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static, tree

from jaxtheory import networks

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3))
NUMBERS = dict.fromkeys(("jit", "precision", "kinds"), "takes and gives Python numbers")
SATURATED = "tanh of infinity is one"
DRAWS = {"precision": "draws of another precision are other draws"}
SGD = optax.sgd(0.1)


def exponents(function, **arguments):
    return lambda **given: function(**(arguments | given))._asdict()


def shifted(theta):
    return networks.shifted(networks.ntk(2), theta)._asdict()


def feature_exponent(theta):
    return jnp.asarray(networks.feature_exponent(networks.shifted(networks.ntk(3), theta)), float)


def drawn(network, example):
    """Parameters by NumPy, and the outputs of a network as a function of them and of the inputs."""
    shapes = network.shapes(example, 3, 2)
    params = jax.tree.map(lambda s: RNG.standard_normal(s) / 2, shapes, is_leaf=lambda s: isinstance(s, tuple))
    return tree(params)


def initialized(key, weight_variance, bias_variance):
    variances = {"weight_variance": weight_variance, "bias_variance": bias_variance}
    return jax.tree.leaves(networks.mlp(1).init(key, (2,), 3, **variances, dtype=jnp.result_type(float)))


def outputs(network):
    return lambda params, x: network.apply(params, x)


def multilayer(x, weight_variance, bias_variance, output_scale):
    net = networks.multilayer(
        3, 4, 2, activation="tanh", weight_variance=weight_variance, bias_variance=bias_variance,
        output_scale=output_scale, dtype=jnp.result_type(float),
    )  # fmt: skip
    return net.apply(net.init(jax.random.key(0)), x)


def bowl(params):
    return jnp.sum(params**4 - params**2)


def trained(params):
    return networks.train(bowl, params, optimizer=SGD, steps=4, record=jnp.sin, record_every=2)


def trained_widths(x, y, x_test, y_test, label_noise, weight_variance):
    """Curves, statuses and predictions of two small networks."""
    run = networks.train_widths(
        x, y, x_test, y_test, widths=[2], seeds=2, optimizer=SGD, steps=2, activation="tanh", label_noise=label_noise,
        weight_variance=weight_variance,
    )  # fmt: skip
    return {name: array.values for name, array in run.dataset.items()} | {"predicted": run.predict(x_test)}


def scales(rule, **options):
    """Multipliers and standard deviations of a small network at twice its width."""

    def found(growth, **more):
        made = getattr(networks.parameterization, rule)
        f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]  # noqa: E731
        base, wide = ({"in": jnp.zeros((3, n)), "out": jnp.zeros((n, 1))} for n in (4, 4 * growth))
        result = made(f, base, wide, jnp.ones((2, 3)), **options, **more)
        return {"rate": result.learning_rates["out"], "deviation": result.standard_deviations["out"]}

    return found


def widened(features, widths):
    """Shapes of the wider network of a linen module."""
    model = nn.Sequential([nn.Dense(features), nn.Dense(2)])
    found = networks.parameterization.widen(model, jnp.ones((2, 3)), widths=widths)
    return {"shape": found.wider_params["layers_0"]["kernel"].shape, "widths": len(found.widths)}


def coordinates(key, steps):
    """Sizes of activations of a linear network without draws."""
    f = lambda p, x: (x * p["in"][None]) @ p["out"]  # noqa: E731
    init = lambda n: lambda key: {"in": jnp.ones(n), "out": jnp.ones((n, 1)) / n}  # noqa: E731
    batch = jnp.ones((2, 1)), jnp.zeros((2, 1))
    made = networks.parameterization.coordinate_check(
        lambda n: (init(n), f), [2, 4], batch, SGD, steps, key=key, seeds=2
    )
    return {name: made[name].values for name in ("initial", "change", "own_change", "initial_slope")}


TANH = {
    "mlp": (networks.mlp(2, "tanh"), (3,), X),
    "resnet_mlp": (networks.resnet_mlp(1, "tanh"), (3,), X),
    "cnn": (networks.cnn(1, "tanh"), (2, 2, 1), RNG.standard_normal((2, 2, 2, 1))),
    "myrtle": (networks.myrtle(5, "tanh"), (8, 8, 1), RNG.standard_normal((1, 8, 8, 1))),
    "attention": (networks.attention(2, "tanh"), (2, 3), RNG.standard_normal((2, 2, 3))),
}


ENTRIES = [
    *(
        Entry(
            f"networks.{name}",
            exponents(getattr(networks, name)),
            {"layers": static(3)},
            {"layers": (1, 2.5)},
            skip=NUMBERS,
        )
        for name in ("standard", "ntk", "mup", "mup_adam")
    ),
    *(
        Entry(
            f"networks.parameterization.{name}",
            scales(name),
            {"growth": static(4), "optimizer": static("adam")},
            {"growth": (1,), "optimizer": ("lbfgs",)},
            skip=NUMBERS,
        )
        for name in ("standard", "ntk")
    ),
    Entry(
        "networks.parameterization.maximal_update",
        scales("maximal_update"),
        {"growth": static(4), "optimizer": static("sgd"), "roles": static({"out": (0,)})},
        {"growth": (1,), "optimizer": ("lbfgs",), "roles": ({"w": (0,)}, {"out": (2,)})},
        skip=NUMBERS,
    ),
    Entry(
        "networks.parameterization.widen",
        widened,
        {"features": static(4), "widths": static(("layers[0].features",))},
        {"widths": (("features",), ())},
        skip=NUMBERS,
    ),
    Entry(
        "networks.parameterization.coordinate_check",
        coordinates,
        {"key": key(), "steps": static(1)},
        {"steps": (0, 1.5)},
        skip={"jit": "compiles for each width", "precision": "sizes are float32"},
    ),
    Entry(
        "networks.parameterization.coordinate_figure",
        lambda: None,
        {},
        skip=dict.fromkeys(("valid", "jit", "precision", "wrong kinds"), "draws: tests/networks/test_coordinates.py"),
    ),
    Entry("networks.mean_field", exponents(networks.mean_field), {"layers": static(2)}, {"layers": (3,)}, skip=NUMBERS),
    Entry("networks.shifted", shifted, {"theta": number(0.5)}, skip=NUMBERS),
    Entry("networks.feature_exponent", feature_exponent, {"theta": number(0.5)}, skip=NUMBERS),
    *(
        Entry(
            f"networks.{name}",
            outputs(network),
            {"params": drawn(network, example), "x": quantity(x)},
            at_infinity=dict.fromkeys(("params", "x"), SATURATED),
            derivatives=(Derivative(("params", "x")),),
            slow=name in ("myrtle", "attention"),
        )
        for name, (network, example, x) in TANH.items()
    ),
    Entry(
        "networks.mlp, its draws",
        initialized,
        {"key": key(), "weight_variance": number(2.0), "bias_variance": number(0.5)},
        invalid={"weight_variance": (-1.0,), "bias_variance": (-0.5,)},
        derivatives=(Derivative(("weight_variance", "bias_variance")),),
        skip=DRAWS,
    ),
    Entry(
        "networks.multilayer",
        multilayer,
        {
            "x": quantity(X),
            "weight_variance": number(2.0),
            "bias_variance": number(0.3),
            "output_scale": number(1.5),
        },
        invalid={"weight_variance": (-1.0,), "bias_variance": (-0.5,)},
        at_infinity={"x": SATURATED},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("x", "weight_variance", "bias_variance", "output_scale")),),
        skip=DRAWS,
    ),
    Entry(
        "networks.nested_normal",
        lambda key: networks.nested_normal(key, (2, 3), jnp.result_type(float)),
        {"key": key()},
        skip=DRAWS,
    ),
    Entry(
        "networks.minibatch",
        networks.minibatch,
        {"key": key(), "samples": static(5), "size": static(3)},
        invalid={"size": (0, 6, 2.5)},
        skip={"precision": "gives integers"},
    ),
    Entry(
        "networks.train",
        trained,
        {"params": tree(np.array([1.0, -0.5]))},
        permute={"params": {"params": 0, "records": 1, "losses": None}},
        derivatives=(Derivative(("params",)), Derivative(("params",), {"params": np.zeros(2)})),
    ),
    Entry(
        "networks.train_widths",
        trained_widths,
        {
            "x": points(X),
            "y": integers([0, 1, 0, 1, 1]),
            "x_test": points(X[:3]),
            "y_test": integers([1, 0, 1]),
            "label_noise": number(0.4),
            "weight_variance": number(2.0),
        },
        invalid={
            "label_noise": (-0.1, 1.1),
            "weight_variance": (-1.0,),
            "y": (np.array([0, -1, 0, 1, 1]), np.arange(4)),
        },
        integer_values={"label_noise": 0.0, "weight_variance": 2.0},
        skip={"jit": "trains from the host, bucket by bucket", "axes": "its test points change with x"} | DRAWS,
        slow=True,
    ),
    Entry(
        "networks.stopped_early",
        lambda: None,
        {},
        skip=dict.fromkeys(
            ("valid", "jit", "precision", "wrong kinds"), "takes a dataset: tests/networks/test_stopping.py"
        ),
    ),
    Entry(
        "networks.train_family",
        lambda: None,
        {},
        skip=dict.fromkeys(
            ("valid", "jit", "precision", "wrong kinds"), "the same as train_widths, with a module: tests/networks"
        ),
    ),
]


class TestNetworks(Gates):
    """Every public function of `networks`."""

    entries = ENTRIES
