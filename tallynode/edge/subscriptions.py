"""What one subscriber has asked for, bounded, and which of its filters a topic meets."""

import mqtt5

from tallynode.edge.topics import has_wildcard, is_valid, matches

SUBSCRIPTIONS_MAX = 1024  # per client; each is matched against every message

Answer = mqtt5.SubAckReasonCode


class Subscriptions:
    """The subscriptions of one session."""

    def __init__(self) -> None:
        self._exact: dict[str, mqtt5.TopicFilter] = {}
        self._wildcards: dict[str, mqtt5.TopicFilter] = {}

    def to(self, topic: str) -> mqtt5.TopicFilter | None:
        """The subscription under which a message of this topic goes out, if any."""
        exact = self._exact.get(topic)
        if exact is not None:
            return exact
        return next((f for p, f in self._wildcards.items() if matches(p, topic)), None)

    def add(self, wanted: mqtt5.TopicFilter) -> tuple[Answer, bool]:
        """Take a subscription in, or not; the answer, and whether what is retained is due."""
        pattern = wanted.pattern
        known = pattern in self._exact or pattern in self._wildcards
        answer = self._judge(pattern, known)
        if answer != Answer.GRANTED_QOS_AT_MOST_ONCE:
            return answer, False
        self._store(pattern)[pattern] = wanted
        handling = wanted.retain_handling
        due = handling == mqtt5.RetainHandling.SEND_ALWAYS or (
            handling == mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS and not known
        )
        return answer, due

    def remove(self, pattern: str) -> bool:
        """Forget a subscription; whether there was one."""
        return self._store(pattern).pop(pattern, None) is not None

    def _store(self, pattern: str) -> dict[str, mqtt5.TopicFilter]:
        return self._wildcards if has_wildcard(pattern) else self._exact

    def _judge(self, pattern: str, known: bool) -> Answer:
        if pattern.startswith("$share/"):
            return Answer.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if not is_valid(pattern):
            return Answer.TOPIC_FILTER_INVALID
        if not known and len(self._exact) + len(self._wildcards) >= SUBSCRIPTIONS_MAX:
            return Answer.QUOTA_EXCEEDED
        return Answer.GRANTED_QOS_AT_MOST_ONCE
