"""Every request: named, described, typed, and the same after a trip over the wire."""

import inspect
import re
import typing
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond_protocol.requests import REQUESTS, Kind, Request, result_type
from sessiond_protocol.requests.message import Message, MessageAppend
from sessiond_protocol.requests.session import SessionCreate, SessionPruneSlice

# A method that clients use stays: adding one is a line here, taking one away is a new protocol.
METHODS = {
    "batch.apply": Kind.WRITE,
    "database.backup": Kind.CONTROL,
    "database.check": Kind.CONTROL,
    "database.checkpoint": Kind.CONTROL,
    "database.restore": Kind.CONTROL,
    "database.vacuum": Kind.CONTROL,
    "feed.subscribe": Kind.CONTROL,
    "feed.unsubscribe": Kind.CONTROL,
    "index.rebuild": Kind.CONTROL,
    "job.list": Kind.CONTROL,
    "job.status": Kind.CONTROL,
    "message.append": Kind.WRITE,
    "message.append_many": Kind.WRITE,
    "message.clear": Kind.WRITE,
    "message.count": Kind.READ,
    "message.latest": Kind.READ,
    "message.page": Kind.READ,
    "message.replace": Kind.WRITE,
    "request.status": Kind.WRITER,
    "route.get": Kind.READ,
    "route.import": Kind.WRITE,
    "route.list": Kind.READ,
    "route.put": Kind.WRITE,
    "search.messages": Kind.READ,
    "server.change_counter": Kind.READ,
    "server.hello": Kind.WRITER,
    "server.ping": Kind.WRITER,
    "server.stats": Kind.CONTROL,
    "session.by_title": Kind.READ,
    "session.count": Kind.READ,
    "session.create": Kind.WRITE,
    "session.delete": Kind.WRITE,
    "session.end": Kind.WRITE,
    "session.ensure": Kind.WRITE,
    "session.get": Kind.READ,
    "session.newest": Kind.READ,
    "session.next_title": Kind.READ,
    "session.page": Kind.READ,
    "session.prunable": Kind.READ,
    "session.prune_slice": Kind.WRITE,
    "session.reopen": Kind.WRITE,
    "session.resolve": Kind.READ,
    "session.resolve_title": Kind.READ,
    "session.rich": Kind.READ,
    "session.set_system_prompt": Kind.WRITE,
    "session.set_title": Kind.WRITE,
    "session.several": Kind.READ,
    "session.title": Kind.READ,
    "session.update_tokens": Kind.WRITE,
    "transcript.state": Kind.READ,
}

every = pytest.mark.parametrize("request_type", REQUESTS.values(), ids=REQUESTS)


def test_these_are_the_methods() -> None:
    assert {method: request.KIND for method, request in REQUESTS.items()} == METHODS


@every
def test_a_method_is_a_noun_and_a_verb(request_type: type[Request[Any]]) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", request_type.METHOD)
    assert REQUESTS[request_type.METHOD] is request_type


@every
def test_a_request_says_what_it_does(request_type: type[Request[Any]]) -> None:
    text = request_type.__dict__.get("__doc__")
    assert text, request_type
    assert text.strip()[0].isupper() or text.startswith("`")
    assert text.strip().endswith(".")


@every
def test_a_request_declares_its_result(request_type: type[Request[Any]]) -> None:
    declared = result_type(request_type)
    msgspec.msgpack.Decoder(declared)  # a type that can be decoded
    assert not isinstance(declared, typing.TypeVar)


def test_a_request_without_a_result_is_a_mistake() -> None:
    class Nothing:
        pass

    with pytest.raises(TypeError, match="Nothing does not name its result type"):
        result_type(Nothing)  # type: ignore[arg-type]


