"""The wire format of Protocol Buffers, as far as it is read without their library."""

LONGEST = 10  # bytes of a number of 64 bits


def read_varint(content: bytes, at: int = 0) -> tuple[int, int]:
    """(the number that begins at `at`, where it ends): seven bits per byte, the lowest first; all
    bytes but the last have the eighth bit.

    Raises:
        ValueError: if `content` ends inside the number, or it has more than 64 bits.
    """
    value = shift = 0
    for place in range(at, min(at + LONGEST, len(content))):
        value |= (content[place] & 127) << shift
        if content[place] < 128:
            return value, place + 1
        shift += 7
    if at + LONGEST <= len(content):
        raise ValueError("a number has more than 64 bits")
    raise ValueError("it ends inside a number")
