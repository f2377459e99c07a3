"""Whatever is wrong with a curriculum, a transfer or its source is answered in one sentence, with nothing written."""

import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from command_lines import answers
from saved_runs import save_run
from tiny_runs import REPOSITORY, TINY

from mtrl.algo.make import make_agent
from mtrl.config import compose
from mtrl.config.types import HardwareConfig
from mtrl.config.values import quoted
from mtrl.env.make import make_training_env
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run
from mtrl.transfer import source as sources
from mtrl.transfer import start
from mtrl.transfer.start import Transfer


def wrong_values():
    """Return (key, value) that are wrong whatever else is given, for the two tasks of experiment=smoke."""
    lines = (REPOSITORY / "tests" / "data" / "wrong_values.txt").read_text().splitlines()
    found = [(key, value) for key, *values in map(str.split, lines) for value in values]
    found += [("transfer.source", "x" * 300), ("transfer.source", "x/" * 2000)]
    found.append(("curriculum.stages", f"[{{reach-v3:{'9' * 400}}}]"))
    return [(key, value.encode().decode("unicode_escape")) for key, value in found]


CONTEXTS = ("", "curriculum=sequential", "curriculum=adaptive", "variant=shared algo=td3", "task=null seed=7")


def wrong_lines(number, seed=0):
    """Return command lines with one or two of the wrong values, in some order, each with something right."""
    draw, wrong = random.Random(seed), wrong_values()
    draw.shuffle(wrong)
    for key, value in wrong[:number]:
        other, its_value = draw.choice(wrong)
        words = [f"{key}={value}", f"{other}={its_value}"][: 1 + (other != key and draw.random() < 0.3)]
        chosen = any(word.startswith("curriculum=") for word in words)
        words += [] if chosen else draw.choice(CONTEXTS).split()
        draw.shuffle(words)
        yield ["experiment=smoke", *words]


