"""What the reader of a program keeps of parameters and data."""

from typing import NamedTuple

from jaxtheory.networks.parameterization.views import View

Path = tuple[int, ...]


class Use(NamedTuple):
    """A parameter meets data: axes contracted, axes kept, and axes of a table from which the data pick entries."""

    leaf: int
    inputs: frozenset[int]
    outputs: frozenset[int]
    lookup: frozenset[int] = frozenset()


class Score(NamedTuple):
    """Scores of softmax attention: a contraction of data over `size` numbers, times `scale`."""

    size: int
    scale: float


class Contraction(NamedTuple):
    """A sum of products of activations; `leaves` are parameters whose products with data enter it directly.

    `pair` is False of a sum of activations alone.
    """

    score: Score
    leaves: frozenset[int]
    pair: bool = True


class Norm(NamedTuple):
    """(square · m)^(power/2), where m is the mean square of the entries of parameter `leaf`."""

    leaf: int
    square: float
    power: float


class Reading(NamedTuple):
    """What a program does with its parameters, and where: `sites` are uses by equation, `alone` equations of no data.

    `through` are products whose sum is the use; `branches` are residual branches, as their parameters and scales;
    `factors` are numbers by which a parameter, its data, or what its use gives, is multiplied. `contractions` are sums
    of activations or of their products, but for scores of a softmax and squares of norms. `mixtures` are parameters
    whose data were joined from parts, and the sizes of these. `normalized` are parameters that are divided by norms of
    their own, and the root mean square of the entries that this gives.
    """

    uses: tuple[Use, ...]
    sites: dict[Path, tuple[Use, ...]]
    through: frozenset[Path]
    alone: frozenset[Path]
    unread: dict[int, set[str]]
    scores: tuple[Score, ...]
    branches: tuple[tuple[frozenset[int], float], ...]
    factors: tuple[tuple[int, float], ...]
    contractions: tuple[Contraction, ...]
    mixtures: tuple[tuple[int, tuple[int, ...]], ...]
    normalized: tuple[tuple[int, float], ...]


class Batch(NamedTuple):
    """Axes of a parameter that it shares with data, until these are summed over: where, and which equations since."""

    site: Path
    trail: tuple[Path, ...]
    view: View


class Data(NamedTuple):
    """What is known of an array that depends on the inputs: its ancestors (bits) and parameters, numbers it carries.

    `used` are the parameters whose use it is, `products` those whose use its sum would be, and `factored` says which
    factors it was multiplied by since. `pair` says that it is a product of two activations, `sum` which contraction it
    is, `shares` that it is a softmax, or its numerators; `norm` that it is the root of a sum of squares, or with −1 its
    inverse; `parts` the dimension along which it was joined, and the sizes of what was joined.
    """

    token: int
    ancestors: int
    leaves: frozenset[int]
    scale: float = 1.0
    score: Score | None = None
    batch: Batch | None = None
    used: frozenset[int] = frozenset()
    products: frozenset[int] = frozenset()
    factored: frozenset[int] = frozenset()
    pair: bool = False
    shares: bool = False
    sum: int | None = None
    norm: tuple[Score, int] | None = None
    parts: tuple[int, tuple[int, ...]] | None = None


class Value(NamedTuple):
    """An atom: the parameters it rearranges, the data it depends on, its number where it is one known number.

    `norm` says that it is the norm of a parameter.
    """

    views: tuple[View, ...] = ()
    data: Data | None = None
    number: float | None = None
    norm: Norm | None = None
