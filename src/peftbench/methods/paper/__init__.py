"""The paper's methods, which no library offers for transformers 5: adapters, prefix, AdapterDrop, fusion, multi-task.

It imports the methods' common base.
"""
