"""The opt-in to limits that are averages over draws."""

from typing import NamedTuple

from jaxtyping import PRNGKeyArray

from jaxtheory.checks import require


class MonteCarlo(NamedTuple):
    """The opt-in to limits that have no closed form: what an average is over is drawn.

    Drawn are the attention scores of a head, where they keep fluctuating (q kᵀ/√d), and the channels of nonlinearities
    of several independent Gaussians, as relu(x + f(x)) with x the output of a relu, and of several positions, as in
    max-pooling or relu(average pooling). Each of `groups` independent groups draws `samples` heads or channels a layer
    and passes their average on; the kernel is the mean over groups and has their standard error. A nonlinearity after
    an average adds a bias of order 1/samples. Gradients are those of the averages for `nngp` and for scores; those of
    functions of several positions, of a drawn tangent kernel of several Gaussians, and of one whose attention weights
    have kinks, as relu(scores) has, raise a ValueError. With P positions of both examples a draw of them costs O(P²),
    after O(P³) for each entry of the kernel.

    >>> import jax
    >>> MonteCarlo(jax.random.key(0), samples=64).groups
    16
    """

    key: PRNGKeyArray
    samples: int = 128
    groups: int = 16

    def checked(self) -> "MonteCarlo":
        """Itself, if it has samples, and groups to take an error from."""
        require(self.samples >= 1, "samples", self.samples, "be >= 1", "use some hundred")
        require(self.groups >= 2, "groups", self.groups, "be >= 2", "a standard error needs several groups")
        return self
