"""How one case is measured: a probe a module, each on plain functions and tensors.

It imports data and what is below it; it knows no workload.
"""
