"""The types of tensors that a checkpoint keeps, by all the names that they have. One table, without torch."""

from typing import NamedTuple


class TensorType(NamedTuple):
    name: str
    """As the file format calls it."""
    num_bytes: int
    torch: str
    numpy: str = ""
    """TensorType and size of the numpy type that is kept as this one; empty: none."""
    struct: str = ""
    """As the module struct calls it; empty: it has no such type."""


TYPES = (
    TensorType("F64", 8, "float64", "f8", "d"),
    TensorType("F32", 4, "float32", "f4", "f"),
    TensorType("F16", 2, "float16", "f2", "e"),
    TensorType("BF16", 2, "bfloat16"),
    TensorType("I64", 8, "int64", "i8", "q"),
    TensorType("I32", 4, "int32", "i4", "i"),
    TensorType("I16", 2, "int16", "i2", "h"),
    TensorType("I8", 1, "int8", "i1", "b"),
    TensorType("U64", 8, "uint64", "u8", "Q"),
    TensorType("U32", 4, "uint32", "u4", "I"),
    TensorType("U16", 2, "uint16", "u2", "H"),
    TensorType("U8", 1, "uint8", "u1", "B"),
    TensorType("BOOL", 1, "bool", "b1", "?"),
    TensorType("C64", 8, "complex64", "c8"),
    TensorType("F8_E4M3", 1, "float8_e4m3fn"),
    TensorType("F8_E5M2", 1, "float8_e5m2"),
    TensorType("F8_E4M3FNUZ", 1, "float8_e4m3fnuz"),
    TensorType("F8_E5M2FNUZ", 1, "float8_e5m2fnuz"),
)
NUM_BYTES = {one.name: one.num_bytes for one in TYPES}
NUMPY_NAMES = {one.numpy: one.name for one in TYPES if one.numpy}
STRUCT_CODES = {one.name: one.struct for one in TYPES if one.struct}
