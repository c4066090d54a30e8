"""Programs and models as JAX has them: one reader of jaxprs, and one adapter for modules of Flax, Equinox and Haiku.

`calls` opens functions that are called, loops and custom rules; `custom` compares a derivative rule with its function;
`mixing` finds functions that mix the examples of a batch; `flops` counts; `forward` pushes tangents through functions
that have a pullback alone; `loops` finds loops that reverse mode cannot pass; `models` turns modules into functions;
`sizes` finds the integers of a model and replaces them.
"""

from jaxtheory.programs.models import Frozen, filter_params, from_equinox, from_haiku, from_linen, from_nnx

__all__ = ["Frozen", "filter_params", "from_equinox", "from_haiku", "from_linen", "from_nnx"]
