"""Engines: the bytes of spic/coding/reference.py, fast. An engine is made for one table and one number of symbols N.

encode(matrix int32 tensor [B, N] on the engine's device, contexts int32 array [N]) → list of B payloads
decode(payloads, contexts) → (matrix int32 tensor [B, N], status int32 array [B], see STATUS)
"""

OK, TRUNCATED, BAD_ESCAPE, LEFT_OVER = range(4)

STATUS = {
    TRUNCATED: "the payload ends within a code",
    BAD_ESCAPE: "an impossible escape",
    LEFT_OVER: "bytes left over, or a wrong end of the payload",
}
"""What a decoder found wrong with a payload."""
