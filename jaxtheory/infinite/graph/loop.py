"""A loop that stays a loop: what it carries, what that starts from, and what it becomes in a turn."""

from dataclasses import dataclass, field

from jaxtheory.infinite.graph.nodes import COUNTER, Deterministic, LoopCarry, Node
from jaxtheory.programs.sites import Site

PASSES = 6
Carried = Node | Deterministic


@dataclass(eq=False)
class RolledLoop:
    """One scan: carried nodes, what they start from and become in a turn, and per-turn deterministic inputs.

    `inner` and `outs` stand for what is carried in the body and after the loop; `turns` are stacked inputs and one row.
    """

    where: Site
    length: int
    reverse: bool
    past: int
    number: int = field(default_factory=COUNTER.__next__)
    starts: dict[int, Carried] = field(default_factory=dict)
    nexts: dict[int, Carried] = field(default_factory=dict)
    inner: dict[int, LoopCarry | Deterministic] = field(default_factory=dict)
    outs: dict[int, LoopCarry | Deterministic] = field(default_factory=dict)
    turns: list[tuple[Deterministic, Deterministic]] = field(default_factory=list)

    def carries(self, part: object) -> bool:
        """Whether a node or quantity stands for what is carried in the body."""
        return any(part is inside for inside in self.inner.values())
