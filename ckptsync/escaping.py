"""Text as a terminal may see it: names come from buckets, and could hold escape sequences."""


def escaped(text: str) -> str:
    """On one line, without anything that does not print, so that it cannot pass for more."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def escaped_lines(text: str) -> str:
    """Line by line, where line ends have a meaning: what it quotes can forge lines then."""
    return "\n".join(map(escaped, text.split("\n")))
