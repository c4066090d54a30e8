"""Particle flows of functionals of a measure."""
from jaxtheory.meanfield.functionals import *
from jaxtheory.meanfield.driver import *
from jaxtheory.meanfield.flows import *
from jaxtheory.meanfield.estimators import *
from jaxtheory.meanfield.interacting import *
