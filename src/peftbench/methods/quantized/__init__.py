"""Backbones in eight or four bits: how linear layers are quantised in place, and what tensors really hold the weights.

It imports no other room of the methods.
"""
