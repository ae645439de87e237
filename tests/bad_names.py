"""Names that no service takes, by what is wrong with them."""

from labelloop.domain.limits import TEXT_CHARACTERS_MAX

BAD_NAMES = {
    "a control character": "a\x00b",
    "an escape sequence": "a\x1b[2Jb",
    "a line end": "a\nb",
    "a control character of Latin-1": "a\x85b",
    "a line separator": "a\u2028b",
    "right-to-left override": "a\u202egnp.b",
    "an isolate": "a\u2066b",
    "a mark of direction": "a\u200fb",
    "no width": "a\u200bb",
    "a byte order mark": "a\ufeffb",
    "a soft hyphen": "a\u00adb",
    "a joiner": "a\u200db",
    "a filler": "a\u3164b",
    "half a character": "a\ud800b",
    "too long": "x" * (TEXT_CHARACTERS_MAX + 1),
}
# Protobuf and JSON by protobuf cannot carry them.
SENDABLE = {what: name for what, name in BAD_NAMES.items() if what != "half a character"}
