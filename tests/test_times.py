"""One ISO 8601 parser, with one answer on every version of Python."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontracker.times import iso_utc, parse_time, parse_utc

NINE = datetime(2026, 11, 23, 9, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T09:30:00Z",
        "2026-11-23t09:30:00z",
        "2026-11-23T09:30Z",
        "2026-11-23 09:30:00+00:00",
        "2026-11-23T09:30:00-00:00",
        "2026-11-23T10:30:00+01:00",
        "2026-11-23T10:30+0100",
        "2026-11-23T10:30+01",
        "2026-11-22T23:00-10:30",
        "20261123T093000Z",
        "20261123T0930Z",
        " 2026-11-23T09:30:00.000000000Z\n",
        "2026-11-23T09:30:00,0Z",
    ],
)
def test_all_ways_to_write_one_moment_are_read_alike(text: str) -> None:
    found = parse_utc(text)
    assert found == NINE
    assert found.tzinfo is timezone.utc
    assert parse_utc(text, naive=timezone(timedelta(hours=5))) == NINE


def test_a_time_keeps_the_offset_that_it_names() -> None:
    found = parse_time("2026-11-23T06:00-03:30")
    assert (found.hour, found.utcoffset()) == (6, timedelta(hours=-3, minutes=-30))
    assert found == NINE


@pytest.mark.parametrize(
    ("digits", "micros"),
    [
        ("5", 500_000),
        ("05", 50_000),
        ("1234", 123_400),
        ("123456", 123_456),
        ("1234567", 123_456),
        ("9" * 30, 999_999),
    ],
)
def test_a_fraction_may_have_any_length(digits: str, micros: int) -> None:
    assert parse_time(f"2026-11-23T09:30:00.{digits}Z").microsecond == micros


@pytest.mark.parametrize("text", ["2026-11-23T09:30", "2026-11-23 09:30:00.5", "2026-11-23"])
def test_a_time_without_a_zone_is_refused_unless_its_zone_is_given(text: str) -> None:
    with pytest.raises(ValueError, match="needs its time zone"):
        parse_time(text)
    east = timezone(timedelta(hours=1))
    assert parse_time(text, naive=timezone.utc) - parse_time(text, naive=east) == timedelta(hours=1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Z", "yesterday", "2026", "2026-11", "2026-11-2", "2026-13-01T00:00Z", "2026-W48-1"),
        *("2026-02-29T00:00Z", "2026-11-23T24:00Z", "2026-11-23T09:60Z", "2026-11-23T09:30:61Z"),
        *("2026-11-23T9:30Z", "2026-11-23T09:30:00.Z", "2026-11-23T09:30ZZ", "2026-11-23Z"),
        *("2026-11-23T09:30+1", "2026-11-23T09:30+01:60", "2026-11-23T09:30+24:00"),
        *("2026-11-23T09:30+00:00Z", "0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00"),
        *("٢٠٢٦-11-23T09:30Z", "2026-11-23T09:30Z2026-11-23T09:30Z"),
        *(None, True, 1_795_426_200, 1.5, b"2026-11-23T09:30Z", NINE, ["2026-11-23T09:30Z"]),
    ],
)
def test_what_is_not_a_time_is_a_value_error(text: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of datetime itself, or ours
        parse_utc(text, naive=timezone.utc)


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_what_isoformat_writes_is_read_back(local: datetime, zone: timezone) -> None:
    when = local.replace(tzinfo=zone)
    assert parse_time(when.isoformat()) == when
    assert parse_time(local.isoformat(), naive=zone) == when


@given(st.text())
def test_no_text_leads_to_another_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_utc(text, naive=timezone.utc).tzinfo is timezone.utc


def test_a_time_is_written_in_utc() -> None:
    assert iso_utc(NINE.astimezone(timezone(timedelta(hours=9)))) == "2026-11-23T09:30:00Z"
