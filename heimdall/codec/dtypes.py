"""The types of tensors that a checkpoint keeps, by all the names that they have. One table, without torch."""

from typing import NamedTuple


class Kind(NamedTuple):
    name: str
    """As the file format calls it."""
    num_bytes: int
    torch: str
    numpy: str = ""
    """Kind and size of the numpy type that is kept as this one; empty: none."""
    struct: str = ""
    """As the module struct calls it; empty: it has no such type."""


KINDS = (
    Kind("F64", 8, "float64", "f8", "d"),
    Kind("F32", 4, "float32", "f4", "f"),
    Kind("F16", 2, "float16", "f2", "e"),
    Kind("BF16", 2, "bfloat16"),
    Kind("I64", 8, "int64", "i8", "q"),
    Kind("I32", 4, "int32", "i4", "i"),
    Kind("I16", 2, "int16", "i2", "h"),
    Kind("I8", 1, "int8", "i1", "b"),
    Kind("U64", 8, "uint64", "u8", "Q"),
    Kind("U32", 4, "uint32", "u4", "I"),
    Kind("U16", 2, "uint16", "u2", "H"),
    Kind("U8", 1, "uint8", "u1", "B"),
    Kind("BOOL", 1, "bool", "b1", "?"),
    Kind("C64", 8, "complex64", "c8"),
    Kind("F8_E4M3", 1, "float8_e4m3fn"),
    Kind("F8_E5M2", 1, "float8_e5m2"),
    Kind("F8_E4M3FNUZ", 1, "float8_e4m3fnuz"),
    Kind("F8_E5M2FNUZ", 1, "float8_e5m2fnuz"),
)
NUM_BYTES = {kind.name: kind.num_bytes for kind in KINDS}
NUMPY_NAMES = {kind.numpy: kind.name for kind in KINDS if kind.numpy}
STRUCT_CODES = {kind.name: kind.struct for kind in KINDS if kind.struct}
