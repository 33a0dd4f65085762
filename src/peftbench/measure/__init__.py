"""The probes that measure one case: one probe a module, each on plain functions and tensors.

It imports data and the rooms below it. It knows no workload.
"""
