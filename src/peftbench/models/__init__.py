"""The backbone: presets, folders and hub ids, and how a model with a task's head is built.

It imports methods and what is below them.
"""
