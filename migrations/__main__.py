"""`python -m migrations upgrade [REVISION] | downgrade REVISION | revision MESSAGE`."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from services.settings import SettingsError, read_settings


def configuration(url: str) -> Config:
    """Alembic's configuration for this folder and one database URL (its `%` are escaped)."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    try:
        config = configuration(read_settings().database)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    match arguments:
        case ["upgrade", *revision]:
            command.upgrade(config, revision[0] if revision else "head")
        case ["downgrade", revision]:
            command.downgrade(config, revision)
        case ["revision", message]:
            command.revision(config, message=message, autogenerate=True)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
