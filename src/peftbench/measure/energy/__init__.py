"""Readings of NVML: joules, clocks, throttling, memory of a process.

It imports records.
"""
