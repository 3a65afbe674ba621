"""`__all__` and what the modules define agree, both ways; so do the modules and the package."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import rstmdb_protocol

MODULES = sorted(module.name for module in pkgutil.iter_modules(rstmdb_protocol.__path__))
INTERNAL = {"reasons"}
"""Modules whose names are not part of the package's face."""


def public_names(module: ModuleType) -> set[str]:
    """Return the public names that a module defines itself, not those that it imports."""
    annotated = inspect.get_annotations(module)
    names = set()
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        home = getattr(value, "__module__", None)
        if isinstance(value, type) or callable(value):
            if home == module.__name__:
                names.add(name)
        elif name in annotated:
            names.add(name)
    return names


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_exported(name: str) -> None:
    module = importlib.import_module(f"rstmdb_protocol.{name}")
    names = public_names(module)
    assert names, "nothing found: the test would prove nothing"
    exported = set(rstmdb_protocol.__all__)
    if name in INTERNAL:
        assert not names & exported
    else:
        assert names <= exported


def test_everything_exported_exists_and_is_defined_in_a_module() -> None:
    assert len(set(rstmdb_protocol.__all__)) == len(rstmdb_protocol.__all__)
    defined: set[str] = set()
    for name in MODULES:
        module = importlib.import_module(f"rstmdb_protocol.{name}")
        defined |= {key for key in vars(module) if not key.startswith("_")}
    assert set(rstmdb_protocol.__all__) <= defined
    for name in rstmdb_protocol.__all__:
        assert getattr(rstmdb_protocol, name) is not None


def test_the_package_shows_nothing_else() -> None:
    shown = {name for name, value in vars(rstmdb_protocol).items() if not isinstance(value, ModuleType)}
    assert {name for name in shown if not name.startswith("_")} == set(rstmdb_protocol.__all__)


def test_operations_shows_every_parameter_and_result_struct() -> None:
    operations = importlib.import_module("rstmdb_protocol.operations")
    structs = set()
    for name in ("parameters", "results"):
        structs |= public_names(importlib.import_module(f"rstmdb_protocol.{name}"))
    assert structs <= set(operations.__all__) <= set(rstmdb_protocol.__all__)
