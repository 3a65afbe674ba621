"""The guard language: lexer, parser, compiler. Total and limited; never eval."""

from rstmdb_core.guard.compiler import Guard, compile_guard
from rstmdb_core.guard.parser import original_prefix, parse

__all__ = ["Guard", "compile_guard", "original_prefix", "parse"]
