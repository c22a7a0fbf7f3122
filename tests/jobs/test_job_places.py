"""URLs of every style, and where they lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_asr.core.errors import ClientError
from live_asr.jobs.places import OnDisk, OnTheWeb, Stored, locate

KEY = "presentations/456/a b+c.mp3"
QUOTED = "presentations/456/a%20b+c.mp3"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://bucket/{QUOTED}",
        f"https://s3.amazonaws.com/bucket/{QUOTED}",
        f"https://s3.eu-west-1.amazonaws.com/bucket/{QUOTED}",
        f"https://s3-eu-west-1.amazonaws.com/bucket/{QUOTED}",
        f"https://s3.dualstack.eu-west-1.amazonaws.com/bucket/{QUOTED}",
        f"https://s3.cn-north-1.amazonaws.com.cn/bucket/{QUOTED}",
        f"https://bucket.s3.amazonaws.com/{QUOTED}",
        f"https://bucket.s3.ap-southeast-1.amazonaws.com/{QUOTED}",
        f"https://bucket.s3-ap-southeast-1.amazonaws.com/{QUOTED}",
        f"https://bucket.s3.dualstack.us-east-2.amazonaws.com/{QUOTED}",
        f"https://BUCKET.S3.us-gov-west-1.amazonaws.com/{QUOTED}",
        f"http://minio.local:9000/bucket/{QUOTED}",
        f"http://bucket.minio.local:9000/{QUOTED}",
        f"http://minio.local:9000/bucket/{QUOTED}?X-Amz-Signature=abc",
    ],
)
def test_every_style_of_s3_leads_to_a_bucket_and_a_key(url: str) -> None:
    found = locate(url, endpoint="http://minio.local:9000")
    assert isinstance(found, Stored)
    assert (found.bucket, found.key, found.name) == ("bucket", KEY, "a b+c.mp3")
    assert not found.is_presigned


def test_a_bucket_s_name_may_have_dots_and_a_file_a_version() -> None:
    found = locate("https://my.own.bucket.s3.eu-west-1.amazonaws.com/k?versionId=7")
    assert isinstance(found, Stored)
    assert (found.bucket, found.key, found.version) == ("my.own.bucket", "k", "7")
    assert locate("talks/a.mp3", bucket="b") == Stored("b", "talks/a.mp3")


@pytest.mark.parametrize("query", ["X-Amz-Signature=1&X-Amz-Date=2", "AWSAccessKeyId=a&Signature=b"])
def test_a_presigned_url_is_fetched_as_it_is(query: str) -> None:
    url = f"https://bucket.s3.amazonaws.com/k?{query}"
    found = locate(url)
    assert isinstance(found, Stored)
    assert (found.url, found.is_presigned) == (url, True)
    assert query not in repr(found)


def test_all_else_is_of_the_web_and_hosts_that_only_look_like_the_store_are_too() -> None:
    for url in (
        "https://example.com/talk.mp3",
        "https://s3.amazonaws.com.example.com/bucket/key",
        "https://example.com/s3.amazonaws.com/bucket/key",
        "https://s3.amazonaws.com:8443/bucket/key",
        "https://minio.local:9001/bucket/key",
    ):
        assert locate(url, endpoint="http://minio.local:9000") == OnTheWeb(url)
    assert locate("http://example.com/a", insecure=True) == OnTheWeb("http://example.com/a")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/a.mp3", "forbidden_target"),
        ("file:///etc/passwd", "forbidden_target"),
        ("s3://bucket", "bad_url"),
        ("s3:///key", "bad_url"),
        ("https://s3.amazonaws.com/bucket", "bad_url"),
        ("https://", "bad_url"),
        ("https://[::1", "bad_url"),
        ("https://example.com:99999/a", "bad_url"),
        ("ftp://example.com/a.mp3", "bad_url"),
        ("talks/a.mp3", "bad_url"),
        ("javascript:alert(1)", "bad_url"),
    ],
)
def test_what_leads_nowhere_is_refused_with_a_code(url: str, code: str) -> None:
    with pytest.raises(ClientError) as caught:
        locate(url)
    assert caught.value.code == code


def test_files_are_read_below_the_folder_that_is_allowed_and_no_link_leads_out(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    allowed.mkdir()
    outside.mkdir()
    (allowed / "a talk.wav").touch()
    (outside / "secret.wav").touch()
    (allowed / "link").symlink_to(outside)
    assert locate(f"file://{allowed}/a%20talk.wav", files=allowed) == OnDisk(allowed / "a talk.wav")
    for path in (f"{outside}/secret.wav", f"{allowed}/link/secret.wav", f"{allowed}/../outside/secret.wav"):
        with pytest.raises(ClientError) as caught:
            locate(f"file://{path}", files=allowed)
        assert caught.value.code == "forbidden_target"
