"""`python -m api [--host 127.0.0.1] [--port 8080]`: the API's process."""

import argparse
import logging
import sys

from api.app import create_app
from api.server import serve
from services.settings import SettingsError


def main(arguments: list[str]) -> int:
    """Run until SIGTERM; returns only if the environment is not usable."""
    parser = argparse.ArgumentParser(prog="python -m api")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (8080)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        app = create_app()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    serve(app, options.host, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
