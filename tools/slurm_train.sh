#!/usr/bin/env bash
# Start tools/train.py under Slurm, one task for each GPU, on as many machines as that takes.
# Slurm's own process numbers are used (--launcher slurm): no second launcher whose processes could
# outlive the job, and MMEngine finds the first machine's address by itself.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/slurm_train.sh [--dry-run] PARTITION JOB_NAME CONFIG [options of tools/train.py]

  PARTITION   Slurm partition to run in (sinfo lists them)
  JOB_NAME    name of the job in the queue
  CONFIG      a config file, e.g. configs/pretrain/slotcon_r50_coco.py
  --dry-run, first: print the srun command and stop (after CONFIG it is train.py's)

examples:
  tools/slurm_train.sh gpu slotcon configs/pretrain/slotcon_r50_coco.py
  GPUS=16 CPUS_PER_TASK=12 tools/slurm_train.sh gpu slotcon configs/pretrain/slotcon_r50_coco.py --resume
  SRUN_ARGS="--time=2-00 --account=vision" tools/slurm_train.sh gpu slotcon CONFIG

environment:
  GPUS           GPUs in all, one process each (8)
  GPUS_PER_NODE  GPUs of one machine (8, or GPUS if that is less)
  CPUS_PER_TASK  cores for each process; its data workers run on them (8)
  SRUN_ARGS      further options of srun, divided at spaces
  MASTER_PORT    port for the processes to meet (one drawn at random from 20000-39999)
  PYTHON         the Python to use, the same path on all machines (.venv's, else python3)
TEXT
}

fail() {
    echo "slurm_train.sh: $*" >&2
    exit 2
}

require_number() { # name value
    [[ "$2" =~ ^[1-9][0-9]*$ ]] || fail "$1 must be a whole number from 1, not '$2'"
}

dry_run=
[[ "${1:-}" == --dry-run ]] && dry_run=1 && shift
case "${1:-}" in
    -h | --help) usage && exit 0 ;;
    "") usage >&2 && exit 2 ;;
esac
(($# >= 3)) || fail "PARTITION, JOB_NAME and CONFIG are needed, $# given. With --help it tells more."

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
partition=$1
job_name=$2
config=$3
shift 3
[[ -f "$config" ]] || config=$root/$config # works from anywhere
[[ -f "$config" ]] || fail "there is no config file '${config#"$root"/}'; configs are in configs/"

gpus=${GPUS:-8}
require_number GPUS "$gpus"
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
cpus=${CPUS_PER_TASK:-8}
require_number GPUS_PER_NODE "$per_node"
require_number CPUS_PER_TASK "$cpus"
((per_node <= gpus)) || fail "GPUS_PER_NODE=$per_node is more than GPUS=$gpus"
((gpus % per_node == 0)) ||
    fail "GPUS=$gpus is no multiple of GPUS_PER_NODE=$per_node; every machine must give as many"

python=${PYTHON:-}
[[ -n "$python" ]] || { [[ -x "$root/.venv/bin/python" ]] && python=$root/.venv/bin/python; } || python=python3

# Two jobs on one machine must not meet at one port, so it is not MMEngine's fixed 29500.
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 20000))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # each process loads data in workers of its own
read -r -a extra <<<"${SRUN_ARGS:-}"
command=(srun --partition="$partition" --job-name="$job_name" --nodes="$((gpus / per_node))"
    --ntasks="$gpus" --ntasks-per-node="$per_node" --gres="gpu:$per_node" --cpus-per-task="$cpus"
    --kill-on-bad-exit=1 "${extra[@]}"
    "$python" -u "$root/tools/train.py" "$config" --launcher slurm "$@")

if [[ -n "$dry_run" ]]; then
    printf '%q ' "${command[@]}" && echo
    exit 0
fi
command -v srun >/dev/null || fail "srun is not on the PATH: run it on a Slurm login machine, or use tools/dist_train.sh"
exec "${command[@]}"
