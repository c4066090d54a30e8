"""Runs each gate on each entry of its room's table that declares what the gate needs."""

import jaxtyping
import pytest
from conftest import relaxed_promotion


def pytest_generate_tests(metafunc):
    """One test for each entry of the class, or for each of its derivatives, unless it skips the gate with a reason."""
    gate = getattr(metafunc.function, "gate", None)
    if gate is None or metafunc.cls is None:
        return
    chosen = [entry for entry in metafunc.cls.entries if gate not in entry.skip and metafunc.function.needs(entry)]
    marks = {True: [pytest.mark.slow], False: []}
    if "asked" in metafunc.fixturenames:
        cases = [(entry, asked, i) for entry in chosen for i, asked in enumerate(entry.derivatives)]
        named = [pytest.param(e, a, id=f"{e.name}-{i}" if i else e.name, marks=marks[e.slow]) for e, a, i in cases]
        metafunc.parametrize(("entry", "asked"), named)
    else:
        metafunc.parametrize("entry", [pytest.param(e, id=e.name, marks=marks[e.slow]) for e in chosen])


def pytest_collection_modifyitems(config, items):
    """Gates that no entry of a table asks for are not tests."""
    empty = [item for item in items if "gates" in item.path.parts and "NOTSET" in item.name]
    items[:] = [item for item in items if item not in empty]


@pytest.fixture(autouse=True)
def as_users_call():
    """Without the tests' checks of shapes and promotion: a user meets the package's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    with relaxed_promotion():
        yield
    jaxtyping.config.update("jaxtyping_disable", False)
