#!/usr/bin/env bash
# Start tools/train.py with one process for each GPU, or with several processes on a CPU.

usage() {
    cat <<'TEXT'
usage: tools/dist_train.sh [--dry-run] CONFIG GPUS [options of tools/train.py]

  CONFIG   a config file, e.g. configs/pretrain/slotcon_r50_coco.py
  GPUS     number of processes on this machine, one for each GPU; without a GPU they use the CPU
  --dry-run before CONFIG prints the command and stops (after GPUS it is train.py's: the plan)

examples:
  tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8
  tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8 --resume --amp bf16
  tools/dist_train.sh configs/pretrain/slotcon_r18_demo.py 2          # also on a CPU
  two machines with 8 GPUs each, the same command on both except for NODE_RANK:
    NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8
    NNODES=2 NODE_RANK=1 MASTER_ADDR=host0 tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8

environment:
  NNODES       number of machines (1)
  NODE_RANK    number of this machine, from 0 (0)
  MASTER_ADDR  address of the first machine (127.0.0.1)
  PORT         port on which the processes connect (one machine: a free one; several: 29500)
  PYTHON       the Python to use (.venv's if it exists, otherwise python3)
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/launcher_common.sh"
find_python
if [[ "$1" == --gpus ]]; then # of tools/train.py, whose arguments follow
    gpus=$2
    shift 2
else
    (($# >= 2)) || fail "the number of GPUs is missing: tools/dist_train.sh $1 8"
    find_config "$1"
    gpus=$2
    shift 2
    set -- "$config" "$@"
fi
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
    ((present == 0 || gpus <= present)) || fail "$gpus GPUs requested, this machine has $present"
fi

port=${PORT:-}
if [[ -n "$port" ]]; then
    require_number PORT "$port" 1
    ((node_rank > 0)) || "$python" -c 'import socket, sys
probe = socket.socket()
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
probe.bind(("", int(sys.argv[1])))' "$port" 2>/dev/null ||
        fail "PORT=$port cannot be used: another program uses it, or it is out of range"
elif ((nnodes > 1)); then
    port=29500
else
    port=$("$python" -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])')
fi

start "$python" -m torch.distributed.run \
    --nnodes "$nnodes" --node_rank "$node_rank" --nproc_per_node "$gpus" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$port" \
    "$root/tools/train.py" --launcher pytorch "$@"
