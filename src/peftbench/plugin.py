"""The pytest plugin: hooks and fixtures that only wire."""
