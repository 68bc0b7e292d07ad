"""The command ``hv``: its global options, and its subcommands, which are imported when they are used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any, Final, NoReturn

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete, shell_complete

import hvcore
from hvcore.cli.exit_status import exit_code_of
from hvcore.cli.guesses import near_word
from hvcore.cli.options import command
from hvcore.cli.output import say
from hvcore.cli.session import check_run_dir

__all__ = ["COMMANDS", "SYNONYMS", "HvGroup", "completion", "hv", "show_help"]

_COMPLETE_VARIABLE: Final = "_HV_COMPLETE"  # set by a shell that wants its line completed

COMMANDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Drivers and instance files": {
        "drivers": "drivers.drivers:drivers",
        "params": "drivers.drivers:params",
        "check": "files.validate:check",
        "verify": "files.validate:verify",
        "plan": "files.validate:plan",
        "explain": "files.validate:explain",
        "conformance": "drivers.conformance:conformance",
    },
    "For driver authors": {
        "new-driver": "drivers.scaffold:new_driver",
        "new-extension": "drivers.scaffold:new_extension",
        "schema-diff": "drivers.drivers:schema_diff",
    },
    "Instances": {
        "start": "instances.lifecycle:start",
        "list": "instances.listing:list_instances",
        "info": "instances.listing:info",
        "watch": "instances.watching:watch",
        "abi": "files.guest_abi:abi",
        "upgrade-check": "files.upgrade_check:upgrade_check",
        "console": "access.console:console",
        "ssh": "access.ssh:ssh",
        "cp": "access.ssh:copy",
        "view": "access.displays:view",
        "screenshot": "access.displays:screenshot",
        "vnc-password": "access.displays:vnc_password",
        "exec": "access.exec_and_log:execute",
        "log": "access.exec_and_log:log",
        "attach": "instances.attaching:attach",
        "detach": "instances.attaching:detach",
        "insert": "instances.attaching:insert",
        "eject": "instances.attaching:eject",
        "resize": "instances.attaching:resize",
        "modify": "instances.modifying:modify",
        "stop": "instances.lifecycle:stop",
        "reboot": "instances.lifecycle:reboot",
        "pause": "instances.lifecycle:pause",
        "resume": "instances.lifecycle:resume",
        "balloon": "instances.tuning:balloon",
        "memory": "instances.tuning:memory",
        "vcpus": "instances.tuning:vcpus",
        "pin": "instances.tuning:pin",
        "reset": "access.guest_power:reset",
        "powerdown": "access.guest_power:powerdown",
        "send-key": "access.guest_power:send_key",
        "nmi": "access.guest_power:nmi",
        "migrate": "instances.migrating:migrate",
        "cleanup": "instances.lifecycle:cleanup",
    },
    "Definitions": {
        "new": "files.new_guest:new",
        "define": "files.definitions:define",
        "edit": "files.definitions:edit",
        "undefine": "files.definitions:undefine",
        "rename": "files.definitions:rename",
        "autostart": "files.definitions:autostart",
        "changes": "files.definitions:changes",
        "apply": "instances.attaching:apply",
    },
    "Node": {
        "node": "node.whole_node:node",
        "top": "node.whole_node:top",
        "metrics": "node.whole_node:metrics",
        "recover": "instances.lifecycle:recover",
        "act": "instances.watching:act",
        "migrate-node": "instances.migrating:migrate_node",
        "doctor": "node.diagnose:doctor",
        "install-units": "node.install_units:install_units",
        "help": "app:show_help",
        "completion": "app:completion",
    },
}
"""For each heading of the help: the subcommands, and where each is defined (``module:name`` in this package)."""

SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "ls": ("list",),
    "ps": ("list",),
    "status": ("info",),
    "shutdown": ("stop",),
    "destroy": ("stop", "--force"),
    "restart": ("reboot",),
}
"""Words of other tools that run a subcommand of hv."""

_ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("create", "launch"), "use 'hv new NAME --image FILE', or 'hv define FILE'"),
    **dict.fromkeys(("run", "up", "boot"), "use 'hv start FILE', or 'hv define FILE'"),
    **dict.fromkeys(("scp", "copy", "push", "pull"), "use 'hv cp FILE NAME:PATH'"),
    **dict.fromkeys(("rm", "delete", "remove"), "use 'hv stop NAME', and 'hv undefine NAME' if it is defined"),
    **dict.fromkeys(("kill", "poweroff"), "use 'hv stop NAME', or 'hv stop NAME --force'"),
    **dict.fromkeys(("show", "inspect", "dominfo"), "use 'hv info NAME'"),
    **dict.fromkeys(("shell", "enter", "login"), "use 'hv ssh NAME', 'hv console NAME' or 'hv exec NAME sh'"),
    **dict.fromkeys(("suspend", "freeze"), "use 'hv pause NAME'"),
    **dict.fromkeys(("unpause", "continue", "thaw"), "use 'hv resume NAME'"),
    **dict.fromkeys(("logs", "journal"), "use 'hv log NAME'"),
    **dict.fromkeys(("nodeinfo", "freecell", "host"), "use 'hv node'"),
    **dict.fromkeys(("domstats", "stats", "cpu-stats"), "use 'hv top' or 'hv metrics'"),
    **dict.fromkeys(("setmem", "setmaxmem"), "use 'hv balloon NAME SIZE' or 'hv memory NAME SIZE'"),
    **dict.fromkeys(("domif-setlink", "domiftune", "update-device"), "use 'hv modify NAME DEVICE KEY=VALUE'"),
    **dict.fromkeys(("setvcpus", "vcpucount"), "use 'hv vcpus NAME COUNT'"),
    **dict.fromkeys(("vcpupin", "emulatorpin", "iothreadpin", "taskset"), "use 'hv pin NAME CPUS'"),
    **dict.fromkeys(("validate", "lint"), "use 'hv check FILE'"),
    "version": "use 'hv --version'",
}
"""Words of other tools, with what to use."""

_PLACES: Final = {name: place for section in COMMANDS.values() for name, place in section.items()}


class HvGroup(click.Group):
    """All subcommands. An error becomes one ``hv: ...`` on stderr and an exit code, never a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all subcommands, in the order of the help."""
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand with that name, imported now, or None if it does not exist."""
        place = _PLACES.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(importlib.import_module(f"hvcore.cli.{module}"), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, with the nearest name in the message about an unknown subcommand."""
        if args[0] == "status" and not any(not argument.startswith("-") for argument in args[1:]):
            args = ["list", *args[1:]]
        args = [*SYNONYMS.get(args[0], args[:1]), *args[1:]]
        name = args[0]
        if name not in _PLACES and not name.startswith("-") and not ctx.resilient_parsing:
            hint = _ELSEWHERE.get(name) or near_word(name, [*_PLACES, *SYNONYMS]) or "see 'hv --help'"
            raise click.UsageError(f"{name!r}: no such subcommand; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands under their headings."""
        for heading, section in COMMANDS.items():
            found = [(name, self.get_command(ctx, name)) for name in section]
            with formatter.section(heading):
                formatter.write_dl([(name, one.get_short_help_str(80)) for name, one in found if one])

    def main(  # type: ignore[override]  # click's overloads say when main() returns; this one never does
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **_extra: Any,
    ) -> NoReturn:
        """Run the command line and end with its exit code (SystemExit)."""
        given = list(sys.argv[1:] if args is None else args)
        sys.exit(exit_code_of(lambda: self._run(given), as_json="--json" in _own_words(given)))

    def _run(self, args: list[str]) -> int:
        instruction = os.environ.get(_COMPLETE_VARIABLE)
        if instruction:
            # A message, also of a plugin, would end up in the line that is being typed.
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
                try:
                    return shell_complete(self, {}, "hv", _COMPLETE_VARIABLE, instruction)
                except Exception:  # noqa: BLE001 - as above
                    return 1
        if not args:
            click.echo(self.get_help(click.Context(self, info_name="hv")), err=True)
            return 2
        with self.make_context("hv", args) as ctx:
            self.invoke(ctx)
        return 0


def _own_words(given: list[str]) -> list[str]:
    """The words for hv: those before ``--``, and none of hv exec, whose words are for the program."""
    words = given[: given.index("--")] if "--" in given else given
    values = ("--run-dir", "--config-dir")
    subcommand = next(
        (at for at, word in enumerate(words) if word[:1] != "-" and (not at or words[at - 1] not in values)), None
    )
    return words[:subcommand] if subcommand is not None and words[subcommand] == "exec" else words


def _show_version(ctx: click.Context, _param: click.Parameter, value: object) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"hv {hvcore.__version__}")
        ctx.exit()