def _value(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that fit a field's type, bounds included."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        base, *metas = get_args(annotation)
        bounds = next(meta for meta in metas if isinstance(meta, msgspec.Meta))
        lowest = bounds.ge if bounds.ge is not None else -(2**63)
        highest = bounds.le if bounds.le is not None else 2**63 - 1
        if base is int:
            return st.integers(int(lowest), int(highest))
        if base is float:
            return st.floats(float(lowest), allow_nan=False, allow_infinity=False)
        return _value(base).filter(lambda value: _fits(annotation, value))
    if annotation is Any:
        return st.none() | st.integers(0, 5) | st.text(max_size=3)
    if annotation is msgspec.Raw:
        return st.just(msgspec.Raw(b"\x80"))
    if origin in (list, tuple, dict):
        return _container(origin, get_args(annotation))
    if origin is not None and type(None) in get_args(annotation):
        return st.one_of(*map(_value, get_args(annotation)))
    if origin is typing.Literal:
        return st.sampled_from(get_args(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, msgspec.Struct):
        return _struct(annotation)
    return _PLAIN[annotation]


def _container(origin: Any, arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is list:
        return st.lists(_value(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_value(arguments[0]), _value(arguments[1]), max_size=2)
    return st.tuples(*map(_value, arguments))


def _fits(annotation: Any, value: Any) -> bool:
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


def _struct(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(struct, include_extras=True)
    fields = msgspec.structs.fields(struct)
    required = {field.name: _value(hints[field.name]) for field in fields if field.required}
    optional = {field.name: _value(hints[field.name]) for field in fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: struct(**given))


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5),
    bytes: st.binary(max_size=5),
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    type(None): st.none(),
}


@every
@settings(max_examples=30)
@given(data=st.data())
def test_a_request_comes_back_as_it_was(request_type: type[Request[Any]], data: Any) -> None:
    made = data.draw(_struct(request_type))
    encoded = msgspec.msgpack.encode(made)
    again = msgspec.msgpack.decode(encoded, type=request_type)
    assert msgspec.msgpack.encode(again) == encoded
    assert type(again) is request_type


@every
def test_what_is_missing_is_named(request_type: type[Request[Any]]) -> None:
    required = [field for field in msgspec.structs.fields(request_type) if field.required]
    if not required:
        msgspec.msgpack.decode(b"\x80", type=request_type)
        return
    with pytest.raises(msgspec.ValidationError, match=f"`{required[0].encode_name}`"):
        msgspec.msgpack.decode(b"\x80", type=request_type)


@every
def test_what_is_unknown_is_named(request_type: type[Request[Any]]) -> None:
    arguments = msgspec.msgpack.encode({"no_such_argument": 1})
    with pytest.raises(msgspec.ValidationError, match="no_such_argument"):
        msgspec.msgpack.decode(arguments, type=request_type)


class _Other:
    """Encodes as an extension, which no field takes."""

    def __init__(self) -> None:
        self.encoded = msgspec.msgpack.Ext(5, b"")


@every
def test_what_is_of_the_wrong_type_is_named(request_type: type[Request[Any]]) -> None:
    for field in msgspec.structs.fields(request_type):
        if field.type in (Any, msgspec.Raw):
            continue
        arguments = msgspec.msgpack.encode({field.encode_name: _Other().encoded})
        with pytest.raises(msgspec.ValidationError, match=rf"`\$\.{field.encode_name}"):
            msgspec.msgpack.decode(arguments, type=request_type)


@every
def test_arguments_are_a_map(request_type: type[Request[Any]]) -> None:
    for wrong in (b"\x90", b"\xc0", b"\x01", b"\xa1x"):
        with pytest.raises(msgspec.ValidationError, match="Expected `object`"):
            msgspec.msgpack.decode(wrong, type=request_type)


# --- the same bytes for the same request -------------------------------------------------------


def test_what_has_its_default_is_not_sent() -> None:
    made = SessionCreate(session_id="s", source="cli", started_at=1.5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made)) == {
        "session_id": "s", "source": "cli", "started_at": 1.5,
    }  # fmt: skip


def test_older_encoders_that_send_defaults_are_understood() -> None:
    arguments = {"session_id": "s", "source": "cli", "started_at": 1, "model": None}
    made = msgspec.msgpack.decode(msgspec.msgpack.encode(arguments), type=SessionCreate)
    assert made == SessionCreate(session_id="s", source="cli", started_at=1.0)


# --- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("token_count", 2**63), ("token_count", -(2**63) - 1), ("tool_call_count", -1),
        ("tool_call_count", 2**31), ("timestamp", "now"), ("role", None),
    ],
)  # fmt: skip
def test_a_message_that_no_column_could_hold_is_refused(field: str, wrong: Any) -> None:
    message = {"role": "user", "timestamp": 1.0, field: wrong}
    with pytest.raises((msgspec.ValidationError, OverflowError)):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode({"session_id": "s", "message": message}), type=MessageAppend
        )


@pytest.mark.parametrize("limit", [-1, 2**63])
def test_a_count_is_never_negative(limit: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.limit"):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode({"before": 1.0, "limit": limit}), type=SessionPruneSlice
        )


def test_text_that_is_not_utf_8_is_refused_by_itself() -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.msgpack.decode(b"\x82\xa4role\xa2\xff\xfe\xa9timestamp\x01", type=Message)
