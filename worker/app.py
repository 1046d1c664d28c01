"""The Celery application: each option with its reason."""

from collections.abc import Sequence

from celery import Celery

from services.broker import WORKER_TRANSPORT


def make_app(broker_url: str) -> Celery:
    """A Celery application without tasks; Celery is a doorbell here, ownership and retries are SQL's."""
    app = Celery("trainshed", broker=broker_url, set_as_current=False)
    app.conf.update(
        # Results are rows; a result backend would only add a second truth that expires.
        task_ignore_result=True,
        result_backend=None,
        # Early: a message that is acknowledged late is delivered again after the visibility timeout, while
        # the training it started still runs (celery#5935).
        task_acks_late=False,
        # A message in hand while all slots are busy would wait here although another worker is free.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # Slots supervise processes: that is waiting, and a signal reaches all slots through one flag.
        worker_pool="worker.pool:Threads",
        # Remote control lets everybody who reaches the broker stop workers; nothing here needs it.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # The running training does not depend on the broker.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Messages are JSON without content; pickle would run what a stranger sent.
        accept_content=["json"],
        task_serializer="json",
        # A broker that is away comes back some day; a worker that gave up would not.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=WORKER_TRANSPORT,
    )
    return app


def worker_arguments(queues: Sequence[str], concurrency: int) -> list[str]:
    """The command line of one worker process."""
    return [
        "--quiet",
        "worker",
        f"--concurrency={concurrency}",
        f"--queues={','.join(queues)}",
        # Workers need not know each other; each of these adds traffic and has had reconnect bugs.
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
