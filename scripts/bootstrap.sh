# Sourced by ./rstmdb and ./test: makes .venv with hatch in it, once, and sets $hatch.
# Needs nothing but Python 3.11 or newer, with ensurepip (Debian: python3-venv) or pip (python3-pip) beside it. It
# also works where the system's Python is externally managed (PEP 668): nothing is installed outside this folder.

find_python() {
  local candidate found=""
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
    [ -n "$candidate" ] || continue
    command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    found="$candidate"
    if "$candidate" -c 'import venv, ensurepip' 2>/dev/null || "$candidate" -c 'import venv, pip' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  if [ -n "$found" ]; then
    echo "rstmdb: $found has neither ensurepip nor pip (on Debian and Ubuntu: apt install python3-venv)" >&2
  else
    echo "rstmdb needs Python 3.11 or newer; set PYTHON to name one" >&2
  fi
  return 1
}

# Makes .venv with pip in it, also with a Python whose ensurepip was left out: then its own pip works for it.
make_venv() {
  if "$1" -c 'import ensurepip' 2>/dev/null; then
    "$1" -m venv "$root/.venv"
    pip=("$root/.venv/bin/python" -m pip)
  else
    "$1" -m venv --without-pip "$root/.venv"
    pip=("$1" -m pip --python "$root/.venv/bin/python")
  fi
}

install_hatch() {
  local python pip
  # An installation that was interrupted, or moved with its folder, is made again from nothing.
  if [ -x "$hatch" ] && "$hatch" --version >/dev/null 2>&1; then return 0; fi
  python=$(find_python) || return 1
  echo "first run: installing into $root/.venv and $root/.hatch (a minute or two)" >&2
  rm -rf "$root/.venv"
  if ! make_venv "$python" >&2; then
    rm -rf "$root/.venv"
    echo "rstmdb: $python could not make $root/.venv" >&2
    return 1
  fi
  if ! "${pip[@]}" install --quiet --disable-pip-version-check 'hatch>=1.16,<2' >&2; then
    rm -rf "$root/.venv"
    echo "rstmdb: could not install hatch; is a package index reachable?" >&2
    return 1
  fi
}

# Runs a function while no other ./rstmdb or ./test of this checkout installs anything.
alone() {
  if command -v flock >/dev/null 2>&1; then
    (flock 9 && "$@" 9>&-) 9>"$root/.hatch/.lock"
  else
    "$@"
  fi
}

bootstrap() {
  hatch="$root/.venv/bin/hatch"
  # What hatch keeps stays in this folder, too: a home may be read-only, or not there.
  export HATCH_INTERACTIVE=false HATCH_CONFIG="$root/.hatch/config.toml"
  export HATCH_DATA_DIR="$root/.hatch/data" HATCH_CACHE_DIR="$root/.hatch/cache"
  mkdir -p "$root/.hatch" && : >>"$HATCH_CONFIG" && alone install_hatch || exit 1
}

# An environment of the caller must not leak into ours.
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH HATCH_ENV HATCH_ENV_ACTIVE
