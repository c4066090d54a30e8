"""The mathematics of deep learning, runnable: pure JAX functions, each checked against the theorem it states.

Rooms are imported by name and touch no device until they are called:

>>> from jaxtheory import results
>>> results.Status.OK.name
'OK'
"""

from importlib.metadata import version

__version__ = version("jaxtheory")
