"""Reading the one YAML document of a configuration file: safely, with YAML 1.2's scalars, no key twice.

YAML 1.1, PyYAML's default, would read `off` as false, `2027-01-31` as a date and `1:30` as 90. The tag form
of a published key, `!every_ms 100`, becomes the map `{every_ms: 100}`. Nothing here knows any key.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from rstmdb_server.settings import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2 and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    line = key_node.start_mark.line + 1
                    raise ConfigError(f"key {key_node.value!r} is given twice (line {line})")
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _construct_policy(_loader: _Loader, node: yaml.Node) -> dict[str, int | str | None]:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "expected a single value", node.start_mark)
    return {node.tag[1:]: int(node.value) if node.value.strip().isdecimal() else node.value or None}


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
for _kind in ("every_write", "everywrite", "every_n", "every_ms", "never"):
    _Loader.add_constructor(f"!{_kind}", _construct_policy)


def load_yaml(path: str) -> dict[str, Any]:
    """Return the document of a configuration file; an empty one is an empty map.

    Raises:
        ConfigError: If the file cannot be read or is not one YAML map.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.load(file, _Loader)
    except OSError as error:
        raise ConfigError(f"configuration file {path!r} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"configuration file {path!r}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"configuration file {path!r} is not valid YAML: {what}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"configuration file {path!r} is not a map of sections")
    return document
