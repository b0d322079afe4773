"""One process of the demo: writes its share of the conversations as a gateway would.

Prints a line with the number of messages written after each conversation.
"""

import sys

from sessiond_client import SessionDB
from tests.demo.script import Conversation, conversations


def write(db: SessionDB, conversation: Conversation) -> None:
    """Create, prompt, appends, token counts, title, end."""
    session = conversation.session_id
    db.create_session(
        session,
        conversation.source,
        model="demo-model",
        model_config={"temperature": 0.2},
        user_id=conversation.user_id,
    )
    db.update_system_prompt(session, "You are a helpful assistant.")
    for message in conversation.messages:
        content = message.get("content") or ""
        db.append_message(session, **message)
        if message["role"] == "assistant":
            db.update_token_counts(
                session,
                input_tokens=len(content) // 4,
                output_tokens=len(content) // 5,
                model="demo-model",
                estimated_cost_usd=len(content) * 1e-6,
            )
    db.set_session_title(session, conversation.title)
    db.end_session(session, "completed")


def main(database: str, socket: str, share: int, shares: int) -> None:
    """Write every conversation whose place falls into this share."""
    with SessionDB(database, socket=socket, autostart=False) as db:
        for place, conversation in enumerate(conversations()):
            if place % shares == share:
                write(db, conversation)
                print(len(conversation.messages), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
