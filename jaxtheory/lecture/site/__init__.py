"""The lecture as a static site: a front page, a page a topic, and a page of laws with sliders.

Pages are plain HTML with one style sheet; formulas are MathML, figures SVG for light and dark. Nothing is loaded from
a network, so that a folder of results can be read anywhere.
"""

from typing import TYPE_CHECKING

from jaxtheory._lazy import lazy

if TYPE_CHECKING:
    from jaxtheory.lecture.site.pages import write
    from jaxtheory.lecture.site.text import Text, text

__all__ = ["Text", "text", "write"]

__getattr__, __dir__ = lazy(__name__, {"pages": ("write",), "text": ("Text", "text")})
