"""Plain init/apply networks with the abc family of parameterizations, used by every room.

>>> import jax, jax.numpy as jnp
>>> net = multilayer(3, 64, 1, abc=mup(2), activation=jnp.tanh)
>>> net.apply(net.init(jax.random.key(0)), jnp.ones((2, 3))).shape
(2, 1)
"""

from jaxtheory.networks import parameterization
from jaxtheory.networks.abc import ABC, feature_exponent, mean_field, mup, mup_adam, ntk, shifted, standard
from jaxtheory.networks.architectures import Architecture, attention, cnn, mlp, myrtle, resnet_mlp
from jaxtheory.networks.multilayer import Activation, Layer, Multilayer, multilayer, nested_normal
from jaxtheory.networks.runs import Bucket
from jaxtheory.networks.stopping import stopped_early
from jaxtheory.networks.training import Training, TrainingState, minibatch, train
from jaxtheory.networks.widths import WidthTraining, train_family, train_widths

__all__ = [
    "ABC",
    "Activation",
    "Architecture",
    "Bucket",
    "Layer",
    "Multilayer",
    "Training",
    "TrainingState",
    "WidthTraining",
    "attention",
    "cnn",
    "feature_exponent",
    "mean_field",
    "minibatch",
    "mlp",
    "multilayer",
    "mup",
    "mup_adam",
    "myrtle",
    "nested_normal",
    "ntk",
    "parameterization",
    "resnet_mlp",
    "shifted",
    "standard",
    "stopped_early",
    "train",
    "train_family",
    "train_widths",
]
