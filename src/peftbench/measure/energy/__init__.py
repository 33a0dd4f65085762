"""What NVML tells: joules, clocks, throttling, memory of a process.

It imports records.
"""
