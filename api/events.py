"""What happens to jobs: a page as JSON, or live as a stream of server-sent events."""

import re
from http import HTTPStatus

from flask import Blueprint, Response, abort, request
from pydantic import Field

from api.bridge import LiveBody
from api.contract import EventStream, Query, contract, json_response
from api.parts import parts
from services import answers, feed, results
from services.feed import Cursor

blueprint = Blueprint("events", __name__, url_prefix="/v1")

STREAM = "text/event-stream"
LAST_ID = "The id that came last before the stream broke; it goes on exactly there."
LARGEST_INTEGER = 2**31 - 1


class EventQuery(Query):
    """Which events; the stream takes `last_event_id` only."""

    after: int = Field(default=0, ge=0, le=LARGEST_INTEGER, description="`next_after` of the page before.")
    limit: int = Field(default=100, ge=1, le=1_000)
    last_event_id: str | None = Field(default=None, description="For clients that cannot set the header.")


class ChangeQuery(Query):
    """Where to begin."""

    last_event_id: str | None = Field(default=None, description="For clients that cannot set the header.")


@blueprint.get("/jobs/<job_id>/events")
@contract(
    "What happened to a job, as a page or live",
    {
        200: (
            answers.EventPage,
            EventStream(
                state=answers.JobEvent,
                epoch=answers.EpochPoint,
                progress=answers.ProgressNow,
                done=answers.Done,
                deleted=answers.JobDeleted,
            ),
        )
    },
    query=EventQuery,
    headers={"Accept": f"`{STREAM}` for the stream.", "Last-Event-ID": LAST_ID},
)
def of_job(job_id: str, query: EventQuery) -> Response:
    """A page of events as JSON. As a stream: all events and epochs from the start on, then each as it comes.

    The stream ends after `done`, or after `deleted` if somebody deletes the job. A `state` event whose data
    has `from_epoch`, or `epoch` where its kind is `resumed`, says that epochs from there on are trained and
    told again: keep points by their epoch's number.
    """
    wanted = request.accept_mimetypes.best_match(["application/json", STREAM])
    with parts().store.reads.begin() as session:
        if wanted != STREAM:
            return json_response(feed.event_page(session, job_id, query.after, query.limit))
        results.revision(session, job_id)
    epochs, seq = _last_id(query.last_event_id, r"(\d{1,9})-(\d{1,9})", "12-3") or ("0", "0")
    return _streamed(parts().streams.of_job(job_id, Cursor(int(epochs), int(seq))))


@blueprint.get("/events")
@contract(
    "Changes of all jobs, live",
    {200: EventStream(job=answers.JobSummary, deleted=answers.JobDeleted)},
    query=ChangeQuery,
    headers={"Last-Event-ID": LAST_ID},
)
def of_all(query: ChangeQuery) -> Response:
    """Each job that changes or is deleted, within a second. One may be told twice: keep the newest by its id.

    It begins with the changes of the last seconds; load the list of jobs after the stream is open.
    """
    if request.accept_mimetypes and not request.accept_mimetypes[STREAM]:
        abort(HTTPStatus.NOT_ACCEPTABLE, f"This route answers with {STREAM} only; say so in `Accept`.")
    since = _last_id(query.last_event_id, r"(\d{1,15})", "1767225600000")
    return _streamed(parts().streams.of_all(None if since is None else int(since[0])))


def _last_id(in_query: str | None, pattern: str, example: str) -> tuple[str, ...] | None:
    # A browser repeats the address it began with; its header is newer.
    given = request.headers.get("Last-Event-ID") or in_query
    if not given:
        return None
    match = re.fullmatch(pattern, given, re.ASCII)
    if match is None:
        abort(
            HTTPStatus.BAD_REQUEST,
            f"The last event id {given[:80]!r} is none that this stream gives. Send one that came with an "
            f"event, such as {example}, or none to begin at the start.",
        )
    return match.groups()


def _streamed(body: LiveBody) -> Response:
    return Response(
        body,
        headers={
            "Cache-Control": "no-store",
            # A proxy in front must not collect events until its buffer is full.
            "X-Accel-Buffering": "no",
        },
        content_type=STREAM,
        direct_passthrough=True,
    )
