"""Command line of the simulations: `python -m tests.simulation COMMAND`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import structlog

from tests.simulation.damage import damage_sectors_and_files, flip_bits
from tests.simulation.explore import Explorer, Figures
from tests.simulation.mutants import MUTANTS, hunt
from tests.simulation.scripts import SCRIPTS
from tests.simulation.server_world import Figures as Worlds
from tests.simulation.server_world import run_seeds
from tests.simulation.soak import soak


def explore(arguments: list[str]) -> int:
    """Walk every death of every script."""
    parser = argparse.ArgumentParser(prog="explore", description=explore.__doc__)
    parser.add_argument("--script", default="", help="only scripts with this in their name")
    parser.add_argument("--deaths", type=int, default=2, help="how often in a row the process dies (2)")
    parser.add_argument("--hostile", action="store_true", help="the disk tears sectors too")
    parser.add_argument("--findings", type=int, default=3, help="stop a script after so many findings (3)")
    options = parser.parse_args(arguments)
    total = Figures()
    for script in SCRIPTS:
        if options.script not in script.name:
            continue
        explorer = Explorer(
            script, deaths=options.deaths, hostile=options.hostile, findings_max=options.findings
        )
        explorer.explore()
        figures = explorer.explore_faults()
        print(f"{script.name}: {figures}", flush=True)
        for finding in figures.findings:
            print(f"  {finding}")
        total.add(figures)
    print(f"\n{len(SCRIPTS)} scripts: {total}")
    return 1 if total.findings else 0


def mutants(arguments: list[str]) -> int:
    """Plant each known fault, and look for it."""
    parser = argparse.ArgumentParser(prog="mutants", description=mutants.__doc__)
    parser.add_argument("--name", default="", help="only mutants with this in their name")
    options = parser.parse_args(arguments)
    away = 0
    chosen = [mutant for mutant in MUTANTS if options.name in mutant.name]
    for mutant in chosen:
        caught = hunt(mutant)
        away += caught.finding is None
        print(caught, flush=True)
    print(f"\n{len(chosen) - away} of {len(chosen)} mutants were caught")
    return 1 if away else 0


def damage(arguments: list[str]) -> int:
    """Flip bits in a closed directory, zero its sectors, cut and remove its files."""
    parser = argparse.ArgumentParser(prog="damage", description=damage.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="as many seeds, from this one on")
    options = parser.parse_args(arguments)
    found = 0
    for seed in range(options.seed, options.seed + options.rounds):
        for figures in (flip_bits(seed=seed), damage_sectors_and_files(seed=seed)):
            print(f"seed {seed}: {figures}", *figures.findings, sep="\n")
            found += len(figures.findings)
    return 1 if found else 0


def storage(arguments: list[str]) -> int:
    """Run long random histories of the storage engine."""
    parser = argparse.ArgumentParser(prog="storage", description=storage.__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--seeds", type=int, help="how many (1, or as many as the minutes allow)")
    parser.add_argument("--minutes", type=float, help="for how long")
    options = parser.parse_args(arguments)
    seeds = 1 if options.seeds is None and options.minutes is None else options.seeds
    seconds = None if options.minutes is None else options.minutes * 60
    figures = soak(options.seed, seeds=seeds, seconds=seconds)
    print(f"from seed {options.seed} on: {figures}", *figures.findings, sep="\n")
    return 1 if figures.findings else 0


def server(arguments: list[str]) -> int:
    """Run worlds of clients, the whole server and its disk."""
    parser = argparse.ArgumentParser(prog="server", description=server.__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--seeds", type=int, help="how many (1, or as many as the minutes allow)")
    parser.add_argument("--minutes", type=float, help="for how long")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    figures = Worlds()
    deadline = None if options.minutes is None else time.monotonic() + options.minutes * 60
    seeds = 1 if options.seeds is None and deadline is None else options.seeds
    seed = options.seed
    while (seeds is None or seed < options.seed + seeds) and (
        deadline is None or time.monotonic() < deadline
    ):
        run_seeds(seed, 1, figures)
        seed += 1
    print(f"from seed {options.seed} on: {figures}", *figures.findings, sep="\n")
    return 1 if figures.findings else 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "explore": explore,
    "mutants": mutants,
    "damage": damage,
    "storage": storage,
    "server": server,
}


def main(arguments: list[str]) -> int:
    """Run the command that the first argument names."""
    if not arguments or arguments[0] not in COMMANDS:
        print("usage: python -m tests.simulation COMMAND [OPTIONS]\n", file=sys.stderr)
        for name, command in COMMANDS.items():
            print(f"  {name:10} {(command.__doc__ or '').splitlines()[0]}", file=sys.stderr)
        return 2
    return COMMANDS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
