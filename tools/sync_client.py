"""Makes the client from the asynchronous one: `python -m tools.sync_client` (`make client`).

Each file below trainshed/aio/ is read word by word, as psycopg 3 and httpcore do it: `await` and `async` go,
names of the asynchronous world become their twins. Then ruff formats the result.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "trainshed" / "aio"
TARGET = ROOT / "trainshed"
BY_HAND = frozenset({"__init__.py", "waiting.py"})  # each side has its own
HEADER = "# Made from trainshed/aio/{name} by `make client`; change that file.\n"
# In this order.
WORDS = [
    (r"\bawait ", ""),
    (r"\basync ", ""),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAwaitable, ", ""),
    (r"\btrainshed\.aio\.", "trainshed."),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\b__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\ba(close|closing|next|read|iter_bytes)\b", r"\1"),
]


def sources() -> list[Path]:
    """The files that have a twin."""
    return sorted(path for path in SOURCE.glob("*.py") if path.name not in BY_HAND)


def twin(source: Path) -> str:
    """The text of the file that is made from `source`."""
    text = source.read_text(encoding="utf-8")
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return _formatted(HEADER.format(name=source.name) + text, TARGET / source.name)


def main() -> None:
    """Writes every twin."""
    for source in sources():
        (TARGET / source.name).write_text(twin(source), encoding="utf-8")


def _formatted(text: str, path: Path) -> str:
    for command in (
        ["check", "--fix", "--unsafe-fixes", "--quiet", "--select", "I,UP028"],
        ["format", "--quiet"],
    ):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    return text


if __name__ == "__main__":
    main()
