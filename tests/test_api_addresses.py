"""Addresses that nobody means well with: on no database is the answer an error of the server."""

import httpx
import pytest

from services.store import Store
from tests.builders import make_claim


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/%00",
        "/v1/jobs?owner=%00",
        "/v1/jobs?label=a%22b:c",
        "/v1/jobs?label=a%00:c",
        "/v1/jobs?after=%00",
        "/v1/jobs?limit=999999999999999999999",
        "/v1/jobs/x/history?from_epoch=999999999999999999999",
        "/v1/jobs/x/logs?attempt=999999999999999999999",
        "/v1/datasets/%00",
        "/v1/datasets/iris/versions/%00%00%00%00%00%00%00%00",
        "/v1/datasets/%00/ledger",
        "/v1/jobs/x/evaluations/%00",
        "/v1/jobs/" + "x" * 5_000,
        "/v1//jobs",
        "/v1/jobs/",
    ],
)
def test_no_address_is_answered_with_an_error_of_the_server(
    http: httpx.Client, store: Store, path: str
) -> None:
    assert http.get(path).status_code < 500


def test_no_epoch_is_too_far_away_to_be_asked_for(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_claim(session).lease.job_id
    for number in ("2147483648", "9223372036854775808", "1e9"):
        assert http.get(f"/v1/jobs/{job_id}/history?from_epoch={number}").status_code < 500
        assert http.get(f"/v1/jobs/{job_id}/logs?attempt={number}").status_code < 500
