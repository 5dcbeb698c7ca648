#!/usr/bin/env bash
# What a GPU does of edgetune's work, in at most 8 minutes; ends with one JSON line (docs/gpu.md).
#   bench/gpu.sh [--wheels DIR] [--out DIR] [--part NAME]   on a machine with CUDA
#   bench/gpu.sh --cpu                                      the same at tiny shapes, without one
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
arguments=() wheels="" cpu=""
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=$(cd "$2" && pwd); shift ;;
    --cpu) cpu=1; arguments+=(--cpu) ;;
    --out) mkdir -p "$2"; arguments+=(--out "$(cd "$2" && pwd)"); shift ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
given=${PYTHONPATH:-}
export PYTHONPATH="$here:$here/kernels${given:+:$given}"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ -n "$wheels" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --disable-pip-version-check --root-user-action=ignore --target "$site" "$wheels"/*.whl
  export PYTHONPATH="$here:$here/kernels:$site${given:+:$given}"
fi
if [ -n "$cpu" ]; then
  export CUDA_VISIBLE_DEVICES="" TRITON_INTERPRET=1 EDGETUNE_TEST_DEVICE=cpu
else
  first=${CUDA_VISIBLE_DEVICES:-0}
  export CUDA_VISIBLE_DEVICES=${first%%,*}
fi
cd "$here"
"$python" -m bench.gpu.driver ${arguments[@]+"${arguments[@]}"}
