"""The validity pass: it proves that a method trains exactly what it promises. Without that no time is reported.

It imports workloads and the rooms below them.
"""
