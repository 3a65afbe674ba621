#!/usr/bin/env bash
# Installs the hooks of this folder for this checkout: format and lint before a commit, tests before a push.
set -euo pipefail
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
git -C "$root" config core.hooksPath .githooks
echo "hooks installed: formatting, lint and quick tests before each commit, all tests before each push"
