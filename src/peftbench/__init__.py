"""peftbench measures what fine-tuning methods really cost."""

from typing import TYPE_CHECKING, Any

from peftbench.marks import bench

if TYPE_CHECKING:
    from peftbench.api import apply_method

__all__ = ["apply_method", "bench"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name == "apply_method":  # not at import: every pytest run with the plugin installed would pay for it
        from peftbench.api import apply_method

        return apply_method
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
