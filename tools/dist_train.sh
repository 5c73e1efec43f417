#!/usr/bin/env bash
# Start tools/train.py with one process for each GPU, or with several processes on a CPU.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/dist_train.sh [--dry-run] CONFIG GPUS [options of tools/train.py]

  CONFIG   a config file, e.g. configs/pretrain/slotcon_r50_coco.py
  GPUS     processes on this machine, one for each GPU; without a GPU they run on the CPU
  --dry-run, first: print the command and stop (after GPUS it is train.py's: print the training plan)

examples:
  tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8
  tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8 --resume --amp bf16
  tools/dist_train.sh configs/pretrain/slotcon_r18_demo.py 2          # also works on a CPU
  on two machines with 8 GPUs each, the same command on both but for NODE_RANK:
    NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8
    NNODES=2 NODE_RANK=1 MASTER_ADDR=host0 tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8

environment:
  NNODES       machines (1)
  NODE_RANK    this machine's number, from 0 (0)
  MASTER_ADDR  the first machine's address (127.0.0.1)
  PORT         a port for the processes to meet (one machine: any free one; several: 29500)
  PYTHON       the Python to use (.venv's if it is there, else python3)
TEXT
}

fail() {
    echo "dist_train.sh: $*" >&2
    exit 2
}

require_number() { # name value least
    [[ "$2" =~ ^[0-9]+$ ]] && ((10#$2 >= $3)) && return
    fail "$1 must be a whole number from $3, not '$2'. With --help it tells more."
}

dry_run=
[[ "${1:-}" == --dry-run ]] && dry_run=1 && shift
case "${1:-}" in
    -h | --help) usage && exit 0 ;;
    "") usage >&2 && exit 2 ;;
esac
(($# >= 2)) || fail "the number of GPUs is missing: tools/dist_train.sh $1 8"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=$1
gpus=$2
shift 2
[[ -f "$config" ]] || config=$root/$config # works from anywhere
[[ -f "$config" ]] || fail "there is no config file '${config#"$root"/}'; configs are in configs/"
require_number GPUS "$gpus" 1

nnodes=${NNODES:-1}
node_rank=${NODE_RANK:-0}
require_number NNODES "$nnodes" 1
require_number NODE_RANK "$node_rank" 0
((node_rank < nnodes)) || fail "NODE_RANK=$node_rank, but machines are numbered 0 to $((nnodes - 1))"
((nnodes == 1)) || [[ -n "${MASTER_ADDR:-}" ]] ||
    fail "NNODES=$nnodes needs MASTER_ADDR, the address of the machine with NODE_RANK=0"

if [[ -z "${CUDA_VISIBLE_DEVICES+set}" ]] && command -v nvidia-smi >/dev/null; then
    present=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
    ((present == 0 || gpus <= present)) || fail "$gpus GPUs asked for, this machine has $present"
fi

python=${PYTHON:-}
[[ -n "$python" ]] || { [[ -x "$root/.venv/bin/python" ]] && python=$root/.venv/bin/python; } || python=python3
command -v "$python" >/dev/null || fail "there is no Python '$python'; set PYTHON, or run 'make setup'"

port=${PORT:-}
if [[ -n "$port" ]]; then
    require_number PORT "$port" 1
elif ((nnodes > 1)); then
    port=29500
else
    port=$("$python" -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])')
fi

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # each process loads data in workers of its own
command=("$python" -m torch.distributed.run
    --nnodes "$nnodes" --node_rank "$node_rank" --nproc_per_node "$gpus"
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$port"
    "$root/tools/train.py" "$config" --launcher pytorch "$@")

if [[ -n "$dry_run" ]]; then
    printf '%q ' "${command[@]}" && echo
    exit 0
fi
exec "${command[@]}"
