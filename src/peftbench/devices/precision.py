"""The settings that change results and speed of a device: dtype, autocast, TF32, attention, optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self

from peftbench.config.choices import ATTENTIONS, AUTO, DTYPES, OPTIMIZERS
from peftbench.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

    from peftbench.config.settings import Settings

AMPERE: Final = (8, 0)
"""Least compute capability of a GPU for bfloat16, TF32 and flash attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How a model computes. All fields belong in the record."""

    dtype: str = "float32"
    autocast: bool = False
    """True: weights are float32, and operators run in `dtype` where that is safe. False: weights are in `dtype`."""
    tf32: bool = False
    """Whether float32 matrix products and convolutions run on tensor cores with 10 bits of mantissa."""
    attention: str = "sdpa"
    optimizer: str = "fused"

    @classmethod
    def of(cls, settings: Settings, device: torch.device | None = None) -> Self:
        """Return the precision of the settings on a device.

        Args:
            settings: The settings. The dtype `auto` is bfloat16 under autocast, as trainings do today, on a CUDA device
                that has it. It is float32 on any other device.
            device: None: it is not known yet.

        Raises:
            UserError: settings exclude each other.
        """
        dtype, autocast = settings.dtype, settings.autocast
        if dtype == AUTO:
            half = autocast if device is None else _has_bfloat16(device)
            dtype, autocast = ("bfloat16", True) if half else ("float32", autocast)
        return cls(
            dtype=dtype,
            autocast=autocast,
            tf32=settings.tf32,
            attention=settings.attention,
            optimizer=settings.optimizer,
        )

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("dtype", self.dtype, DTYPES),
            ("attention", self.attention, ATTENTIONS),
            ("optimizer", self.optimizer, OPTIMIZERS),
        ):
            if name not in known:
                raise unknown(kind, name, known)
        if self.autocast and self.dtype == "float32":
            raise UserError("autocast to float32 does nothing: choose dtype bfloat16 or float16, or no autocast")
        if self.attention == "flash_attention_2" and self.dtype == "float32":
            raise UserError("attention flash_attention_2 computes in bfloat16 or float16 only, and dtype is float32")

    @property
    def weights_dtype(self) -> str:
        """The dtype in which the model is built."""
        return "float32" if self.autocast else self.dtype

    @property
    def untrainable(self) -> str:
        """The reason why a model cannot be trained at this precision, or ''."""
        if self.dtype == "float16" and not self.autocast:
            return "float16 weights cannot be trained: small gradients vanish, and a scaler needs float32 weights"
        return ""

    def describe(self) -> dict[str, object]:
        """Return the settings as JSON types."""
        return asdict(self)

    def require(self, device: torch.device) -> None:
        """Check that `device` supports the settings.

        Raises:
            UserError: it does not; names the setting, and what the device lacks.
        """
        if device.type == "cuda":
            self._require_capability(device)
        elif self.tf32:
            raise UserError(f"TF32 is a format of CUDA devices; the device is {device}")
        elif self.attention == "flash_attention_2":
            raise UserError(f"attention flash_attention_2 needs a CUDA device; the device is {device}")
        if self.attention == "flash_attention_2" and find_spec("flash_attn") is None:
            raise UserError("attention flash_attention_2 needs the package flash-attn, which is not installed")

    def _require_capability(self, device: torch.device) -> None:
        import torch

        needs_ampere = {
            "dtype bfloat16": self.dtype == "bfloat16",
            "TF32": self.tf32,
            "attention flash_attention_2": self.attention == "flash_attention_2",
        }
        capability = torch.cuda.get_device_capability(device)
        for what, needed in needs_ampere.items():
            if needed and capability < AMPERE:
                name, (major, minor) = torch.cuda.get_device_name(device), capability
                raise UserError(f"{what} needs compute capability 8.0; {name} ({device}) has {major}.{minor}")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Switch TF32 on or off for the process, and restore it at the end."""
        import torch

        matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            torch.backends.cudnn.allow_tf32 = convolution

    def forward_context(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context of forward and loss. Backward runs outside of it."""
        import torch

        if not self.autocast:
            return nullcontext()
        return torch.autocast(device.type, dtype=getattr(torch, self.dtype))

    def scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """Return the loss scaler that float16 autocast needs, or None."""
        import torch

        if not (self.autocast and self.dtype == "float16"):
            return None
        return torch.amp.GradScaler(device.type)

    def optimizer_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that choose the implementation of a PyTorch optimizer."""
        return {"foreach": False} if self.optimizer == "loop" else {self.optimizer: True}


def _has_bfloat16(device: torch.device) -> bool:
    import torch

    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
