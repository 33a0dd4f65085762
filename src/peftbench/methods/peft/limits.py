"""The bounds of a configuration: dimensions of the adapted layers, and positions of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from peftbench.errors import UserError
from peftbench.methods.peft.overrides import culprit_of

if TYPE_CHECKING:
    from peft import PeftConfig

    from peftbench.methods.base import Application
    from peftbench.methods.peft.layers import Layers


def require_room(method: str, config: PeftConfig, application: Application) -> None:
    """Check that text and prompt together fit the model's positions.

    Raises:
        UnsupportedError, with overrides UserError: they do not.
    """
    tokens, positions = application.tokens, application.positions
    prompt = cast("Any", config).num_virtual_tokens
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
