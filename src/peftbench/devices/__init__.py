"""The machine: devices, precision, seeds, compiling, and failures of a device.

It imports config and the rooms below it.
"""
