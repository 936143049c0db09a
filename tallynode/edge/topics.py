"""MQTT topic filters (MQTT 5, section 4.7): `+` stands for one level, a last `#` for the rest."""


def is_valid(pattern: str) -> bool:
    """Whether a string is a topic filter at all."""
    levels = pattern.split("/")
    return (
        bool(pattern)
        and "\0" not in pattern
        and "#" not in "".join(levels[:-1])
        and all(level in ("+", "#") or not has_wildcard(level) for level in levels)
    )


def has_wildcard(pattern: str) -> bool:
    """Whether a topic filter covers more than one topic."""
    return "#" in pattern or "+" in pattern


def matches(pattern: str, topic: str) -> bool:
    """Whether a valid topic filter covers a topic."""
    if pattern == topic:
        return True
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )
