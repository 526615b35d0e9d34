"""The command spic: light to start, one line per subcommand, one line per mistake."""

import subprocess
import sys

import pytest

from spic.cli import COMMANDS, main


def test_help_names_every_command_within_80_columns(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS) and max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_a_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and said.startswith(f"usage: spic {name}")


@pytest.mark.parametrize("words,message", [
    (["vall"], "unknown command 'vall'; there are: try, splits"),
    (["val", "--task", "detection"], "--task: invalid choice: 'detection'"),
])
def test_a_wrong_command_is_one_line(words, message, capsys):
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    error = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(error) == 1 and message in error[0]


def test_the_help_loads_no_torch():
    program = "import sys, spic.cli; spic.cli.main(['--help']); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_coding_loads_no_torch():
    program = "import sys, spic.coding, spic.coding.stream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_python_m_spic_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "spic", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("spic ")
