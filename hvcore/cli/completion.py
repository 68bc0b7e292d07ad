"""``hv completion``: the script that makes a shell complete subcommands, options, instances, drivers and files."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from hvcore.cli.app import COMPLETE_VARIABLE, hv
from hvcore.cli.output import say

__all__ = ["completion"]


@click.command(
    epilog="""\b
Example:
  hv completion bash > /etc/bash_completion.d/hv
  hv completion zsh > "${fpath[1]}/_hv"
  hv completion fish > ~/.config/fish/completions/hv.fish
  eval "$(hv completion bash)"        # in this shell only"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    kinds = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    complete = kinds[shell](hv, {}, "hv", COMPLETE_VARIABLE)
    # Not source(): for bash it starts a bash to look at its version, and this may run where there is none.
    say((complete.source_template % complete.source_vars()).strip())
