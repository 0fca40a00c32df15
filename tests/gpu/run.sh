#!/usr/bin/env bash
# Checks and measures kerasbn on a machine with a GPU within eight minutes, and writes OUT/gpu.json.
#
#     tests/gpu/run.sh OUT MNIST [--only PATTERN...]
#
# MNIST is a folder with its four files. The interpreter is $PYTHON, or python3. Where kerasbn is not
# installed, the folder that holds the package has to be on PYTHONPATH. See tests/gpu/__main__.py.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
mnist=$(cd "$2" && pwd)
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.." # not the root: another package may be called tests
# TensorFlow may hold no code for this GPU: what the driver compiles is kept for all processes.
export CUDA_CACHE_MAXSIZE=4294967296
nvidia-smi || echo "no nvidia-smi"
PYTHONUNBUFFERED=1 timeout -k 5 485 "${PYTHON:-python3}" -m gpu \
    --data-dir "$mnist" --out "$out/gpu.json" "$@" 2>&1 | tee "$out/gpu.log"
exit "${PIPESTATUS[0]}"
