"""Runs a fuzz target for a number of seconds and says what it did."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import atheris

_CHECK_EVERY = 256


def run(target: Callable[[bytes], None], seeds: list[bytes], counts: dict[str, int]) -> None:
    """Fuzz a target with seeds, print the counts and end the process: 0, or what atheris says of a crash."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    end = time.monotonic() + seconds
    runs = 0

    def counted(data: bytes) -> None:
        nonlocal runs
        runs += 1
        target(data)
        if runs % _CHECK_EVERY == 0 and time.monotonic() > end:
            shown = ", ".join(f"{value:,} {name}" for name, value in counts.items())
            print(f"{Path(sys.argv[0]).stem}: {seconds} s, {runs:,} inputs, {shown}", flush=True)
            # The fuzzing engine never returns; it would end the process itself, without these figures.
            os._exit(0)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], f"-artifact_prefix={tempfile.gettempdir()}/", "-max_len=4096", corpus], counted
        )
        atheris.Fuzz()
