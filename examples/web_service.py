"""A web service that has long work done in the background, and shows how far it is while it runs.

    pip install fastapi uvicorn
    cd examples
    BARQUE_TASKS=web_service barque worker
    uvicorn web_service:app
    curl -X POST 'localhost:8000/exports?rows=200000'        # {"id": "…"}
    curl -N localhost:8000/exports/…/events                  # progress, as server-sent events
    curl localhost:8000/exports/…                            # how it stands, and the result once it has ended

The service holds nothing: any instance of it answers for any job, and a restart loses none.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from common import Context, task
from common.errors import JobNotFound
from common.jobs import JobState
from producer import Job, Producer


@task(timeout=600)
async def export(ctx: Context, rows: int) -> int:
    """Stand for an export: fetch rows in pages, and say how far it is."""
    for done in range(0, rows, 10_000):
        ctx.progress(done, rows, "exporting")
        await asyncio.sleep(0.05)
    ctx.progress(rows, rows, "done")
    return rows


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Producer() as producer:
        app.state.producer = producer
        yield


app = FastAPI(lifespan=lifespan)


def the_job(job_id: str) -> Job[int]:
    job: Job[int] = app.state.producer.job(job_id, task=export)
    return job


@app.post("/exports", status_code=202)
async def begin(rows: int) -> dict[str, str]:
    job = await app.state.producer.enqueue(export(rows))
    return {"id": job.job_id}


@app.get("/exports/{job_id}")
async def look(job_id: str) -> dict[str, object]:
    info = await the_job(job_id).info()
    if info.state is JobState.UNKNOWN:
        raise HTTPException(404, "no such export")
    return {"state": info.state, "rows": info.result}


@app.get("/exports/{job_id}/events")
async def follow(job_id: str) -> StreamingResponse:
    job = the_job(job_id)
    if await job.status() is JobState.UNKNOWN:
        raise HTTPException(404, "no such export")
    return StreamingResponse(events(job), media_type="text/event-stream")


async def events(job: Job[int]) -> AsyncIterator[str]:
    try:
        async for progress in job.watch():
            yield f"data: {json.dumps({'done': progress.done, 'total': progress.total})}\n\n"
    except JobNotFound:  # it ended so long ago that nothing is kept of it
        pass
    yield "event: end\ndata: {}\n\n"
