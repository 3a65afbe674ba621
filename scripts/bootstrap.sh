# Sourced by ./rstmdb and ./test: makes .venv with hatch in it, once, and sets $hatch.
# Needs nothing but Python 3.11 or newer with venv, so it also works where the system's
# Python is externally managed (PEP 668): nothing is installed outside this folder.

find_python() {
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
    [ -n "$candidate" ] || continue
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "rstmdb needs Python 3.11 or newer with the venv module; set PYTHON to name one" >&2
  return 1
}

bootstrap() {
  hatch="$root/.venv/bin/hatch"
  if [ ! -x "$hatch" ] || ! "$hatch" --version >/dev/null 2>&1; then
    python=$(find_python) || exit 1
    echo "first run: installing into $root/.venv and $root/.hatch (a minute or two)" >&2
    # A half-made environment (an interrupted first run) is made again from nothing.
    rm -rf "$root/.venv"
    "$python" -m venv "$root/.venv" || exit 1
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check 'hatch>=1.16,<2' >&2 || {
      rm -rf "$root/.venv"
      echo "could not install hatch; is a package index reachable?" >&2
      exit 1
    }
  fi
  # An environment of the caller must not leak into ours.
  unset VIRTUAL_ENV PYTHONHOME PYTHONPATH HATCH_ENV HATCH_ENV_ACTIVE
  export HATCH_INTERACTIVE=false
}
