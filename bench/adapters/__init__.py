"""Adapters: one module per peer, about 30 lines each; bench/README.md says what is in one.

They run in a peer's own processes, where this folder is the package `adapters`: nothing here imports
the product or the rig, so that a peer neither pays for our imports nor shares our requirements.
"""

NAMES = (
    "ours",
    "redis_stream_queue",
    "redis_streams",
    "streamix",
    "dramatiq",
    "huey",
    "taskiq",
    "arq",
    "celery",
    "rq",
)
