"""The command line itself: its help, its version, and its exit status when it is used wrongly."""

from __future__ import annotations

import pytest

from whop_middleware.cli import main


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert {"demo", "check", "explain"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["demo", "--help"], ["check", "--help"]])
def test_help_and_version_exit_0(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 0
    assert "whop-middleware" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [["explain", "vip"], ["demo", "--port", "70000"], ["demo", "--port", "x"], ["demo", "--recheck-after", "0"], ["x"]],
)
def test_wrong_command_line_exits_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err
