"""Runtimes: the exported graph, its surgery, and the process that runs and measures it."""
