"""The proof that a method trains exactly what it promises to: without it there is no time.

It imports workloads and what is below them.
"""
