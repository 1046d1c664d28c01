"""One spelling of a name: Unicode writes `é` as one character or as two, and both look the same."""

import unicodedata


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC), in which names are stored and compared."""
    return unicodedata.normalize("NFC", text)
