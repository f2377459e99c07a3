"""Command lines that nobody has thought of: each runs nothing, or is refused in one sentence, at once."""

import contextlib
import os
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtrl import hardware
from mtrl.__main__ import main
from mtrl.config.compose import compose, compose_sweep, defaults_of, groups
from mtrl.config.values import flatten
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run

KEYS = sorted({*flatten(defaults_of(experiment="mt10").values), *groups()} - {"dry_run"})
_OTHERS = """
algo.kwargs.a curriculum.difficulty.reach-v3 curriculum.difficulty transfer.freeze_steps.actor algo env hydra.verbose
hydra hydra.run.dir hydra/launcher hydra.sweep.dir hydra.mode hydra.job.name hydra.x hydra.sweeper.max_batch_size
hydra.launcher._target_ gamma a.b.c é [ env.tasks.0 variant.shared_layers algo.action_noise fresh seed phase
"""
_VALUES = r"""
null true 7 -1 0 1e400 -inf nan 99999999999999999999 1e308 1e-320 1.5 a reach-v3 é 'a " # ~ \ a=b 0x1 ??? ..x os.path
os.path. /proc/x ../x {_target_:os.getcwd} [] {} [[]] [[[1]]] [{a:1}] {a:{b:[1]}} [null] [a,1,true] {reach-v3:[1]} [ }
a,b 1,2 choice(1,2) range(1,3) glob(*) int(a) foo(1) sort(2,1) choice( interval(1,2) ${seed} ${nothing} ${output}
${now:%Y} ${oc.env:NOPE} ${oc.env:HOME} ${ ${} ${a:b} ${oc.create:1} ${env} 'a' "1" [1e400] [99999999999999999999] [nan]
"""
OTHERS = _OTHERS.split()
VALUES = [*_VALUES.split(), "", "a b", "a\nb", "'a\nb'", "\x1b[31m", "x" * 300, "'x, y'"]
FLAGS = [
    "--cfg=job",
    "--cfg=all",
    "--info=defaults",
    "-sc",
    "--hydra-help",
    "--run",
    "--resolve",
    "--x",
    "-",
    "--cfg",
]


@pytest.fixture(autouse=True)
def empty_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "free_memory", lambda: 8 * 2**30)
    # What torch alone can tell is told at once in a process that has it.
    with pytest.raises(ConfigurationError):
        compose_run(["algo.kwargs.a=1"])
    yield
    assert not list(tmp_path.iterdir())


def line(number):
    """Return one to three words, most of which are wrong."""
    draw = random.Random(number)
    forms = ("{}={}", "{}={}", "{}={}", "{}={}", "{}={}", "+{}={}", "++{}={}", "~{}", "{}@a={}", "{}")
    words = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        key = draw.choice(KEYS if draw.random() < 0.7 else OTHERS)
        words.append(draw.choice(forms).format(key, draw.choice(VALUES)))
    words += [draw.choice(FLAGS)] * (draw.random() < 0.1) + ["-m"] * (draw.random() < 0.1)
    return draw.sample(words, len(words))


NUMBERS = [
    pytest.param(range(n, n + 30), marks=[] if n == 0 else pytest.mark.slow) for n in range(0, 600, 30)
]


@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
def test_a_wrong_command_line_is_answered_in_one_sentence_at_once(numbers, capsys, monkeypatch):
    for words in map(line, numbers):
        monkeypatch.setattr("sys.argv", ["mtrl"])
        begin = time.process_time()
        with pytest.raises(SystemExit) as end:
            main([*words, "dry_run=true"])
        used, error = time.process_time() - begin, capsys.readouterr().err
        assert end.value.code in (0, 2, None), (words, error)
        assert used < 2, words
        assert "Traceback" not in error, (words, error)
        if end.value.code == 2:
            assert (error[:6], error.count("\n")) == ("mtrl: ", 1), (words, error)


TEXT = st.text("abEe01_.,:=()[]{}'\"\\$~+@/- é\n", max_size=12)
PAIRS = (st.sampled_from([*KEYS, *OTHERS]), st.one_of(TEXT, st.sampled_from(VALUES), st.text()))


@pytest.mark.slow
@settings(
    deadline=None,
    database=None,
    max_examples=int(os.environ.get("MTRL_EXAMPLES", "300")),
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.one_of(TEXT, st.builds("{}={}".format, *PAIRS)), max_size=3))
def test_whatever_is_given_composes_or_is_refused(words):
    for read in (compose, compose_sweep):
        with contextlib.suppress(ConfigurationError):
            read(words)
