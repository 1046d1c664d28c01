"""Gunicorn's settings, each with its reason."""

from typing import Any

worker_class = "gthread"
# One process: its libraries are most of its memory, and requests wait for SQL, not for Python.
workers = 1
# Requests that wait for a job (`Prefer: wait`) hold a thread each; api/jobs.py leaves some to the others.
threads = 40
# Connections of clients that poll stay open between requests.
keepalive = 75
# Waiting requests end by themselves when the worker is told to stop; a download may need a little longer.
graceful_timeout = 8
# The control socket is a door that nobody here needs.
control_socket_disable = True
accesslog = None
errorlog = "-"


def post_worker_init(worker: Any) -> None:
    """Let waiting requests see that the worker was told to stop."""
    worker.wsgi.extensions["trainshed"].closing = lambda: not worker.alive
