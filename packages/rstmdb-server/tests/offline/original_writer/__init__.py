"""Writes data directories as the original server does."""

from original_writer.directory import ORDER, Original, record

__all__ = ["ORDER", "Original", "record"]
