"""Expressivity."""

from jaxtheory.expressivity import relu_network

__all__ = ["relu_network"]
