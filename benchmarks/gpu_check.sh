#!/usr/bin/env bash
# All that needs a GPU, within ten minutes: the tests marked gpu, compute-sanitizer, the benchmark.
#
#     benchmarks/gpu_check.sh [FOLDER]      results go to FOLDER, or benchmarks/results
#
# From the repository root, in an environment that has the test extra, CuPy, numba-cuda, torch and
# torchvision; nothing is downloaded. Every part runs, whatever became of those before it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

results=${1:-benchmarks/results}
mkdir -p "$results"
name=$results/$(date +%F)-cuda
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
failed=()

step() { # TITLE COMMAND...
    printf '\n=== %3d s: %s\n' "$SECONDS" "$1"
    local title=$1
    shift
    "$@" || failed+=("$title")
}

python - <<'PYTHON' || exit 2
import sys

try:
    import cupy, numba, numba_cuda, numpy, pytest
except ImportError as error:
    sys.exit(f"a GPU check needs CuPy, numba-cuda and the test extra, got: {error}")
if not cupy.cuda.is_available():
    sys.exit("a GPU check needs a CUDA device, and there is none")
device = cupy.cuda.Device()
print(cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode(), device.compute_capability)
print("numpy", numpy.__version__, "numba", numba.__version__, "numba-cuda", numba_cuda.__version__)
PYTHON

step "tests" timeout 240 python -m pytest -m gpu -p no:cacheprovider -o addopts="" -q tests

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1)
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck; do
        step "$tool" timeout 90 "$sanitizer" --tool "$tool" --error-exitcode 9 --log-file "$name-$tool.txt" \
            python benchmarks/every_kernel_once.py
    done
else
    printf 'compute-sanitizer is not installed: not run\n'
fi

step "benchmark" timeout 240 python -m benchmarks --device cuda --case c4-head 'fpn-*' tiny --json "$name.json"

printf '\n'
[ ${#failed[@]} = 0 ] || printf 'failed: %s\n' "${failed[@]}"
[ ${#failed[@]} = 0 ]
