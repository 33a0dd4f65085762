"""The machine: devices, precision, seeds, compiling, and what goes wrong on a device.

It imports config and what is below it.
"""
