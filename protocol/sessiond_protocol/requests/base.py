"""What every request is: a typed value that knows its method, its kind and its result."""

from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import msgspec

T = TypeVar("T")

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Kind(Enum):
    """Who answers a request."""

    READ = "read"  # the read pool, or the client itself on its own connection
    WRITE = "write"  # the writer, in a batch, exactly once
    CONTROL = "control"  # the event loop, at once
    WRITER = "writer"  # the writer, between batches, without a number


class Request(
    msgspec.Struct,
    Generic[T],
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,  # plain values never form a circle: the collector need not look at them
):
    """A request whose answer has type ``T``. Subclasses name ``METHOD`` and ``KIND``.

    ``IN_BATCH`` is False for a write that may not be an item of ``batch.apply``.
    """

    METHOD: ClassVar[str] = ""
    KIND: ClassVar[Kind] = Kind.READ
    IN_BATCH: ClassVar[bool] = True


def result_type(request: type[Request[Any]]) -> Any:
    """The type of a request's result, as its class declares it."""
    for base in getattr(request, "__orig_bases__", ()):
        arguments = get_args(base)
        if arguments:
            return arguments[0]
    raise TypeError(f"{request.__name__} does not name its result type")
