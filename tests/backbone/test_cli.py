"""`python -m backbone`: verbs are listed, and the commands that the help ends with run."""

import shlex

import pytest

from backbone.cli import main


@pytest.mark.parametrize("verb", ["cost", "weights"])
def test_help_ends_with_two_commands_that_run(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    *_, title, first, second = capsys.readouterr().out.splitlines()
    assert title == "examples:"
    for line in (first, second):
        python, dash, module, *words = shlex.split(line)
        assert (python, dash, module, words[0]) == ("python", "-m", "backbone", verb)
        assert main(words) == 0


def test_a_missing_verb_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    listed = capsys.readouterr().err
    assert "cost      count mult-adds" in listed
    assert "weights   list the published weights" in listed
