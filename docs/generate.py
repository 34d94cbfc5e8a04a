"""Generate the reference tables of the documentation from the code: `python docs/generate.py`.

A generated section of a page stands between two comments, and is replaced as a whole. The rest of the page is edited by
hand.

    <!-- generated: NAME -->
    …
    <!-- end generated -->

To generate another section, add the comments to the page and a function to `SECTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gati import contract
from gati.contract import MessageType
from gati.options import Settings
from gati.settings import allowed, variables

DOCS = Path(__file__).parent

OPTION_GROUPS = {
    "agent_name": "Identity",
    "product_id": "Destinations",
    "user_id": "Conversation defaults",
    "detail": "Content",
    "flush_interval": "Delivery",
}
"""Headings of the options page, by the option that each group starts with."""


def options_section() -> str:
    """Return a table of options for each group."""
    lines: list[str] = []
    for name, field in Settings.model_fields.items():
        if name in OPTION_GROUPS:
            lines += ["", f"## {OPTION_GROUPS[name]}", ""] if lines else [f"## {OPTION_GROUPS[name]}", ""]
            lines += ["| Option | Variable | Default | Meaning | Allowed |", "|---|---|---|---|---|"]
        environment = ", ".join(f"`{variable}`" for variable in variables(name)) or "none"
        default = _format_default(field.get_default(call_default_factory=True))
        limits = _group_digits(allowed(name))
        lines.append(f"| `{name}` | {environment} | {default} | {field.description} | {limits} |")
    return "\n".join(lines)


def _format_default(value: Any) -> str:
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _group_digits(text: str) -> str:
    """Separate the thousands of long numbers: ``from 1048576`` becomes ``from 1 048 576``."""
    return re.sub(r"\d{5,}", lambda number: f"{int(number[0]):,}".replace(",", " "), text)


def message_types_section() -> str:
    """Return the table of message types."""
    lines = ["| message_type | Reports | Id | Parent | Fields |", "|---|---|---|---|---|"]
    for name, kind in contract.MESSAGE_TYPES.items():
        lines.append(f"| `{name}` | {kind.when} | {kind.id} | {kind.parent} | {_format_fields(kind)} |")
    return "\n".join(lines)


def _format_fields(kind: MessageType) -> str:
    """List what a message type holds: ``content, context, model; properties: status``."""
    parts = [", ".join(f"`{name}`" for name in kind.fields)] if kind.fields else []
    for part, keys in (("input", kind.input), ("output", kind.output)):
        if keys is None:
            parts.append(f"`{part}`: the program's values")
        elif keys:
            parts.append(f"`{part}`: " + ", ".join(f"`{key}`" for key in keys))
    if kind.properties:
        parts.append("properties: " + ", ".join(f"`{name}`" for name in kind.properties))
    return "; ".join(parts)


def properties_section() -> str:
    """Return the table of properties."""
    lines = ["| Property | Kind | Meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {known.kind.value} | {known.meaning} |" for name, known in contract.PROPERTIES.items()]
    return "\n".join(lines)


def exit_codes_section() -> str:
    """Return the table of exit codes."""
    from gati.cli.output import Exit

    return "\n".join(["| Exit code | Meaning |", "|---|---|", *(f"| {code.value} | {code.meaning} |" for code in Exit)])


def commands_section() -> str:
    """Return a heading, the help and a table of parameters for each command of `gati`."""
    import typer.main

    from gati.cli.commands import app

    group: Any = typer.main.get_command(app)
    return "\n".join(_command_lines("gati", group.commands))


def _command_lines(above: str, commands: dict[str, Any]) -> list[str]:
    """Return the lines about commands, and about those below them: `gati relay`, then `gati relay run`."""
    lines: list[str] = []
    for name, command in commands.items():
        full_name = f"{above} {name}"
        text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
        below = getattr(command, "commands", {})
        lines += [f"{'#' * full_name.count(' ')}# {full_name}", "", text, ""]
        lines += _command_lines(full_name, below) if below else _usage_lines(full_name, command)
    return lines


def _usage_lines(full_name: str, command: Any) -> list[str]:
    usage = [full_name]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = str(parameter.name).upper()
            label = f"`{shown}`"
            usage.append(shown if parameter.required else f"[{shown}]")
        else:
            label = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        rows.append(f"| {label} | {' '.join((getattr(parameter, 'help', None) or '').split())} |")
    lines = ["```text", f"{' '.join(usage)} [OPTIONS]" if rows else usage[0], "```", ""]
    if rows:
        lines += ["| Parameter | Meaning |", "|---|---|", *rows, ""]
    return lines


SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "commands.md": {"exit codes": exit_codes_section, "commands": commands_section},
    "options.md": {"options": options_section},
    "mapping.md": {"message types": message_types_section, "properties": properties_section},
}
"""Page → name of a section → function that returns its Markdown."""


def replace_section(text: str, name: str, content: str) -> str:
    """Return the page's text with the content of one generated section replaced.

    Raises:
        ValueError: The page does not have exactly one section of this name.
    """
    section = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end generated -->)", re.DOTALL)
    if len(section.findall(text)) != 1:
        raise ValueError(f"expected one section '<!-- generated: {name} -->' … '<!-- end generated -->'")
    return section.sub(lambda match: f"{match[1]}\n{content.strip()}\n\n{match[2]}", text)


def generate_page(page: str) -> str:
    """Return the text of a page with all its generated sections up to date."""
    text = (DOCS / page).read_text("utf-8")
    for name, section in SECTIONS[page].items():
        text = replace_section(text, name, section())
    return text


def main() -> None:
    """Write all pages that have generated sections."""
    for page in SECTIONS:
        (DOCS / page).write_text(generate_page(page), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
