"""The package before any of its rooms: what importing it costs, shows and knows."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import jaxtheory

ROOT = Path(jaxtheory.__file__).parent


def fresh(code, path, *options):
    """What a program prints in a process of its own that finds the package under `path`."""
    environment = {**os.environ, "PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, env=environment, cwd=path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_source_tree_that_is_not_installed_knows_its_version(tmp_path):
    """A copy of the package alone, in a Python without site-packages."""
    shutil.copytree(ROOT, tmp_path / "jaxtheory", ignore=shutil.ignore_patterns("__pycache__"))
    found = fresh("import jaxtheory; print(jaxtheory.__version__, jaxtheory.__file__)", tmp_path, "-S")
    assert found == f"{jaxtheory.__version__} {tmp_path / 'jaxtheory' / '__init__.py'}"


def test_the_version_is_that_of_the_distribution():
    try:
        assert metadata.version("jaxtheory") == jaxtheory.__version__
    except metadata.PackageNotFoundError:
        assert not (ROOT.parent / "jaxtheory.egg-info").exists()


def test_importing_the_package_imports_nothing_else():
    heavy = "('jax', 'numpy', 'xarray', 'zarr', 'flax')"
    assert fresh(f"import sys, jaxtheory; print([n for n in {heavy} if n in sys.modules])", ROOT.parent) == "[]"


def test_rooms_import_no_library_that_few_programs_need():
    """All rooms in one process: what they import at once is jax, numpy, optax and jaxtyping, with what those need."""
    heavy = "('xarray', 'zarr', 'pandas', 'scipy', 'flax', 'matplotlib', 'sklearn', 'tyro', 'ott')"
    code = f"""if True:
        import sys, jax.numpy
        before = set(sys.modules)
        import jaxtheory
        rooms = [getattr(jaxtheory, name) for name in dir(jaxtheory) if not name.startswith("_")]
        assert len(rooms) > 20
        print([name for name in {heavy} if name in sys.modules and name not in before])
    """
    assert fresh(code, ROOT.parent) == "[]"


@pytest.mark.parametrize("room", ["sweeps", "figures", "lecture"])
def test_rooms_that_load_on_first_use_are_complete(room):
    """Every public name is there and listed, whether modules of its room were imported before or not."""
    code = f"""if True:
        import jaxtheory.{room} as room
        assert set(room.__all__) <= set(dir(room))
        first = [getattr(room, name) for name in room.__all__]
        print(sum(callable(value) or bool(value) for value in first) - len(room.__all__), "module" in str(first))
    """
    assert fresh(code, ROOT.parent) == "0 False"


def test_rooms_are_attributes():
    assert fresh("import jaxtheory; print(jaxtheory.results.Status.OK.name)", ROOT.parent) == "OK"
    assert {"kernels", "sweeps", "double_descent", "__version__"} <= set(dir(jaxtheory))
    with pytest.raises(AttributeError, match=r"no attribute 'kernel'; its rooms are .*kernels"):
        _ = jaxtheory.kernel


def _rooms_imported(path):
    """Modules and folders of the package that a file names in its imports, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "jaxtheory":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxtheory."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jaxtheory."))


def test_modules_import_from_layers_above_in_the_table_of_the_architecture():
    """Every module has a place in the table, and the one import beside it is the one that the table names."""
    lines = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    rows = [re.findall(r"`(\w+)`", line.split("|")[2]) for line in lines if re.match(r"\| \d[a-d]? \|", line)]
    layer = {name: i for i, row in enumerate(rows) for name in row}
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}
    assert found - {"__init__"} == set(layer)
    assert len(layer) == sum(map(len, rows))
    beside = set()
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        others = set(_rooms_imported(path)) & set(layer) - {room}
        beside |= {(room, other) for other in others if room in layer and layer[other] >= layer[room]}
    assert beside == {("smoothness", "expressivity")}
