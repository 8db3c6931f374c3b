#!/bin/sh
# One command for a machine with an NVIDIA GPU and no network: builds, tests, measures.
#
#   bench/gpu_check.sh [--quick] [--gpu N] [--pretend]
#
# Needed: Python with numpy, platformdirs, scikit-build-core, pybind11 (and cmake, ninja), a C++20
# compiler; PyTorch for everything that needs a load, pytest for the tests. PYTHON=... picks the
# interpreter. The package is installed into build/gpu-check and nowhere else.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
site=$PWD/build/gpu-check

if ! "$python" -c 'import scikit_build_core, pybind11, numpy, platformdirs'; then
    echo "gpu_check: $python lacks what the build needs; see the head of this script" >&2
    exit 1
fi
rm -rf "$site"
"$python" -m pip install --quiet --no-build-isolation --no-deps --no-index --target "$site" .
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"

if "$python" -c 'import pytest' 2>/dev/null; then
    echo "== pytest -m hardware"
    "$python" -m pytest -m hardware --continue-on-collection-errors || echo "gpu_check: pytest ended with status $? (5: no such tests)"
else
    echo "gpu_check: no pytest here, so no hardware tests"
fi

echo "== measurements"
exec "$python" -m bench.gpu_check "$@"
