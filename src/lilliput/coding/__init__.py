"""The entropy coder and the packed container."""

from lilliput.coding.container import PackStats, pack
from lilliput.coding.estimate import estimate_bits
from lilliput.coding.header import read_header
from lilliput.coding.matrix import code_bytes, encode_matrix
from lilliput.coding.matrix_decoder import decode_matrix
from lilliput.coding.unpacking import unpack

__all__ = [
    "PackStats",
    "code_bytes",
    "decode_matrix",
    "encode_matrix",
    "estimate_bits",
    "pack",
    "read_header",
    "unpack",
]
