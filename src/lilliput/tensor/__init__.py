"""Arithmetic: tensors in, tensors out; no module, no settings."""
