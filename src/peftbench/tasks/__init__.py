"""What is learned: rows, examples, batches, labels and scores of each task.

It imports devices and what is below it.
"""
