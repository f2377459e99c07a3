"""What the project writes as an override is read as the value that was meant, and a path of a person as that path."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mtrl.config.compose import as_hydra_reads, compose, compose_sweep
from mtrl.config.values import written

WORDS = (
    "",
    "null",
    "True",
    "1",
    "2026_11_25",
    "1e5",
    ".5",
    "-inf",
    "nan",
    "${a}",
    "\\${a}",
    "\\",
    '\\"',
    "'",
)
TEXT = st.one_of(
    st.sampled_from(WORDS), st.text(max_size=9), st.text("ab1_.,:=()[]{}'\"\\$~#&%@ \té", max_size=9)
)
SCALARS = st.one_of(TEXT, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
TABLES = st.dictionaries(st.from_regex("[a-z][a-z0-9-]{0,5}", fullmatch=True), SCALARS, max_size=3)


@settings(deadline=None, database=None)
@given(
    st.one_of(
        SCALARS, TABLES, st.lists(st.one_of(SCALARS, TABLES, st.lists(SCALARS, max_size=3)), max_size=3)
    )
)
def test_a_value_is_read_back_as_it_was_written(value):
    (override,) = OverridesParser.create().parse_overrides([f"key={written(value)}"])
    read = OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True)["key"]
    assert (read, type(read)) == (value, type(value))


PATHS = (
    "josé",
    "lr=3",
    "a#b",
    "a&b",
    "a(b",
    "a[b",
    "~a",
    "it's",
    "a{b",
    "[a]",
    "2026_11_25",
    "true",
    "1.0",
    "a=b,c=d",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["output", "++output", "transfer.source", "+transfer.source"])
def test_a_path_needs_no_quotes(key, path):
    (override,) = OverridesParser.create().parse_overrides([as_hydra_reads(f"{key}={path}")])
    assert override.value() == path
    if key == "output":
        assert compose([f"output={path}"]).config.output == path
        assert [
            compose(member).config.output for member in compose_sweep([f"output={path}", "seed=1,2"]).members
        ] == [path] * 2


@pytest.mark.parametrize(
    "value", ["'a,b'", '"a"', "choice('A','B')", "a,b", "${oc.env:HOME}/x", "null", "a\\,b", ""]
)
def test_a_path_in_hydras_grammar_stays_as_it_is(value):
    assert as_hydra_reads(f"transfer.source={value}") == f"transfer.source={value}"
