#!/usr/bin/env bash
# Collect the wheels that bench/gpu.sh needs on a machine without a package index (docs/gpu.md).
#   bench/gpu_wheels.sh DIR [PYTHON_VERSION] [--llama]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:?folder for the wheels} version=${2:-3.12} llama=${3:-}
python=${PYTHON:-python3} cuda=${CUDA:-130} most=$((42 * 1000 * 1000))
packages=(bitsandbytes trl datasets dill multiprocess pydantic pydantic_core annotated-types
  typing-inspection typing_extensions gguf auto-round onnxruntime-genai transformers peft optimum)
platforms=()
for glibc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do
  platforms+=(--platform "manylinux_${glibc}_x86_64")
done
mkdir -p "$out"
pins=()
for name in "${packages[@]}"; do
  pins+=("$(grep -i "^${name}==" "$here/constraints.txt" || echo "$name")")
done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" \
  --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 -d "$out" "${pins[@]}"
"$python" "$here/bench/gpu/slim_wheel.py" "$out"/bitsandbytes-*.whl "$cuda"
if [ "$llama" = --llama ]; then
  # Not for this machine's processor alone; its wheels are for any Python 3.
  CMAKE_ARGS="-DGGML_NATIVE=OFF" "$python" -m pip wheel -q --no-deps --no-cache-dir \
    --wheel-dir "$out" "$(grep -i '^llama_cpp_python==' "$here/constraints.txt")"
fi
ls -l "$out"
size=$(cat "$out"/*.whl | wc -c)
echo "$((size / 1000 / 1000)) MB in $out" >&2
[ "$size" -le "$most" ] || { echo "over $((most / 1000 / 1000)) MB: leave one out" >&2; exit 1; }
