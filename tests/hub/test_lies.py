"""Faults of the data: each is what it claims to be on the wire."""

import gzip

import pytest

from tests.hub.conftest import WEIGHTS
from tests.hub.raw import fetch, resolve_url, signed_url

SPAN = (1000, 201_000)
PART = WEIGHTS[slice(*SPAN)]


@pytest.fixture
def ask(hub):
    url = signed_url(hub, "org/name", "model.safetensors")

    def run(kind, *, span=SPAN, times=1, headers=None, **parameters):
        with hub.fault(kind, times, **parameters) as fault:
            answer = fetch(url, span=span, **(headers or {}))
        assert fault.fired == 1
        assert answer.error is None
        assert hub.stats.requests[-1].faults == [kind]
        return answer

    return run


def test_short_has_a_length_that_fits(ask):
    answer = ask("short", missing=10)
    assert (answer.status, answer.body) == (206, PART[:-10])
    assert answer.headers["content-length"] == str(len(PART) - 10)
    assert answer.headers["content-range"] == f"bytes 1000-200999/{len(WEIGHTS)}"
    assert ask("short", span=None).body == WEIGHTS[: len(WEIGHTS) // 2]


def test_short_and_honest(ask):
    answer = ask("short", missing=10, honest=True)
    assert answer.headers["content-range"] == f"bytes 1000-200989/{len(WEIGHTS)}"


def test_range_ignored(ask):
    answer = ask("range_ignored")
    assert (answer.status, answer.body) == (200, WEIGHTS)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(
    ("parameters", "claimed"),
    [
        ({}, f"bytes 1001-201000/{len(WEIGHTS)}"),
        ({"shift": -64}, f"bytes 936-200935/{len(WEIGHTS)}"),
        ({"total": 7}, "bytes 1000-200999/7"),
        ({"value": "bytes */12"}, "bytes */12"),
    ],
)
def test_wrong_content_range(ask, parameters, claimed):
    answer = ask("wrong_content_range", **parameters)
    assert (answer.status, answer.headers["content-range"], answer.body) == (206, claimed, PART)


def test_lying_data(ask):
    answer = ask("lying_data", shift=7)
    assert answer.headers["content-range"] == f"bytes 1000-200999/{len(WEIGHTS)}"
    assert answer.body == WEIGHTS[1007:201_007]
    half = len(WEIGHTS) // 2
    assert ask("lying_data", span=None).body == WEIGHTS[half:] + WEIGHTS[:half]


def test_corrupt_flips_one_byte(ask, hub):
    answer = ask("corrupt", at=1005)
    assert [i for i in range(len(PART)) if answer.body[i] != PART[i]] == [5]
    assert answer.body[5] == PART[5] ^ 0xFF
    middle = ask("corrupt", mask=1)
    assert [i for i in range(len(PART)) if middle.body[i] != PART[i]] == [len(PART) // 2]
    url = signed_url(hub, "org/name", "model.safetensors")
    with hub.fault("corrupt", at=5) as fault:  # waits for the range that holds it
        assert fetch(url, span=SPAN).body == PART
        assert fetch(url, span=(0, 9)).body != WEIGHTS[:9]
        assert fault.fired == 1


def test_gzip_on_the_way(ask):
    answer = ask("gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == PART


def test_etag_change_reaches_if_range(ask, hub):
    etag = fetch(signed_url(hub, "org/name", "model.safetensors"), method="HEAD").headers["etag"]
    assert ask("etag_change").headers["etag"] == '"changed"' != etag
    assert ask("etag_change", headers={"If-Range": etag}).status == 200


def test_no_commit_header(hub):
    url = resolve_url(hub, "org/name", "model.safetensors")
    with hub.fault("no_commit_header"):
        answer = fetch(url, method="HEAD")
        assert "x-linked-size" in answer.headers
        assert "x-repo-commit" not in answer.headers
    assert "x-repo-commit" in fetch(url, method="HEAD").headers


def test_huggingface_hub_sees_no_corruption_over_http(hub, download):
    with hub.fault("corrupt"):
        wrong = download()
    assert wrong != WEIGHTS
    assert len(wrong) == len(WEIGHTS)


def test_huggingface_hub_sees_a_short_body(hub, download):
    with hub.fault("short", missing=10), pytest.raises(OSError, match="size"):
        download()


def test_huggingface_hub_needs_the_commit_header(hub, download):
    with (
        hub.fault("no_commit_header", times=None),
        pytest.raises(OSError, match=r"X-Repo-Commit|cannot find"),
    ):
        download()
