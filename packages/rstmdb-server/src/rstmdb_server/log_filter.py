"""How much is logged, by part of the server: the notation that RUST_LOG made known.

```
filter    = directive *( "," directive )
directive = level | target "=" level | target        ; a bare target means everything from it
level     = "trace" | "debug" | "info" | "warn" | "error" | "off"
target    = a dotted name: rstmdb_server.watch       ; "::" is read as "."
```

The longest matching target decides; a level without a target is for everything else. Pure: `logs.py` puts it
into force.
"""

import re
from typing import Final

import msgspec

# The numbers are those of the standard library's logging, which has no name for the lowest and the highest.
TRACE: Final = 5
OFF: Final = 100
LEVELS: Final = {
    "trace": TRACE,
    "debug": 10,
    "info": 20,
    "warn": 30,
    "warning": 30,
    "error": 40,
    "off": OFF,
}

_TARGET = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*(\.[A-Za-z_][A-Za-z0-9_\-]*)*")


class LogFilter(msgspec.Struct, frozen=True):
    """A parsed filter.

    Attributes:
        default: The level number for every target that is not named.
        targets: (dotted name, level number), the longest name first.
    """

    default: int = LEVELS["info"]
    targets: tuple[tuple[str, int], ...] = ()

    def level_of(self, target: str) -> int:
        """Return the level number from which on lines of `target` are written."""
        for name, level in self.targets:
            if target == name or target.startswith(name + "."):
                return level
        return self.default

    @property
    def lowest(self) -> int:
        """The lowest level number any target asks for: below it nothing is written at all."""
        return min([self.default, *(level for _, level in self.targets)])


def parse_filter(text: str) -> LogFilter:
    """Parse a filter; empty text is the default level.

    Raises:
        ValueError: Naming the directive that is not understood.
    """
    default = LEVELS["info"]
    targets: dict[str, int] = {}
    for part in text.split(","):
        directive = part.strip()
        if not directive:
            continue
        target, equals, level_name = directive.partition("=")
        if not equals:
            if directive.lower() in LEVELS:
                default = LEVELS[directive.lower()]
                continue
            level_name = "trace"
        name = target.strip().replace("::", ".")
        level = LEVELS.get(level_name.strip().lower())
        if level is None or not _TARGET.fullmatch(name):
            raise ValueError(f"{directive!r} is neither a level nor target=level")
        targets[name] = level
    ordered = sorted(targets.items(), key=lambda item: -len(item[0]))
    return LogFilter(default, tuple(ordered))
