"""Two states of the code side by side: how each is made, and how their rounds alternate.

It imports launches.
"""
