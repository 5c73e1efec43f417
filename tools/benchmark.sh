#!/usr/bin/env bash
# Run a benchmark: tools/benchmark.sh CONFIG [options of Snakemake]; see --help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
[[ -n "$python" ]] || { [[ -x "$root/.venv/bin/python" ]] && python=$root/.venv/bin/python; } || python=python3
command -v "$python" >/dev/null || {
    echo "benchmark.sh: there is no Python '$python'; set PYTHON, or run 'make setup-full'" >&2
    exit 2
}
(($# > 0)) || set -- --help
[[ "$*" == *--help* ]] || "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("snakemake") is None)' || {
    echo "benchmark.sh: $python has no snakemake: run 'make setup-full' (Python 3.11 or later)," >&2
    echo "or: pip install 'slotcon_plugin[benchmark]'" >&2
    exit 2
}
unset PYTHONDONTWRITEBYTECODE # without byte code every start of Python compiles torch and mmdet again
exec "$python" "$root/tools/benchmark.py" "$@"
