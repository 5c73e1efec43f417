# What dist_train.sh and slurm_train.sh share; they source this file after defining `usage`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 2
}

require_number() { # name value least
    [[ "$2" =~ ^[0-9]+$ ]] && ((10#$2 >= $3)) && return
    fail "$1 must be a whole number from $3, not '$2'. See --help."
}

find_python() { # Set `python` to $PYTHON, .venv's Python or python3.
    python=${PYTHON:-}
    [[ -n "$python" ]] || { [[ -x "$root/.venv/bin/python" ]] && python=$root/.venv/bin/python; } || python=python3
    command -v "$python" >/dev/null || fail "there is no Python '$python'; set PYTHON, or run 'make setup'"
}

find_config() { # Set `config` to the file of a path, relative to here or to the repository, or of a name.
    config=$1
    [[ -f "$config" ]] || config=$root/$config
    [[ -f "$config" ]] || config=$("$python" "$root/tools/list.py" --path "$1") || exit 2
}

start() { # Run a command in place of this script, or print it.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the data loading workers of each process need the cores
    if [[ -n "$dry_run" ]]; then
        printf '%q ' "$@" && echo
        exit 0
    fi
    exec "$@"
}

dry_run=
[[ "${1:-}" == --dry-run ]] && dry_run=1 && shift
case "${1:-}" in
    -h | --help) usage && exit 0 ;;
    "") usage >&2 && exit 2 ;;
esac
