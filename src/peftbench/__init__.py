"""peftbench measures what fine-tuning methods really cost."""

from peftbench.marks import bench

__all__ = ["bench"]
