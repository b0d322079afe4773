"""Sources for property tests."""

from hypothesis import strategies as st

from sessiond_client.gateway import Platform, SessionSource

CHAT_TYPES = ["dm", "group", "channel", "thread"]


def sources(
    ids: st.SearchStrategy[str] | None = None,
    names: st.SearchStrategy[str] | None = None,
    platforms: st.SearchStrategy[Platform] | None = None,
) -> st.SearchStrategy[SessionSource]:
    """Sources of every shape; ids are absent or drawn from ``ids``, names from ``names``."""
    some_id = st.text(min_size=1) if ids is None else ids
    some_name = st.text() if names is None else names
    return st.builds(
        SessionSource,
        st.sampled_from(Platform) if platforms is None else platforms,
        chat_id=some_id | st.just(""),
        chat_name=st.none() | some_name,
        chat_type=st.sampled_from(CHAT_TYPES),
        user_id=st.none() | some_id,
        user_name=st.none() | some_name,
        thread_id=st.none() | some_id,
        chat_topic=st.none() | some_name,
        user_id_alt=st.none() | some_id,
        chat_id_alt=st.none() | some_id,
    )
