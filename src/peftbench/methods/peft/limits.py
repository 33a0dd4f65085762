"""The bounds of a configuration: dimensions of the adapted layers, positions of the model, packed examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.peft.overrides import culprit_of

if TYPE_CHECKING:
    from peft import PeftConfig

    from peftbench.methods.base import Application
    from peftbench.methods.peft.layers import Layers


def require_sequences(method: str, config: PeftConfig, application: Application) -> None:
    """Check that a configuration can do with the sequences to come: packed or not, and as long as they are.

    Raises:
        UnsupportedError: they are packed, and it adapts a sequence as a whole.
        UnsupportedError, with overrides UserError: text and prompt together do not fit the model's positions.
    """
    if application.packed and (why := _why_not_packed(config)):
        raise UnsupportedError(f"{method} {why}")
    if config.is_prompt_learning:
        _require_room(method, cast("Any", config).num_virtual_tokens, application)


def _why_not_packed(config: PeftConfig) -> str:
    """Return what a configuration does to a sequence as a whole, or ''."""
    if config.is_prompt_learning:
        return "puts a prompt before a sequence, not before each packed example"
    if getattr(config, "alora_invocation_tokens", None):
        return "works from one invocation of a sequence on, not from each packed example's"
    return ""


def _require_room(method: str, prompt: int, application: Application) -> None:
    tokens, positions = application.tokens, application.positions
    if tokens is not None and positions is not None and tokens + prompt > positions:
        room = positions - prompt
        advice = f"give --peftbench-seq-len={room} or less" if room > 0 else "give fewer num_virtual_tokens"
        why = f"{method} puts {prompt} tokens before {tokens}, and the model has positions for {positions}"
        raise culprit_of(application)(f"{why}: {advice}")


def check_dimensions(
    method: str, layers: Layers, overrides: Mapping[str, Any], *, ranks: Sequence[str], blocks: Sequence[str]
) -> None:
    """Check overrides against the dimensions of the adapted layers.

    Args:
        method: The method's name.
        layers: The adapted layers.
        overrides: What the user gave.
        ranks: Fields that no dimension may be less than.
        blocks: Fields that must divide every dimension.

    Raises:
        UserError: one does not fit.
    """
    if not layers.smallest:
        return
    for name in ranks:
        if name in overrides and not 1 <= overrides[name] <= layers.smallest:
            raise UserError(
                f"{method}({name}={overrides[name]}): must be from 1 to {layers.smallest}, "
                "the smallest dimension of the adapted layers"
            )
    for name in blocks:
        if name in overrides and overrides[name] not in (divisors := layers.divisors(layers.common)):
            raise UserError(
                f"{method}({name}={overrides[name]}): must divide the dimensions of the adapted layers: "
                f"one of {', '.join(str(number) for number in divisors)}"
            )
