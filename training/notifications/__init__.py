"""Adapter to the outside: how a message leaves the house. Nothing here touches the database.

topics.py     what people may be told of
formats.py    how a message is written
addresses.py  where a webhook may go             webhook.py   signing and sending
mail.py       e-mail
"""

from training.notifications.formats import FORMATS, HEIMDALL
from training.notifications.topics import TEST, TOPICS, USUAL, Topic, topic_of

__all__ = ["FORMATS", "HEIMDALL", "TEST", "TOPICS", "USUAL", "Topic", "topic_of"]