@click.group(
    cls=HvGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="SUBCOMMAND [ARGS]...",
    epilog="""\b
Example:
  hv check web1.toml && hv start web1.toml --console
  hv list
  hv stop web1

\b
Words of other tools: ls and ps are list, status is info, shutdown is stop,
destroy is stop --force, restart is reboot.

\b
Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 not supported by the
driver, 4 no such instance, 5 busy. 'hv SUBCOMMAND --help' shows examples.""",
)
@click.option(
    "--run-dir",
    metavar="DIR",
    callback=check_run_dir,
    type=click.Path(file_okay=False),
    help="Directory with the state of this node's instances. Default: HVCORE_RUN_DIR, otherwise /run/hvcore for root "
    "and hvcore in XDG_RUNTIME_DIR for other users.",
)
@click.option(
    "--config-dir",
    metavar="DIR",
    callback=check_run_dir,
    type=click.Path(file_okay=False),
    help="Directory with this node's parameter values (node.toml), profiles and definitions. Default: HVCORE_CONFIG_DIR, "
    "otherwise /etc/hvcore; but definitions of users other than root are in ~/.config/hvcore.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version and exit.",
)
def hv(run_dir: str | None, config_dir: str | None) -> None:
    """Run virtual machines and chroots on this machine."""


@command(
    "hv completion bash > /etc/bash_completion.d/hv",
    'hv completion zsh > "${fpath[1]}/_hv"',
    "hv completion fish > ~/.config/fish/completions/hv.fish",
    'eval "$(hv completion bash)"        # in this shell only',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    kinds = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    complete = kinds[shell](hv, {}, "hv", _COMPLETE_VARIABLE)
    # Not source(): it runs bash to read its version, and bash may be missing where the script is made.
    say((complete.source_template % complete.source_vars()).strip())


@command("hv help", "hv help start", name="help")
@click.argument("subcommand", required=False)
def show_help(subcommand: str | None) -> None:
    """Show the help of hv, or of a subcommand."""
    top = click.get_current_context().find_root()
    if subcommand is None:
        say(top.get_help())
        return
    name, found, _ = hv.resolve_command(top, [subcommand])
    if found is not None:
        say(found.get_help(click.Context(found, info_name=name, parent=top)))
