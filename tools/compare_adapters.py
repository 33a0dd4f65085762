"""Compares the step time of the paper's methods here with that of the `adapters` library.

The two libraries need different versions of transformers, so each runs in a process of its own environment (see
tools/golden/requirements.txt for the other one). Their training steps alternate in lock-step, so that a disturbance of
the machine hits both. It prints the median over rounds of our time / their time. The ratio of `head`, the plain model
with a trained head, shows how much of a ratio is due to the two versions of transformers.

    python tools/compare_adapters.py --theirs golden/bin/python
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FRAMES: Final = Path(__file__).resolve().parents[1] / "src" / "peftbench" / "measure" / "time" / "frames.py"
"""Read by its path, since the other environment has no peftbench."""
METHODS: Final = (
    "head",
    "houlsby",
    "pfeiffer",
    "houlsby-parallel",
    "pfeiffer-parallel",
    "par-bn",
    "compacter",
    "compacter++",
    "prefix",
    "adapterfusion",
)


class Worker:
    """A process of one environment, which makes a training step for each request."""

    def __init__(self, python: str, role: str, options: argparse.Namespace) -> None:
        shape = json.dumps({name: getattr(options, name) for name in ("hidden", "layers", "batch_size", "seq_len")})
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
        if role == "theirs":
            environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(  # noqa: S603 # the interpreter that the user named
            [python, str(Path(__file__).resolve()), "--worker", role, "--shape", shape],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: str) -> float:
        """Send a method's name, which prepares the method, or `step`; return the seconds that this took."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self.process.stdin.write(f"{request}\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            raise SystemExit(f"the worker ended at {request!r}; its error is above")
        return float(reply)


def ours(method: str, model: PreTrainedModel) -> tuple[PreTrainedModel, Callable[[], object]]:
    """Apply our method; return the model and the function that gives its auxiliary loss."""
    from peftbench.methods.base import Application
    from peftbench.methods.paper import bottleneck, fusion, prefix

    known = {known.name: known for known in (*bottleneck.METHODS, *prefix.METHODS, *fusion.METHODS)}
    applied = known[method].apply(model, Application(task=None))  # these methods do not look at the task
    return applied, lambda: known[method].auxiliary_loss(applied)


def theirs(method: str, model: PreTrainedModel) -> tuple[PreTrainedModel, Callable[[], object]]:
    """Apply the library's method; return the model and the function that gives its auxiliary loss."""
    import adapters

    configs = {
        "houlsby": adapters.DoubleSeqBnConfig(),
        "pfeiffer": adapters.SeqBnConfig(),
        "houlsby-parallel": adapters.DoubleSeqBnConfig(is_parallel=True),
        "pfeiffer-parallel": adapters.SeqBnConfig(is_parallel=True),
        "par-bn": adapters.ParBnConfig(),
        "compacter": adapters.CompacterConfig(),
        "compacter++": adapters.CompacterPlusPlusConfig(),
        "prefix": adapters.PrefixTuningConfig(flat=False),
    }
    adapters.init(model)
    if method == "adapterfusion":
        names = [str(number) for number in range(6)]
        for name in names:
            model.add_adapter(name, config=adapters.SeqBnConfig())
        model.add_adapter_fusion(adapters.Fuse(*names))
        model.train_adapter_fusion(adapters.Fuse(*names))
        return model, model.base_model.get_fusion_regularization_loss
    model.add_adapter("one", config=configs[method])
    model.train_adapter("one")
    return model, lambda: None


def make_step(role: str, method: str, shape: dict[str, int]) -> Callable[[], None]:
    """Return a training step: forward, backward, AdamW, cleared gradients."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=1000,
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["hidden"] // 64,
        intermediate_size=4 * shape["hidden"],
        num_labels=3,
    )
    model = XLMRobertaForSequenceClassification(config)
    if method == "head":
        model.base_model.requires_grad_(requires_grad=False)
        auxiliary_loss: Callable[[], object] = lambda: None  # noqa: E731
    else:
        model, auxiliary_loss = {"ours": ours, "theirs": theirs}[role](method, model)
    model.train()
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    input_ids = torch.randint(5, 1000, (shape["batch_size"], shape["seq_len"]))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[0, shape["seq_len"] // 2 :] = 0
    labels = torch.zeros(shape["batch_size"], dtype=torch.long)

    def step() -> None:
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
        auxiliary = auxiliary_loss()
        if auxiliary is not None:
            loss = loss + auxiliary
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def work(role: str, shape: dict[str, int]) -> None:
    """Answer the requests on standard input.

    Steps run where their frames have room, as cases do. The two libraries call each other to different depths, and one
    of them would otherwise pay for the end of a chunk of frames.
    """
    with_room = runpy.run_path(str(FRAMES))["with_room"]
    step: Callable[[], None] = lambda: None  # noqa: E731
    for line in sys.stdin:
        request = line.strip()
        begin = time.perf_counter()
        if request == "step":
            with_room(step)
        else:
            step = make_step(role, request, shape)
            gc.collect()
        print(time.perf_counter() - begin, flush=True)


def main() -> None:
    """Compare the two libraries, or run as a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theirs", help="python of the environment that has `adapters`")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--worker", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.shape)
        return
    if not options.theirs:
        parser.error("--theirs is needed: the python of an environment made from tools/golden/requirements.txt")
    pair = (Worker(sys.executable, "ours", options), Worker(options.theirs, "theirs", options))
    print(f"{'method':18} {'ours':>9} {'theirs':>9}  ours/theirs (quartiles)")
    for method in options.methods:
        for worker in pair:
            worker.ask(method)
        times: list[tuple[float, float]] = []
        for number in range(options.warmup + options.rounds):
            first, second = pair if number % 2 == 0 else pair[::-1]
            seconds = {first: first.ask("step"), second: second.ask("step")}
            times.append((seconds[pair[0]], seconds[pair[1]]))
        del times[: options.warmup]
        low, middle, high = statistics.quantiles((mine / other for mine, other in times), n=4)
        mine_ms, other_ms = (1000 * statistics.median(column) for column in zip(*times, strict=True))
        print(f"{method:18} {mine_ms:6.1f} ms {other_ms:6.1f} ms  {middle:.3f} ({low:.3f} .. {high:.3f})")


if __name__ == "__main__":
    main()
