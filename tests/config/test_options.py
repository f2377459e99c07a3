"""The table of every key in docs/."""

import runpy

from tiny_runs import REPOSITORY

from mtrl.experiment import compose_run

PAGE = REPOSITORY / "docs" / "options.md"


def test_the_page_of_options_is_what_the_configuration_says():
    script = runpy.run_path(str(REPOSITORY / "docs" / "options.py"))
    assert PAGE.read_text() == script["table"](), "make it anew: python docs/options.py"


def test_every_key_has_a_meaning_on_the_page():
    page = PAGE.read_text()
    for choice in ("algo=sac", "algo=td3", "algo=ddpg", "curriculum=adaptive", "experiment=smoke"):
        values = compose_run([choice]).values
        for group, content in values.items():
            for key in content if isinstance(content, dict) else []:
                row = next(line for line in page.splitlines() if line.startswith(f"| `{group}.{key}` |"))
                assert len(row.split("|")[3].strip()) > 5
