#!/usr/bin/env bash
# Everything that waits for a GPU, in parts of at most ten minutes, each with a JSON file.

usage() {
    cat <<'TEXT'
usage: benchmarks/gpu_check.sh [--quick] [--out DIR] [PART ...]

  PART      tests, speed, methods, fp16, bf16, compile, proof (default: all, in this order)
  --out     folder of PART.json and PART.log (work_dirs/gpu_check)
  --quick   toy sizes on a CPU, as a test of this program: minutes in all

  tests     the tests that are skipped without a GPU
  speed     benchmarks/speed.py, its tables but the next two
  methods   its tables encoders and methods: steps with timm's encoders; DenseCL, MoCo v2 and BYOL
  fp16, bf16, compile
            slotcon plan slotcon_r50_coco: images a second, MFU, waiting, peak memory, in float16,
            in bfloat16, and in bfloat16 with torch.compile
  proof     pretrains slotcon_r50_own on the images for the rest of its ten minutes, and compares
            the features with random weights (RankMe; retrieval with labels)

A part that has its JSON file is left out: after an interruption, the same command continues. A part
that fails leaves PART.log; the other parts run, and the exit status is 1.

environment:
  IMAGES    folder of images for fp16, bf16, compile and proof (COCO_ROOT, else made images)
  LABELS    for proof: "FOLDER FORMAT TRAIN_LIST TEST_LIST" of slotcon evaluate retrieval, e.g.
            "camvid/labels index:11 camvid/train.txt camvid/test.txt"
  PYTHON    the Python to use (.venv's if it exists, otherwise python3)
TEXT
}

set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[[ -x $python ]] || python=$(command -v python3)
out=work_dirs/gpu_check quick='' run='' parts=()
while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --quick) quick=1 ;;
    --out) out=${2:?--out needs a folder} && shift ;;
    --run) run=$2 && shift ;;
    tests | speed | methods | fp16 | bf16 | compile | proof) parts+=("$1") ;;
    *) echo "gpu_check: $1 is no part or option; see --help" >&2 && exit 2 ;;
    esac
    shift
done
((${#parts[@]})) || parts=(tests speed methods fp16 bf16 compile proof)
mkdir -p "$out" || exit
out=$(cd "$out" && pwd)
if [[ $quick ]]; then
    export CUDA_VISIBLE_DEVICES=
elif ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu_check: torch sees no GPU; --quick runs toy sizes on a CPU" >&2 && exit 1
fi

slotcon() { "$python" "$root/tools/$1.py" "${@:2}"; }

part_tests() {
    local which=(-k "gpu or cuda or device") files=(tests/test_device.py tests/test_model.py)
    files+=(tests/test_photometric.py tests/test_preprocessor.py)
    [[ $quick ]] && files=(tests/test_photometric.py)
    (cd "$root" && "$python" -m pytest -q "${files[@]}" "${which[@]}" --junit-xml "$out/tests.xml") &&
        "$python" - "$out/tests.xml" "$1" <<'PY'
import json, sys
from xml.etree import ElementTree

(suite,) = ElementTree.parse(sys.argv[1]).getroot()
names = ("tests", "failures", "errors", "skipped", "time")
json.dump({name: float(suite.get(name)) for name in names}, open(sys.argv[2], "w"), indent=1)
PY
}

part_speed() {
    local options=(--device cuda)
    [[ $quick ]] && options=(--quick memory)
    "$python" "$root/benchmarks/speed.py" "${options[@]}" --json "$1"
}

part_methods() {
    local options=(encoders methods --device cuda)
    [[ $quick ]] && options=(--quick encoders)
    "$python" "$root/benchmarks/speed.py" "${options[@]}" --json "$1"
}

plan() { # OUT and options: a plan of the paper's pretraining
    local config=slotcon_r50_coco size=(--steps 50 --max-minutes 6) data=()
    [[ ${IMAGES:-} ]] && data=(--data "$IMAGES")
    if [[ $quick ]]; then
        config=slotcon_r18_small size=(--steps 2 --max-minutes 0.2)
        [[ ${IMAGES:-} ]] || return 1
    else
        size+=(--cfg-options model.channels_last=True train_dataloader.batch_size=512)
    fi
    slotcon plan "$config" "${data[@]}" --out "$@" "${size[@]}"
}

part_fp16() { if [[ $quick ]]; then plan "$1"; else plan "$1" --amp fp16; fi; }
part_bf16() { if [[ $quick ]]; then plan "$1"; else plan "$1" --amp bf16; fi; }
part_compile() { if [[ $quick ]]; then plan "$1"; else plan "$1" --amp bf16 --compile; fi; }

part_proof() {
    local config=slotcon_r50_own length=(--budget 6min --amp bf16) encoder networks labels
    [[ $quick ]] && config=slotcon_r18_small length=(--epochs 1)
    : "${IMAGES:?proof needs IMAGES, a folder of images}"
    slotcon train "$config" --data "$IMAGES" "${length[@]}" --work-dir "$out/proof" --resume || return
    encoder=$(ls -t "$out"/proof/epoch_*.pth | head -1)
    networks=("$encoder" "random:$config")
    if [[ ${LABELS:-} ]]; then
        read -ra labels <<<"$LABELS"
        slotcon evaluate retrieval "${networks[@]}" --images "$IMAGES" --labels "${labels[0]}" --size 320 \
            --labels-format "${labels[1]}" --train-list "${labels[2]}" --list "${labels[3]}" --out "$1"
    else
        slotcon evaluate rank "${networks[@]}" --images "$IMAGES" --out "$1"
    fi
}

if [[ $run ]]; then # the part itself, started below
    "part_${parts[0]}" "$run"
    exit
fi
status=0
for part in "${parts[@]}"; do
    if [[ -s $out/$part.json ]]; then
        echo "$part: done, $out/$part.json"
        continue
    fi
    partial=$out/$part.partial.json started=$SECONDS
    rm -f "$partial"
    timeout --kill-after=20 600 "$0" ${quick:+--quick} --out "$out" --run "$partial" "$part" >"$out/$part.log" 2>&1
    ended=$?
    if ((ended == 0)) && [[ -s $partial ]]; then
        mv "$partial" "$out/$part.json"
        echo "$part: $out/$part.json, $((SECONDS - started)) s"
    else
        status=1
        ((ended == 124)) && echo "ten minutes were over" >>"$out/$part.log"
        echo "$part: failed with status $ended, see $out/$part.log" >&2
    fi
done
exit $status
