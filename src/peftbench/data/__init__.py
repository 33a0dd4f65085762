"""Where rows come from: synthetic text, files, the hub.

It imports models and what is below them.
"""
