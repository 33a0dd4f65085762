#!/bin/sh
# Runs all that needs a GPU, in under ten minutes, and prints a table: tools/gpu_check.sh [device, default cuda:0]
# Needs an environment in which peftbench is installed, with a PyTorch that is built with CUDA. Exit status 1 if a step fails.
set -u
cd "$(dirname "$0")/.." || exit 2

device=${1:-cuda:0}
python=${PYTHON:-python}
logs=$(mktemp -d)
table=$logs/table
status=0

if ! "$python" - "$device" <<'PYTHON'
import sys

import torch

from peftbench.device import device_named
from peftbench.errors import UserError
from peftbench.measure.nvml import Nvml

try:
    device = device_named(sys.argv[1])
except UserError as error:
    sys.exit(f"gpu_check: {error}")
print(f"{device}: {torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
with Nvml.of(device) as nvml:
    for name, reading in (("driver", nvml.driver_version()), ("energy", nvml.energy_j())):
        print(f"{name}: {reading.value if reading.value is not None else 'not available: ' + reading.reason}")
PYTHON
then
    exit 2
fi

# step NAME SECONDS COMMAND...: runs it within so many seconds, keeps its output, and adds a row to the table
step() {
    name=$1 limit=$2 start=$(date +%s)
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$logs/$name.log" 2>&1
    code=$?
    case $code in
        0) result=ok ;;
        124) result="stopped after $limit s" ;;
        *) result="exit $code" ;;
    esac
    [ "$code" -eq 0 ] || { status=1; tail -n 40 "$logs/$name.log"; }
    printf '%-22s %6s s  %s\n' "$name" "$(($(date +%s) - start))" "$result" >>"$table"
}

# bench NAME SECONDS OPTION...: a small matrix, recorded in NAME.json
bench() {
    name=$1 limit=$2
    shift 2
    step "$name" "$limit" "$python" -m pytest benches/ --benchmark-only -q -p no:cacheprovider \
        "--peftbench-device=$device" --peftbench-methods=full,lora --peftbench-tasks=nli \
        --peftbench-max-time=5 "--peftbench-json=$logs/$name.json" "$@"
}

step cuda-tests 180 "$python" -m pytest tests/cuda -m cuda -q -rs -p no:cacheprovider
bench float32 150 --peftbench-batch-sizes=1,32
bench bfloat16 150 --peftbench-batch-sizes=1,32 --peftbench-dtype=bfloat16
bench float32-again 100 --peftbench-batch-sizes=32

"$python" - "$logs" <<'PYTHON' || status=1
import json
import sys
from pathlib import Path

runs = {}
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    for record in json.loads(path.read_text())["records"]:
        runs[path.stem, record["id"]] = record


def value(record, name):
    return (record or {"metrics": {}})["metrics"].get(name, {}).get("value")


def ratio(first, second):
    return f"{first / second:.4f}" if first and second else "-"


print(f"\n{'run':14} {'case':32} {'wall ms':>9} {'event/wall':>10} {'again/first':>11} {'peak MiB':>9}  status")
for (run, case), record in runs.items():
    wall_s, peak = value(record, "time_s"), value(record, "peak_allocated_bytes")
    again = ratio(value(runs.get((f"{run}-again", case)), "time_s"), wall_s)
    wall_ms = f"{wall_s * 1e3:.3f}" if wall_s else "-"
    peak_mib = f"{peak / 2**20:.0f}" if peak else "-"
    event = ratio(value(record, "device_s"), wall_s)
    print(f"{run:14} {case:32} {wall_ms:>9} {event:>10} {again:>11} {peak_mib:>9}  {record['status']} {record['reason']}")
PYTHON

echo
printf '%-22s %8s  %s\n' step time result
cat "$table"
echo "logs and records: $logs"
exit $status
