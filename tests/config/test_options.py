"""The table of every option."""

import pytest
from tiny_runs import REPOSITORY

from mtrl.config.options import main, table
from mtrl.experiment import compose_run

PAGE = REPOSITORY / "docs" / "options.md"


def test_the_page_of_options_is_what_the_configuration_says():
    assert PAGE.read_text() == table(), "make it anew: python -m mtrl.config.options > docs/options.md"


def test_its_help_is_help_and_not_the_table(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert "usage: python -m mtrl.config.options" in shown
    assert "| key |" not in shown
    assert main([]) == 0
    assert capsys.readouterr().out == table()


def test_every_key_has_a_meaning_on_the_page():
    page = PAGE.read_text()
    for choice in ("algo=sac", "algo=td3", "algo=ddpg", "curriculum=adaptive", "experiment=smoke"):
        values = compose_run([choice]).values
        for group, content in values.items():
            for key in content if isinstance(content, dict) else []:
                row = next(line for line in page.splitlines() if line.startswith(f"| `{group}.{key}` |"))
                assert len(row.split("|")[3].strip()) > 5
