"""What identifies a request, and how its number was decided: what a channel keeps."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

if TYPE_CHECKING:
    from hashlib import blake2b

DIGEST_BYTES: Final = 8


def digest(method: str, arguments: bytes) -> bytes:
    """Identifies a request: 8 bytes of BLAKE2b over its method and its argument bytes."""
    return digests(method, (arguments,))


def digests(method: str, requests: Iterable[bytes]) -> bytes:
    """The digests of several requests of one method, in one piece."""
    keyed = _keyed(method)
    made = []
    for arguments in requests:
        state = keyed.copy()
        state.update(arguments)
        made.append(state.digest())
    return b"".join(made)


@cache
def _keyed(method: str) -> "blake2b":
    from hashlib import blake2b  # only the daemon makes digests, and OpenSSL comes along

    return blake2b(digest_size=DIGEST_BYTES, key=method.encode()[:64])


_encode = msgspec.msgpack.Encoder().encode


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a number was decided; ``error`` is nil, or the error as it stood on the wire."""

    seq: int
    digest: bytes
    error: tuple[str, str, dict[str, object] | None] | None
    result: msgspec.Raw

    @property
    def answer_bytes(self) -> int:
        """The size of what the client is told."""
        size = len(self.result)
        return size if self.error is None else size + len(_encode(self.error))

    @property
    def last(self) -> int:
        """The highest number this is the receipt of."""
        return self.seq

    def of(self, seq: int) -> "Receipt | None":
        """The receipt of a number, None if it is another's."""
        return self if seq == self.seq else None


class IdReceipts(msgspec.Struct, frozen=True, gc=False):
    """Receipts of consecutive numbers, from ``seq`` on, whose results are consecutive ids."""

    seq: int
    first_id: int
    digests: bytes

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.digests) // DIGEST_BYTES

    @property
    def last(self) -> int:
        """The highest number among them."""
        return self.seq + self.count - 1

    @property
    def answer_bytes(self) -> int:
        """At most the size of what the client is told."""
        return self.count * len(_encode(self.first_id + self.count - 1))

    def of(self, seq: int) -> Receipt | None:
        """The receipt of a number, None if it is not among them."""
        index = seq - self.seq
        if not 0 <= index < self.count:
            return None
        one = self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        return Receipt(seq, one, None, msgspec.Raw(_encode(self.first_id + index)))


Receipts = Receipt | IdReceipts


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """The receipts of one channel and one batch, as one row keeps them.

    ``runs`` holds message ids as ``(first seq, first id, digests)``: both rise by one along the
    joined digests. ``others`` holds every other receipt whole.
    """

    runs: list[tuple[int, int, bytes]]
    others: list[Receipt]


_Number = Annotated[int, msgspec.Meta(ge=0)]
_decode_stored = msgspec.msgpack.Decoder(Stored).decode
_decode_number = msgspec.msgpack.Decoder(_Number).decode
_decode_numbers = msgspec.msgpack.Decoder(list[_Number]).decode


def store_receipts(receipts: Iterable[Receipts]) -> bytes:
    """Receipts in rising order as the bytes of one row."""
    runs: list[tuple[int, int, bytearray]] = []
    others: list[Receipt] = []
    for together, group in groupby(receipts, lambda each: isinstance(each, IdReceipts)):
        alike: list[Any] = list(group)
        if together:
            for each in alike:
                _join(runs, each.seq, each.first_id, each.digests)
            continue
        for receipt, number in zip(alike, _numbers(alike), strict=True):
            if number is None:
                others.append(receipt)
            else:
                _join(runs, receipt.seq, number, receipt.digest)
    return _encode((runs, others))


def _join(runs: list[tuple[int, int, bytearray]], seq: int, number: int, digests: bytes) -> None:
    """Add receipts of ids to the last run if they continue it, else as a run of their own."""
    if runs:
        first_seq, first_id, joined = runs[-1]
        length = len(joined) // DIGEST_BYTES
        if seq == first_seq + length and number == first_id + length:
            joined += digests
            return
    runs.append((seq, number, bytearray(digests)))


def _numbers(receipts: list[Receipt]) -> Sequence[int | None]:
    """The result of each that is a number from zero on; None for every other."""
    results = [each.result if each.error is None else None for each in receipts]
    try:
        numbers: list[int] = _decode_numbers(_encode(results))  # nearly always all are
    except msgspec.DecodeError:
        return [None if each is None else _number(each) for each in results]
    return numbers


def load_receipts(data: bytes) -> list[Receipt]:
    """The receipts of one row, in no particular order."""
    stored = _decode_stored(data)
    receipts = list(stored.others)
    for first_seq, first_id, joined in stored.runs:
        for index in range(len(joined) // DIGEST_BYTES):
            one = joined[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
            result = msgspec.Raw(_encode(first_id + index))
            receipts.append(Receipt(first_seq + index, one, None, result))
    return receipts


def _number(result: msgspec.Raw) -> int | None:
    try:
        number: int = _decode_number(result)
    except msgspec.DecodeError:
        return None
    return number
