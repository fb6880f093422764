"""Help: in panels, within 80 columns, with room for descriptions, and with examples that can be read."""

import re

import pytest
import typer
from typer.testing import CliRunner

from plada.cli import COMMANDS, app
from plada.commands.console.help import EXAMPLES, OPTIONS, PANELS

GROUP: typer.core.TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_stands_in_one_panel() -> None:
    listed = [name for names in PANELS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS), "plada/commands/console/help.py: PANELS has each command once"
    assert set(EXAMPLES) == set(COMMANDS), "plada/commands/console/help.py: EXAMPLES has examples of each command"
    text = shown("--help")
    places = [text.index(f"\n{panel}:\n") for panel in PANELS]
    assert places == sorted(places)


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_every_option_of_a_long_command_stands_in_one_panel(command: str) -> None:
    names = {str(each.name) for each in GROUP.commands[command].params if each.param_type_name == "option"}
    listed = [name for panel in OPTIONS[command].values() for name in panel]
    assert len(listed) == len(set(listed))
    assert set(listed) == names, f"plada/commands/console/help.py: OPTIONS[{command!r}] has each option once"


@pytest.mark.parametrize("command", ["", *sorted(COMMANDS)])
def test_help_fits_a_terminal(command: str) -> None:
    lines = shown(*([command] if command else []), "--help").splitlines()
    assert max(map(len, lines)) <= 80
    assert not re.search(r"<\w+(\[\w+\])?( range)?>", "\n".join(lines))  # Typer's words for kinds
    # An entry is indented by two, its description stands after at least two blanks, or alone on the next line.
    columns = [match.end() for line in lines if (match := re.match(r"  \S.*?\S {2,}(?=\S)|  \S {2,}(?=\S)", line))]
    assert columns
    assert max(columns) <= 0.4 * 80


def test_help_is_a_word_too() -> None:
    assert shown("help") == shown("--help")
    assert shown("help", "train") == shown("train", "--help")


def test_examples_are_commands_that_can_be_read() -> None:
    for command, lines in EXAMPLES.items():
        for line in lines:
            program, name, *words = line.split()
            assert (program, name) == ("plada", command)
            GROUP.commands[name].make_context(name, words, parent=typer.Context(GROUP), resilient_parsing=False)
