#!/usr/bin/env bash
# Start tools/train.py under Slurm, one task for each GPU, on one or several machines.
# Slurm's own process numbers are used (--launcher slurm): there is no second launcher whose processes
# could outlive the job, and MMEngine finds the address of the first machine by itself.

usage() {
    cat <<'TEXT'
usage: tools/slurm_train.sh [--dry-run] PARTITION JOB_NAME CONFIG [options of tools/train.py]

  PARTITION   Slurm partition (sinfo lists them)
  JOB_NAME    name of the job in the queue
  CONFIG      a config file, e.g. configs/pretrain/slotcon_r50_coco.py
  --dry-run before PARTITION prints the srun command and stops (after CONFIG it is train.py's)

examples:
  tools/slurm_train.sh gpu slotcon configs/pretrain/slotcon_r50_coco.py
  GPUS=16 CPUS_PER_TASK=12 tools/slurm_train.sh gpu slotcon configs/pretrain/slotcon_r50_coco.py --resume
  SRUN_ARGS="--time=2-00 --account=vision" tools/slurm_train.sh gpu slotcon CONFIG

environment:
  GPUS           total number of GPUs, one process for each (8)
  GPUS_PER_NODE  GPUs of one machine (8, or GPUS if that is less)
  CPUS_PER_TASK  cores for each process and its data loading workers (8)
  SRUN_ARGS      more options of srun, separated by spaces
  MASTER_PORT    port on which the processes connect (random, 20000-39999)
  PYTHON         the Python to use, the same path on all machines (.venv's, otherwise python3)
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/launcher_common.sh"
(($# >= 3)) || fail "PARTITION, JOB_NAME and CONFIG are needed, $# given. See --help."
partition=$1
job_name=$2
find_python
find_config "$3"
shift 3

gpus=${GPUS:-8}
require_number GPUS "$gpus" 1
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
cpus=${CPUS_PER_TASK:-8}
require_number GPUS_PER_NODE "$per_node" 1
require_number CPUS_PER_TASK "$cpus" 1
((per_node <= gpus)) || fail "GPUS_PER_NODE=$per_node is more than GPUS=$gpus"
((gpus % per_node == 0)) ||
    fail "GPUS=$gpus is not a multiple of GPUS_PER_NODE=$per_node; every machine must have the same number"
[[ -n "$dry_run" ]] || command -v srun >/dev/null ||
    fail "srun is not on the PATH: use a Slurm login machine, or tools/dist_train.sh"

# Two jobs on one machine must not use the same port, therefore not MMEngine's fixed 29500.
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 20000))}
read -r -a extra <<<"${SRUN_ARGS:-}"
start srun --partition="$partition" --job-name="$job_name" --nodes="$((gpus / per_node))" \
    --ntasks="$gpus" --ntasks-per-node="$per_node" --gres="gpu:$per_node" --cpus-per-task="$cpus" \
    --kill-on-bad-exit=1 "${extra[@]}" \
    "$python" -u "$root/tools/train.py" "$config" --launcher slurm "$@"
