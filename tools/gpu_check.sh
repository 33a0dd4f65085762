#!/bin/sh
# Runs all that needs a GPU, in eight minutes at most, and prints one table: tools/gpu_check.sh [device, default cuda:0]
# The same as JSON lies in the folder of logs, or in the file that JSON names. Exit status 1 if a step fails.
# Needs an environment in which peftbench is installed, with a PyTorch that is built with CUDA.
set -u
cd "$(dirname "$0")/.." || exit 2

device=${1:-cuda:0}
python=${PYTHON:-$(command -v python || command -v python3)}
logs=$(mktemp -d)
status=0

if ! timeout -k 2 30 "$python" - "$device" <<'PYTHON'
import sys

import torch

from peftbench.devices.device import device_named
from peftbench.errors import UserError
from peftbench.measure.energy.nvml import Nvml

try:
    device = device_named(sys.argv[1])
except UserError as error:
    sys.exit(f"gpu_check: {error}")
print(f"{device}: {torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
with Nvml.of(device) as nvml:
    for name, reading in (("driver", nvml.driver_version()), ("energy", nvml.energy_j()), ("processes", nvml.processes())):
        print(f"{name}: {reading.value if reading.value is not None else 'not available: ' + reading.reason}")
PYTHON
then
    exit 2
fi

# step NAME SECONDS COMMAND...: runs it within so many seconds, keeps its output, and adds a row to the steps
step() {
    name=$1 limit=$2 start=$(date +%s)
    shift 2
    echo "== $name"
    # An interrupted run writes what it has finished; what does not end then is killed.
    timeout -s INT -k 4 "$limit" "$@" >"$logs/$name.log" 2>&1
    code=$?
    case $code in
        0) result=ok ;;
        124 | 137) result="stopped after $limit s" ;;
        *) result="exit $code" ;;
    esac
    [ "$code" -eq 0 ] || { status=1; tail -n 40 "$logs/$name.log"; }
    printf '%s\t%s\t%s\n' "$name" "$(($(date +%s) - start))" "$result" >>"$logs/steps.tsv"
}

# bench NAME SECONDS OPTION...: a small matrix, recorded in NAME.json
bench() {
    name=$1 limit=$2
    shift 2
    step "$name" "$limit" "$python" -m pytest benches/ --benchmark-only -q -p no:cacheprovider \
        "--peftbench-device=$device" --peftbench-methods=full,lora --peftbench-tasks=nli \
        --peftbench-batch-sizes=8,32 "--peftbench-work=$logs/work" "--peftbench-json=$logs/$name.json" "$@"
}

step cuda-tests 95 "$python" -m pytest tests/cuda -m cuda -q -rs -p no:cacheprovider
bench eager 85
bench again 70
bench graph 75 --peftbench-execution=graph --peftbench-energy=off
step bias 60 "$python" tools/check_bias.py "--device=$device" --batch-size=32 --rounds=100 "--json=$logs/bias.json"
step probes 40 "$python" tools/check_probes.py "--device=$device" "--json=$logs/probes.json"

"$python" tools/gpu_report.py "$logs" "--json=${JSON:-$logs/gpu_check.json}" || status=1
echo "logs and records: $logs"
exit $status
