"""The command line itself. A command's module is only loaded when it is called."""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from ckptsync import __version__
from ckptsync.cli.invocation import Invocation

COMMANDS: Final = {
    "run": "Keep pipelines in sync: the daemon.",
    "push": "Push the newest complete checkpoint to the bucket.",
    "pull": "Pull a checkpoint from the bucket.",
    "list": "List local checkpoints and those in the bucket, side by side.",
    "show": "Show what one checkpoint in the bucket holds.",
    "keep": "Keep a checkpoint from being pruned.",
    "unkeep": "Take a name away that keeps a checkpoint.",
    "status": "Show how a pipeline and its bucket are doing.",
    "topology": "Show the nodes of a pipeline: their roles, and how far behind they are.",
    "history": "Show who was primary when, and what was run on this node.",
    "activate": "Make this node the primary of a pipeline.",
    "switchover": "Give a pipeline to a standby, with nothing lost.",
    "rejoin": "Make a node that was displaced a standby.",
    "pause": "Let the daemon push and pull nothing by itself.",
    "resume": "End a pause: let the daemon push or pull by itself again.",
    "reload": "Let the daemon read its configuration anew.",
    "may-start": "Tell a pipeline's unit whether its engine may start on this host.",
    "verify": "Check that checkpoints are whole.",
    "prune": "Delete the checkpoints that no rule keeps any more.",
    "doctor": "Try out everything that a pipeline depends on.",
    "diverged": "Settle which state counts after this node ran without the bucket.",
    "repair": "Mend a bucket whose head was lost, or went back in time.",
    "config": "Check a configuration, print an example, or translate one.",
}
"""With the first line of their help."""
_ELSEWHERE: Final = {"forget": "prune", "gc": "prune", "delete": "prune"}
"""What other tools call them."""


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = import_module(f"ckptsync.cli.commands.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            known = _ELSEWHERE.get(args[0])
            close = [known] if known else get_close_matches(args[0], COMMANDS, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"there is no command {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands, no_args_is_help=False, context_settings={"auto_envvar_prefix": "CKPTSYNC"}
)
@click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration; /etc/ckptsync/config.toml if not told.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log what is done: --log-level info.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is logged on stderr; warnings if not told, by 'run' more.",
)
@click.option("--json-logs", is_flag=True, help="Log lines of JSON.")
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_obj
def application(
    invocation: Invocation,
    config: Path | None,
    verbose: bool,
    log_level: str | None,
    json_logs: bool,
) -> None:
    """Sync the checkpoints of stateful data pipelines, and restore them after a disaster.

    PIPELINE may be left out where the configuration has only one. Every option can be given as
    an environment variable, too: CKPTSYNC_CONFIG, CKPTSYNC_PULL_CHECKPOINT and so on.
    """
    from ckptsync import log
    from ckptsync.cli.console import Sentences

    invocation.log_level = log_level or ("info" if verbose else None)
    invocation.json_logs = json_logs
    log.configure(json=json_logs, level=invocation.log_level or "warning", told=Sentences)
    invocation.config_path = config
