#!/usr/bin/env bash
# Makes a development authority with a server and a client certificate: ./scripts/generate-dev-certs.sh [DIR]
set -euo pipefail
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$root/rstmdb" dev-certs "${1:-./dev-certs}"
