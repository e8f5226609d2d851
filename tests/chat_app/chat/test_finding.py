"""Finding in a chat: every part of a message, in the order of the screen, whatever the case."""

from __future__ import annotations

from chat_app.attachments.attachment import Attachment
from chat_app.chat.conversation import Conversation
from chat_app.chat.finding import Hit, find_in_chat


def test_words_thoughts_and_files_are_searched_in_the_order_of_the_screen() -> None:
    chat = Conversation()
    files = {"attachments": [Attachment("a.txt", "/a.txt", "a Pear here").to_json()]}
    asked = chat.add("user", "pear or PEAR?", x=files)
    said = chat.add("assistant", "no pear", x={"thought": "pears, hm"})
    assert find_in_chat(chat.path(), "Pear") == [
        Hit(asked.id, "files", 0),
        Hit(asked.id, "text", 0),
        Hit(asked.id, "text", 1),
        Hit(said.id, "thought", 0),
        Hit(said.id, "text", 0),
    ]
    assert find_in_chat(chat.path(), "apple") == []
    assert find_in_chat(chat.path(), "  ") == []
