"""A cache of keys and values of a fixed size that is put back to its first state before each round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from peftbench.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import StaticCache


@dataclass(frozen=True, slots=True)
class RewindingCache:
    """A static cache of transformers, and the lengths to which its layers are put back.

    Only the lengths are put back, by one operator for all layers. What lies behind them is masked by the model, and the
    round writes it again.
    """

    cache: StaticCache
    lengths: list[torch.Tensor]
    """The number of tokens that each layer holds, a tensor on the device that the layer itself counts up."""
    starts: list[torch.Tensor]
    """What the lengths are at the begin of a round."""
    sliding: Sequence[Any]
    """Layers with a sliding window, which count their tokens in a number of Python's, too."""
    start: int
    """That number at the begin of a round."""

    @classmethod
    def of(cls, cache: StaticCache, *, start: int, adds: int) -> Self:
        """Return a cache that is put back to `start` tokens before a round that adds some.

        Args:
            cache: Holds at least `start` tokens of each row.
            start: Number of tokens.
            adds: Number of tokens that a round adds.

        Raises:
            UnsupportedError: the round would move tokens out of a sliding window, which cannot be put back.
        """
        from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

        for layer in cache.layers:
            if type(layer) not in (StaticLayer, StaticSlidingWindowLayer):
                raise UnsupportedError(f"a cache with {type(layer).__name__} cannot be put back between rounds")
            if start and start + adds > layer.max_cache_len:
                raise UnsupportedError(
                    f"a sliding window of {layer.max_cache_len} tokens is full at {start + adds} tokens, "
                    "and cannot be put back between rounds"
                )
        lengths = [layer.cumulative_length for layer in cache.layers]
        return cls(
            cache=cache,
            lengths=lengths,
            starts=[torch.full_like(length, start) for length in lengths],
            sliding=[layer for layer in cache.layers if type(layer) is StaticSlidingWindowLayer],
            start=start,
        )

    def rewind(self) -> None:
        """Put the cache back to its first state."""
        torch._foreach_copy_(self.lengths, self.starts)
        for layer in self.sliding:
            layer.cumulative_length_int = self.start

    @property
    def size_bytes(self) -> int:
        """Bytes of keys and values."""
        return size_bytes(self.cache)


def size_bytes(cache: StaticCache) -> int:
    """Return the bytes of keys and values of a cache that has been used."""
    return sum(part.untyped_storage().nbytes() for layer in cache.layers for part in (layer.keys, layer.values))


def filled_cache(model: torch.nn.Module, tokens: torch.Tensor, capacity: int, *, name: str) -> tuple[StaticCache, Any]:
    """Return a static cache that a model has filled, and the output of the model.

    Args:
        model: The model that is called, which has a `config`.
        tokens: [batch, tokens], which the cache holds at the end.
        capacity: Largest number of tokens of a row.
        name: Name of the method, for the error.

    Raises:
        UnsupportedError: the model did not use the cache, or put it into one of its own.
    """
    from transformers import StaticCache

    called: Any = model
    cache = StaticCache(config=called.config.get_text_config(decoder=True), max_cache_len=capacity)
    output = called(input_ids=tokens, past_key_values=cache, use_cache=True)
    if not cache.is_initialized or output.past_key_values is not cache:
        raise UnsupportedError(f"{name} puts a cache of its own in the place of the static one that is measured")
    return cache, output
