"""Write a report each night, once on the whole fleet, from a database that only has a blocking driver.

    cd examples
    SHOP_DATABASE=shop.sqlite3 REPORTS=reports BARQUE_TASKS=nightly_report barque worker
    barque schedules list
    barque schedules run-now report_of_yesterday    # not waiting for the night

The report is of the day before the tick, not before whenever it runs: one that was missed because all workers were down
is made up for, of its own day. It is a plain `def`, so it runs in a thread and may block.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from common import Context, RetryPolicy, cron, exponential, task

ZONE = "Europe/Berlin"


@cron("0 3 * * *", timezone=ZONE, missed="all")
@task(timeout=600, retry=RetryPolicy(max_attempts=5, backoff=exponential(60, maximum=3600)))
def report_of_yesterday(ctx: Context) -> str:
    """Write the sales of the day before the tick; return the file's name."""
    tick = datetime.fromisoformat(str(ctx.metadata["tick"])).astimezone(ZoneInfo(ZONE))
    day = (tick - timedelta(days=1)).date().isoformat()
    with closing(sqlite3.connect(os.environ["SHOP_DATABASE"])) as database:
        rows = database.execute(
            "SELECT article, sum(cents) FROM sales WHERE day = ? GROUP BY article ORDER BY article", (day,)
        ).fetchall()
    folder = Path(os.environ["REPORTS"])
    folder.mkdir(parents=True, exist_ok=True)
    # Under another name first: whoever looks into the folder finds whole reports.
    made = folder / f".{day}.csv"
    with made.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("article", "cents"), *rows])
    made.replace(folder / f"{day}.csv")
    ctx.log.info("report_written", day=day, rows=len(rows))
    return f"{day}.csv"