@pytest.mark.parametrize("number", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_wrong_command_lines_are_refused_in_one_sentence(tmp_path, number):
    lines = list(wrong_lines(number))
    for words, answer in zip(lines, answers(lines, tmp_path), strict=True):
        assert answer.code == 2, (words, answer)
        assert answer.printed.startswith("mtrl: "), (words, answer)
        assert answer.printed.isprintable(), (words, answer)
        assert answer.imported == [], (words, answer)
        assert answer.seconds < 1.5, (words, answer)
    assert list(tmp_path.iterdir()) == []


SIGNS = ("lr=3", "jos\u00e9", "a, b", "a(b)", "it's", "[x]", "{a}", 'a"b', "a\\b", "$x", "#&~", "2026_11_25")


def test_a_source_lies_where_its_run_does_whatever_the_name_of_the_directory(tmp_path):
    for name in SIGNS:
        output = str(tmp_path / name)
        composition = compose_run(["experiment=transfer/reach_to_push", f"output={quoted(output)}"])
        assert composition.config.output == composition.source.config.output == output


def test_a_chain_that_leads_back_to_itself_is_refused(tmp_path, monkeypatch):
    conf = shutil.copytree(compose.CONF, tmp_path / "conf")
    for name, source in (("one", "two"), ("two", "one"), ("self", "self")):
        text = "# @package _global_\ndefaults:\n  - /experiment/mt1@_global_\n  - _self_\n\n"
        (conf / "experiment" / f"{name}.yaml").write_text(
            f"{text}transfer: {{train: [experiment={source}]}}\n"
        )
    monkeypatch.setattr(compose, "CONF", conf)
    for words in (["experiment=self"], ["experiment=one"], ["experiment=two", "variant=shared"]):
        with pytest.raises(ConfigurationError, match="leads back to the same run"):
            compose_run(words)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    normalised = "env.normalize_observations=true"
    source = save_run(tmp_path_factory.mktemp("source"), "experiment=mt1", normalised)
    words = [*TINY, "experiment=mt3", normalised, "algo.batch_size=60", f"transfer.source={source}"]
    return source, compose_run(words).config


def from_source(cfg, path):
    return replace(cfg, transfer=replace(cfg.transfer, source=str(path)))


KINDS = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_bytes(b"\x1b[31m" + b"x" * 2000),
    "deleted": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a dead link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "20 GiB": lambda path: os.truncate(path, 20 * 2**30),
}
READ = ("empty", "cut", "text", "20 GiB")
"""A file of these kinds is there to be read."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_of_a_source_is_refused_or_of_no_use(saved, tmp_path, kind):
    source, cfg = saved
    whole, refused = Transfer(cfg).lineage, ("model.zip", "normaliser.npz", "../../config.yaml")
    for name in (*refused, "score.json", "../../status.json", "../../lineage.json"):
        path = shutil.copytree(source, tmp_path / name.replace("/", "-"))
        file = path / "checkpoints" / "best" / name
        file.touch()
        KINDS[kind](file)
        must = {"score.json": kind in READ}.get(name, name in refused)
        try:
            found, said = Transfer(from_source(cfg, path)).lineage, None
        except ConfigurationError as refusal:
            found, said = None, str(refusal)
        if said is not None:
            assert must
            assert "\n" not in said
        else:
            # Half a configuration may be a configuration, and a score that is not there is not needed.
            assert not must or (name, kind) == ("../../config.yaml", "cut")
            assert all(found[key] == whole[key] for key in ("sha256", "tasks", "origins"))


def gone(path):
    shutil.rmtree(path)


def moved(path):
    path.rename(path.with_name("elsewhere"))


def trained_on(path):
    model = path / "checkpoints" / "best" / "model.zip"
    model.write_bytes(model.read_bytes() + b" ")


@pytest.mark.parametrize("change", [gone, moved, trained_on])
@pytest.mark.parametrize("when", ["found", "read"])
def test_a_source_that_changes_while_it_is_read_is_refused(saved, tmp_path, monkeypatch, change, when):
    source, cfg = saved
    path = shutil.copytree(source, tmp_path / "source")
    name = {"found": "find_model", "read": "read_weights"}[when]
    original = getattr(sources, name)

    def changed(*arguments):
        found = original(*arguments)
        change(path)
        return found

    sha256 = Transfer(from_source(cfg, path)).source.sha256
    monkeypatch.setattr(sources, name, changed)
    with pytest.raises(ConfigurationError, match=r"damaged|has changed since"):
        Transfer(from_source(cfg, path), sha256[:8])


ROWS = {
    "nothing": lambda rows: {},
    "no tasks": lambda rows: {name: rows[name] for name in rows if name != "tasks"},
    "another task": lambda rows: rows | {"tasks": rows["tasks"] + 7},
    "short rows": lambda rows: rows | {"rewards": rows["rewards"][:-1]},
    "narrow observations": lambda rows: rows | {"observations": rows["observations"][:, :5]},
    "words": lambda rows: rows | {"rewards": np.full(len(rows["rewards"]), "x")},
    "NaN": lambda rows: rows | {"rewards": rows["rewards"] * np.nan},
}


def test_a_replay_that_is_no_replay_is_refused(train, tmp_path, monkeypatch):
    path = train(tmp_path, "experiment=mt1", "total_steps=40", "hardware.backend=native", "algo.batch_size=8")
    parts = "transfer.parts=[actor,critic,replay]"
    cfg = compose_run([*TINY, "experiment=mt1", f"transfer.source={path}", parts]).config
    machine = HardwareConfig("cpu", "native", 1, 1, 1, "off")
    env = make_training_env(cfg, machine)
    agent, read = make_agent(cfg, env, machine), start.read_arrays
    env.close()
    for change in ROWS.values():
        monkeypatch.setattr(start, "read_arrays", lambda path, change=change: change(read(path)))
        with pytest.raises(ConfigurationError, match=r"the replay of .* is damaged.*leave replay out"):
            Transfer(cfg).begin(agent)
