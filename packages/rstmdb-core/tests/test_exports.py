"""What the package promises: its names, its imports, its errors."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import rstmdb_core
from rstmdb_core import errors
from rstmdb_core.errors import CoreError, quote

ALLOWED = {"msgspec", "rstmdb_core"}
PURE = {
    "array",
    "bisect",
    "collections",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "re",
    "sys",
    "typing",
    "unicodedata",
}


def modules():
    return [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(rstmdb_core.__path__, "rstmdb_core.")
    ]


def test_everything_exported_exists_and_is_documented():
    assert rstmdb_core.__all__ == sorted(rstmdb_core.__all__)
    for name in rstmdb_core.__all__:
        exported = getattr(rstmdb_core, name)
        if inspect.isclass(exported) or inspect.isfunction(exported):
            assert inspect.getdoc(exported), name


def test_every_module_says_what_it_owns_and_keeps_its_size():
    assert len(modules()) > 20
    for module in modules():
        assert module.__doc__, module.__name__
        assert len(Path(module.__file__).read_text().splitlines()) <= 400, module.__name__


def test_only_msgspec_and_pure_modules_are_imported():
    for module in modules():
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in ALLOWED | PURE, (module.__name__, name)


@pytest.mark.parametrize("name", [name for name in dir(errors) if name.endswith("Error")])
def test_errors_have_one_base(name):
    assert issubclass(getattr(errors, name), CoreError)


def test_quoting():
    assert quote("a") == "'a'"
    assert quote("my connection") == "'…'"
    assert len(quote("x" * 1_000)) == 259
    assert quote("\ud800") == "'?'"
