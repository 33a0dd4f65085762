"""Serving several tasks: full models, one multi-task model, one backbone with adapters."""
