"""Makes the doubles importable, and serves the model database."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from client_doubles.database import ModelDatabase
from client_doubles.server import ModelServer, serving


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """The model database with all features."""
    with serving() as running:
        yield running


@pytest.fixture
def original() -> Iterator[ModelServer]:
    """The model database with the features and the carelessness of the original."""
    with serving(ModelDatabase(original=True)) as running:
        yield running
