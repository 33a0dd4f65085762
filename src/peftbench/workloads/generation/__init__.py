"""The workloads of generation: prefill, one token with a cache, and transformers' own `generate`.

It imports the other workloads and the rooms below them.
"""
