"""The table of every option."""

from pathlib import Path

from mtrl.compose import compose_run
from mtrl.options import table

PAGE = Path(__file__).parent.parent / "docs" / "options.md"


def test_the_page_of_options_is_what_the_configuration_says():
    assert PAGE.read_text() == table(), "make it anew: python -m mtrl.options > docs/options.md"


def test_every_key_has_a_meaning_on_the_page():
    page = PAGE.read_text()
    for choice in ("algo=sac", "algo=td3", "algo=ddpg", "curriculum=adaptive", "experiment=smoke"):
        values = compose_run([choice]).values
        for group, content in values.items():
            for key in content if isinstance(content, dict) else []:
                row = next(line for line in page.splitlines() if line.startswith(f"| `{group}.{key}` |"))
                assert len(row.split("|")[3].strip()) > 5
