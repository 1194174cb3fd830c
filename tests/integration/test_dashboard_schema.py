"""The API under requests of all shapes that its OpenAPI document allows, and of many that it does not (schemathesis).

Held is that no answer is an error of the dashboard's own, and that each is one the document tells of, in the form it
tells. The examples are the same in every run.
"""

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks

from common import every
from common.tasks import Call
from dashboard.api.openapi import document_of
from dashboard.api.routes import OPERATIONS
from producer import BlockingProducer
from tests.support.dashboards import served

pytestmark = pytest.mark.leaves_keys

TOKEN = {"Authorization": "Bearer 0123456789abcdef"}
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(document_of(OPERATIONS))
FOUND = {each.ok().definition.raw["operationId"]: each.ok() for each in SCHEMA.get_all_operations()}
THERE = {"job_id": "there", "queue": "arq:queue", "schedule": "hourly", "task": "nothing", "limit": "nothing"}

FEW = settings(
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_every_operation_is_in_the_document():
    assert FOUND.keys() == {one.name for one in OPERATIONS}


def test_whatever_is_sent_gets_an_answer_that_the_document_tells_of(redis_url, subtests):
    with BlockingProducer(redis_url) as producer:
        producer.enqueue(Call("nothing", password="hunter2"), job_id="there")
        producer.schedules.add("hourly", Call("nothing"), every(3600))
    with served(redis_url, token="0123456789abcdef") as url, requests.Session() as session:

        def check(case):
            if "wait" in (case.query or {}):
                case.query.pop("wait")  # nobody works here
            if isinstance(case.body, dict) and "wait" in case.body:
                case.body.pop("wait")
            case.call_and_validate(base_url=url, session=session, headers=TOKEN, checks=CHECKS, timeout=30)

        for name, operation in FOUND.items():
            for kind, strategy in strategies(operation).items():
                with subtests.test(name, kind=kind):
                    FEW(given(strategy)(check))()


def strategies(operation) -> dict:
    """Return where cases of an operation come from: fit, fit and about what is there, and unfit."""
    found = {"fit": operation.as_strategy(GenerationMode.POSITIVE)}
    there = {each.name: THERE[each.name] for each in operation.path_parameters}
    if there:
        found["there"] = operation.as_strategy(GenerationMode.POSITIVE, path_parameters=there)
    if list(operation.query) or list(operation.body):  # nothing can be wrong with an id, which is any text
        found["unfit"] = operation.as_strategy(GenerationMode.NEGATIVE)
    return found
