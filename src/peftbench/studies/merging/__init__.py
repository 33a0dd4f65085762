"""Merging the adapters of several tasks into one: bytes that are stored against quality that is left.

It imports the studies' common base and trainings, and the methods of PEFT.
"""
