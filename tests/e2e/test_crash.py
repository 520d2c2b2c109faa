"""Killing the real processes loses nothing and charges nothing twice, on both databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from e2e import crash
from e2e.databases import environ_of
from postgres import PostgresServer

FEW = crash.Plan(kills=3, orders=40, seed=1, pause_s=0.6, wait_for_sweep=False)


def test_a_few_kills_under_load(tmp_path: Path) -> None:
    report = crash.run(tmp_path, FEW)
    assert report.kills >= 3


def test_a_few_kills_and_a_crash_of_postgres_under_load(tmp_path: Path) -> None:
    with PostgresServer(fsync=False) as server:
        plan = on_postgres(server, kills=3, orders=40, crashes=1)
        report = crash.run(tmp_path, replace(plan, pause_s=0.6, wait_for_sweep=False))
    assert report.kills >= 3
    assert report.server_crashes == 1


@pytest.mark.campaign
def test_two_hundred_kills_during_five_thousand_orders(tmp_path: Path) -> None:
    report = crash.run(tmp_path, crash.Plan(kills=200, orders=5_000, seed=2))
    print(report)
    assert report.kills >= 200
    assert report.superseded > 0


@pytest.mark.campaign
def test_a_hundred_kills_and_ten_crashes_of_postgres_during_two_thousand_orders(
    tmp_path: Path,
) -> None:
    with PostgresServer() as server:
        report = crash.run(tmp_path, on_postgres(server, kills=100, orders=2_000, crashes=10))
    print(report)
    assert report.kills >= 100
    assert report.server_crashes >= 10
    assert report.superseded > 0


def on_postgres(server: PostgresServer, *, kills: int, orders: int, crashes: int) -> crash.Plan:
    """Plan a campaign whose database server crashes too, as `pg_ctl stop -m immediate` does."""
    return crash.Plan(
        kills=kills,
        orders=orders,
        seed=3,
        environ=environ_of(server.create_database()),
        crash_server=lambda: server.restart("immediate"),
        server_crashes=crashes,
    )
