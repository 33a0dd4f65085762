"""Compares rounds of prefill, decode and generate with loops that are written by hand, alternated in one process.

Prints the ratio of the two times.

    python tools/check_generation.py [--model tiny-llama] [--device cpu] [--rounds 200]

Both sides run the same model. The loop of decode puts token after token into a static cache of the same size, and
fills it again, untimed, when it is full. The other side of generate is a plain call of transformers' own. The aim is a
ratio within 2 % of 1 for decode, and within 1 % for generate.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tools.by_hand import alternated, by_hand

from peftbench.config.settings import Settings
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.clock import clock_for
from peftbench.workloads.backend import Backend
from peftbench.workloads.generation.inputs import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from peftbench.measure.time.clock import Timing
    from peftbench.measure.time.rounds import TimedRound
    from peftbench.measure.trial import Trial
    from peftbench.workloads.subject import Subject

STEPS = 16
"""Tokens that the loop of decode puts into its cache before it is filled again."""


def prefill(model: Any, subject: Subject, tokens: int, device: torch.device) -> TimedRound:  # noqa: ANN401 - not typed
    """Return passes over the prompts; the cache is reset between them, untimed."""
    from transformers import StaticCache

    cache = StaticCache(config=model.config, max_cache_len=tokens)
    prompts = [rows_of(batch, tokens) for batch in subject.batches]

    @torch.inference_mode()
    def call(number: int) -> torch.Tensor:
        prompt = prompts[number % len(prompts)]
        output = model(input_ids=prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1].argmax(-1)

    timed = by_hand(call, device)

    def reset_and_timed(number: int) -> Timing:
        with torch.inference_mode():
            cache.reset()
        return timed(number)

    return reset_and_timed


def decode(model: Any, subject: Subject, tokens: int, device: torch.device) -> TimedRound:  # noqa: ANN401 - not typed
    """Return a loop that puts token after token into a cache with room for `tokens` and one more."""
    from transformers import StaticCache

    called = model.get_base_model() if hasattr(model, "get_base_model") else model
    cache = StaticCache(config=model.config, max_cache_len=tokens + 1)
    prompt = rows_of(subject.batches[0], tokens + 1 - STEPS)
    state: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def call(number: int) -> None:
        del number
        output = called(input_ids=state["token"], past_key_values=cache, use_cache=True)
        state["token"] = output.logits[:, -1].argmax(-1, keepdim=True)

    timed = by_hand(call, device)

    def filled_and_timed(number: int) -> Timing:
        with torch.inference_mode():
            if not state or int(cache.get_seq_length()) > tokens:
                cache.reset()
                output = called(input_ids=prompt, past_key_values=cache, use_cache=True)
                state["token"] = output.logits[:, -1].argmax(-1, keepdim=True)
                call(number)  # the caches of the CPU hold a step again, as in all other rounds
        return timed(number)

    return filled_and_timed


def generate(model: Any, subject: Subject, tokens: int, device: torch.device, new: int) -> TimedRound:  # noqa: ANN401
    """Return plain calls of transformers' `generate`."""
    prompts = [rows_of(batch, tokens) for batch in subject.batches]

    def call(number: int) -> torch.Tensor:
        prompt = prompts[number % len(prompts)]
        found: torch.Tensor = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new,
            do_sample=False,
            cache_implementation="static",
            disable_compile=True,
        )
        return found

    return by_hand(call, device)


def main() -> None:
    """Print a line for each workload, method and batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workloads", nargs="+", default=["prefill", "decode", "generate"])
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=128, help="of prompts, and in the cache of decode")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200, help="of prefill and decode; generate takes a fifth of them")
    options = parser.parse_args()
    settings = Settings(model=options.model, device=options.device)
    torch.set_num_threads(settings.threads)
    catalogue = Catalogue.load()
    backend = Backend.open(settings, catalogue, [catalogue.task("sft")])
    clock, device, tokens = clock_for(backend.device), backend.device, options.tokens
    for batch_size in options.batch_sizes:
        group = backend.group("sft", batch_size)
        for method in options.methods:
            subject = group.subject(parse_method(method))
            sides: tuple[tuple[str, dict[str, int], Callable[[Any], TimedRound], int], ...] = (
                ("prefill", {"prompt": tokens}, lambda m, s=subject: prefill(m, s, tokens, device), 1),
                ("decode", {"cache": tokens}, lambda m, s=subject: decode(m, s, tokens, device), 1),
                (
                    "generate",
                    {"prompt": tokens, "new": options.new_tokens},
                    lambda m, s=subject: generate(m, s, tokens, device, options.new_tokens),
                    5,
                ),
            )
            for name, lengths, make, share in (side for side in sides if side[0] in options.workloads):
                changes: dict[str, Any] = dict(lengths)
                with closing(replace(catalogue.workload(name), **changes).trial(subject)) as trial:

                    def ours(number: int, trial: Trial = trial) -> Timing:
                        return clock.time(partial(trial.run, number))

                    plain = make(trial.model)
                    metrics = alternated(ours, plain, rounds=max(options.rounds // share, 20))
                ratio, time_s = metrics["ratio"], metrics["time_s"]
                print(
                    f"{name:8} {method:12} batch size {batch_size}: ours / by hand {ratio.value:.4f} "
                    f"[{ratio.low:.4f}, {ratio.high:.4f}], ours {1e3 * (time_s.value or 0):.3f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
