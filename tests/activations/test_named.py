"""Names, and the functions behind them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tolerances import assert_close

from jaxtheory.activations import resolve

pytestmark = pytest.mark.smoke

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. (2017), equation 14
ORACLES = {
    "abs": np.abs,
    "cos": np.cos,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "erf": scipy.special.erf,
    "exp": np.exp,
    "gaussian": lambda x: np.exp(-(x**2)),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "identity": lambda x: x,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu": lambda x: np.maximum(x, 0),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
    "sigmoid": scipy.special.expit,
    "sign": np.sign,
    "silu": lambda x: x * scipy.special.expit(x),
    "sin": np.sin,
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "square": np.square,
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "swish": lambda x: x * scipy.special.expit(x),
    "tanh": np.tanh,
}
POINTS = np.array([-4.0, -1.5, -0.3, 0.0, 0.2, 1.0, 3.7])


@pytest.mark.parametrize("name", ORACLES)
def test_named_activation_is_its_definition_and_keeps_the_dtype(name, dtype):
    values = jax.jit(resolve(name))(jnp.asarray(POINTS, dtype))
    assert values.dtype == dtype
    assert_close(values, ORACLES[name](POINTS))


def test_a_function_is_its_own_name():
    assert resolve(jnp.tanh) is jnp.tanh


@pytest.mark.parametrize("activation", ["rleu", "", 3.0])
def test_unknown_activation_is_told_the_names(activation, unchecked):
    with pytest.raises(ValueError, match=r"activation must be a function or one of abs, .*tanh, got"):
        resolve(activation)


def test_every_name_is_in_the_message_and_has_an_oracle():
    with pytest.raises(ValueError, match="one of") as error:
        resolve("no such")
    names = str(error.value).split("one of ")[1].split(", got")[0].split(", ")
    assert names == sorted(ORACLES)
