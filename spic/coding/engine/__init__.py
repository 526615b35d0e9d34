"""Engines: the same bytes as spic/coding/reference.py, fast. An engine knows arrays only; spic/coding/coder.py wraps it.

encode(matrix int32 [B, N], contexts int32 [N]) -> (buffer uint8, starts int64 [B], stops int64 [B])
decode(buffer uint8, offsets int64 [B + 1], contexts int32 [N]) -> (matrix int32 [B, N], status int32 [B], see STATUS)
"""

OK, TRUNCATED, BAD_ESCAPE, LEFT_OVER = range(4)

STATUS = {
    TRUNCATED: "the payload ends within a code",
    BAD_ESCAPE: "an impossible escape",
    LEFT_OVER: "bytes left over, or a wrong end of the payload",
}
"""What a decoder found wrong with a payload."""

PADDING = 8
"""Bytes that follow the last payload in a decoder's buffer, so that wide reads stay inside."""
