"""What one connection may use of the daemon."""

import msgspec


class ConnectionLimits(msgspec.Struct, frozen=True):
    """The bounds of one connection. Bytes, counts and seconds."""

    max_request_bytes: int
    max_requests: int
    max_bytes: int
    max_answer_bytes: int
    answer_stall: float
    frame_stall: float
    thread_decode_bytes: int
    default_ttl: float
    max_ttl: float

    @property
    def largest_whole(self) -> int:
        """Bytes of a request that is neither too large nor decoded aside."""
        return min(self.max_request_bytes, self.thread_decode_bytes)
