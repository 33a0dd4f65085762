"""What a round takes of a device's memory, and of the process's.

It imports NVML's readings and the trial.
"""
