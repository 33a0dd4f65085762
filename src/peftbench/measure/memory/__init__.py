"""The memory that a round takes: on the device, and in the process.

It imports NVML's readings and the trial.
"""
