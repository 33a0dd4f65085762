"""Launches: the same cases in several fresh processes, each a pytest run of its own."""
