"""Ways to fine-tune a model: those of the paper, all of PEFT, and full fine-tuning.

It imports tasks and what is below them.
"""
