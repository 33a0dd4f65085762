"""peftbench measures what fine-tuning methods really cost."""
