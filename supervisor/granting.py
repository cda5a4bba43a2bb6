"""`rsq acl`: the rights that a pool needs, as a line to give to the server."""

import click

from ..streams import acl
from .failing import tell
from .fleet import Fleet

HINT = (
    "rsq: give this line to the server with redis-cli, then a password: ACL SETUSER {user} '>PASSWORD';"
    " ACL SAVE or CONFIG REWRITE keeps both over a restart"
)


@click.command("acl")
@click.option("--stream", envvar="RSQ_STREAM", default="events", show_default=True, help="Stream to read.")
@click.option("--group", envvar="RSQ_GROUP", default="workers", show_default=True, help="Consumer group.")
@click.option("--dlq", envvar="RSQ_DLQ", help="Stream for dead letters.  [default: STREAM:dlq]")
@click.option("--user", default="rsq", show_default=True, help="Name of the user.")
@click.option("--redis", envvar="RSQ_REDIS", help="URL; only read for whether it is a cluster.")
def acl_command(stream: str, group: str, dlq: str | None, user: str, redis: str | None) -> None:
    """Print the ACL SETUSER line with the least rights that a pool needs.

    Nothing is sent to the server. The line replaces the user's rights and leaves its passwords alone, so it
    may be given again after an upgrade.
    """
    with Fleet(redis or "redis://localhost", stream, group, dlq=dlq) as fleet:
        click.echo(acl.line(fleet.acl(user)))
    tell(HINT.format(user=user), err=True)
