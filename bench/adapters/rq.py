"""RQ on a Redis list: a worker process that forks for every job, by default."""

from __future__ import annotations

from collections.abc import Iterable

from .account import buried, payload

PACKAGES = ("rq", "redis")
SETTINGS = {
    "default": "a fork per job",
    "tuned": "SimpleWorker: no fork, so no protection from a crash; json, no log of each job",
}
MESSAGES = {"default": 100, "tuned": 600}
QUICK = "tuned"
CANNOT = "with a fork per job it cannot keep up with 200 messages a second"


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one; a queue for each serializer."""
    from redis import Redis
    from rq import Queue
    from rq.serializers import JSONSerializer

    client = Redis.from_url(url)
    other = Queue("tuned", client, serializer=JSONSerializer)
    for number in numbers:
        for queue in (Queue("default", client), other):
            queue.enqueue("adapters.account.handled", payload(number))


def letters(url: str) -> None:
    """Account for the failed jobs."""
    from redis import Redis
    from rq import Queue
    from rq.registry import FailedJobRegistry

    queue = Queue("default", Redis.from_url(url))
    for job_id in FailedJobRegistry(queue=queue).get_job_ids():
        job = queue.fetch_job(job_id)
        if job:
            buried(job.args[0])


def work(url: str, setting: str) -> None:
    """Be its command line."""
    from rq.cli import main

    more = ["-w", "rq.SimpleWorker", "-S", "rq.serializers.JSONSerializer", "--quiet"]
    main(["worker", "--url", url, *(more if setting == "tuned" else []), setting])
