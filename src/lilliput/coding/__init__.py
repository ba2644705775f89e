"""The entropy coder and the packed container."""

from lilliput.coding.matrix import code_bytes, decode_matrix, encode_matrix, estimate_bits

__all__ = ["code_bytes", "decode_matrix", "encode_matrix", "estimate_bits"]
