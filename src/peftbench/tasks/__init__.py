"""The tasks: rows, examples, batches, labels and scores of each.

It imports devices and the rooms below it.
"""
