"""Widths and blocks of a model: found on its graph, changed with a proof."""
