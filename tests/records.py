"""Records, as tests make them."""

from typing import Any

from peftbench.records.ids import Case, MethodSpec
from peftbench.records.record import Record

FINGERPRINT = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "peft": "0.21.2",
    "peftbench": "0.4.0",
    "cpu": "A Processor",
    "device": "cpu",
    "threads": "1",
}
SETTINGS = {"model": "tiny", "device": "cpu", "dtype": "float32", "data": "synthetic", "reference": "base"}


def a_record(method: str = "lora", **given: Any) -> Record:  # noqa: ANN401 - any fields of a record
    """Return a record with the id that the plugin gives; what is not given is that of `train_step[lora-nli-bs8]`."""
    named = {"workload": "train_step", "task": "nli", "batch_size": 8, "seq_len": 32, "status": "ok", **given}
    case = Case(MethodSpec(method), named["task"], named["batch_size"], tuple(named.get("variant", {}).items()))
    return Record(**{"id": f"{named['workload']}[{case.id}]", "method": method, **named})
