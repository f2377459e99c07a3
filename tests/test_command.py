"""The command as a person meets it: exit codes, one sentence, how long it takes, what it leaves behind."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import yaml
from tiny_runs import REPOSITORY, TINY, without

from mtrl import __version__
from mtrl.__main__ import main
from mtrl.config.compose import groups
from mtrl.config.help import offered
from mtrl.errors import REFUSED
from mtrl.experiment import compose_run, run_directory


def within(limit, run, *words):
    """Return the result of a command that takes less than ``limit`` seconds where nothing else runs.

    Its processor time is counted, for what others do to the wall clock says nothing about the command.
    """
    before = os.times()
    result = run(*words)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < limit
    return result


def ended(words, capsys):
    """Return the exit code of a command in this process, and what it printed."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


def test_help_explains_every_group_with_examples_and_at_once(command, tmp_path):
    result = within(1.5, command, "--help")
    assert result.returncode == 0
    for word in ("experiment", "algo", "variant", "curriculum", "hardware", "python -m mtrl experiment=mt10"):
        assert word in result.stdout
    assert not list(tmp_path.iterdir())


def test_help_can_be_cut_short_by_its_reader(tmp_path):
    line = f"{sys.executable} -m mtrl --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = ["bash", "-c", line]
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_examples_of_the_help_compose(monkeypatch):
    from mtrl import hardware
    from mtrl.config.compose import compose_sweep
    from mtrl.config.help import help_text

    monkeypatch.setattr(hardware, "free_memory", lambda: 64 * 2**30)
    examples = [
        line.split("  ")[1] for line in help_text().splitlines() if line.startswith("  python -m mtrl")
    ]
    assert len(examples) >= 6
    for example in examples:
        words = [word for word in shlex.split(example)[3:] if word != "-m"]
        for member in compose_sweep(words).members:
            compose_run(member)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("evaluation.evry=3", 2),
        ("env.reward=v3", 2),
        ("algo.buffer_size=1e13", 2),
        ("algo.cls=nowhere.SAC", 2),
        ("output=/proc/nowhere", 2),
        ("-m --cfg job seed=1,2", 2),
        # Only torch can tell.
        ("hardware.device=cuda:99", 5),
        ("algo.kwargs.nope=1", 5),
    ],
)
def test_a_refusal_is_one_sentence_and_exit_code_2_in_time_and_writes_nothing(
    command, tmp_path, words, seconds
):
    result = within(seconds, command, *words.split())
    assert result.returncode == REFUSED == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("mtrl: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["experiment=mt10 --help", "-m --help seed=1,2", "-h algo=nothing"])
def test_help_is_given_wherever_it_is_asked_for_and_nothing_starts(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    code, out, _ = ended(words.split(), capsys)
    assert (code, "Groups:" in out) == (0, True)
    assert not list(tmp_path.iterdir())


REFUSED_FLAGS = {
    "--config-name nope": "--config-name is not for this command: choose a recipe with experiment=",
    "experiment=mt3 --config-path=x": "--config-path is not for this command",
    "--config-dir x": "--config-dir is not for this command: put files of your own under conf/",
    "--cfg job --package algo": "--package is not for this command: --cfg job shows",
    "--experimental-rerun x": "the same command again continues a run",
    "-m --cfg job seed=1,2": "--multirun and --cfg exclude each other",
    "-m seed=1,2 --info": "--multirun and --info exclude each other",
    "hydra/launcher=basic seed=1": "hydra/launcher=basic is for the members of a sweep: add -m",
    "--resolve": "--resolve is not for this command: --cfg job shows every value resolved",
    "--hydra-help x=1": "there is no key 'x' in this configuration",
    "--cfg all seed=a": "seed has the wrong type",
    "--cfg hydra hydra.verbose=x": "must be true or false",
    "-sc": "-sc needs one word, such as install=bash: the shells are bash, fish, zsh",
    "-sc install=zsh2": "-sc needs one word",
    "-sc install=bash seed=1": "-sc needs one word",
    "algo.gamma=0.9 algo.gamma=0.8": "algo.gamma=0.9 and algo.gamma=0.8 both set algo.gamma: leave one of them out",
    "algo=sac ++algo=td3": "both set algo",
    "-m seed=1,2 seed=3": "both set seed",
    "seed=1\x1b[31m": "mtrl: seed=1?[31m cannot be read",
}


@pytest.mark.parametrize("words", REFUSED_FLAGS)
def test_a_flag_that_would_do_nothing_is_refused(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    code, _, message = ended(words.split(), capsys)
    assert (code, len(message.splitlines())) == (2, 1)
    assert REFUSED_FLAGS[words] in message
    assert not list(tmp_path.iterdir())


def test_the_traceback_of_a_refusal_can_be_had(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="silently train on v1"):
        main(["env.reward=v3"])


def test_an_output_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, message = ended([f"output={tmp_path}/file/below"], capsys)
    assert code == 2
    assert "cannot be written" in message


def test_cfg_job_prints_the_resolved_configuration(capsys):
    code, out, _ = ended(["--cfg", "job", "task=push-v3", "algo.gamma=0.9"], capsys)
    assert code == 0
    printed = yaml.safe_load(out)
    assert printed["env"]["tasks"] == ["push-v3"]
    assert printed["algo"]["gamma"] == 0.9
    assert printed == json.loads(json.dumps(compose_run(["task=push-v3", "algo.gamma=0.9"]).values))


def test_a_dry_run_shows_the_run_and_writes_nothing(tmp_path, capsys):
    words = ["experiment=mt10_wide", "algo.gamma=0.9", "env.tasks=[reach-v3,push-v3]"]
    code, shown, _ = ended([*words, "dry_run=true", f"output={tmp_path}/out"], capsys)
    assert code == 0
    for word in (
        "algo.gamma=0.9",
        "env.tasks=[reach-v3,push-v3]",
        "MiB",
        str(tmp_path / "out" / "mt10_wide"),
        "2 environments",
        "reach-v3, push-v3",
    ):
        assert word in shown
    assert not list(tmp_path.iterdir())


def banner(words, capsys):
    """Return what the banners of a command say was overridden, one entry a run."""
    code, out, _ = ended([*words, "dry_run=true"], capsys)
    assert code == 0
    return [line.split(": ", 1)[1] for line in out.splitlines() if "overrides of the recipe" in line]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "none"),
        (["experiment=mt10", "fresh=true", "hydra.verbose=false"], "none"),
        (["task=push-v3"], "task=push-v3"),
        (
            ["algo=td3", "stop.success=0.9", "hardware=cpu", "evaluation.every=100", "seed=3"],
            "algo=td3, stop.success=0.9, hardware=cpu, evaluation.every=100, seed=3",
        ),
        (["experiment=mt3", "curriculum=sequential", "curriculum.difficulty={reach-v3: 9}"], None),
    ],
)
def test_the_banner_says_what_was_overridden_in_the_words_used(words, said, capsys):
    wanted = ", ".join(words[1:]) if said is None else said
    assert banner(words, capsys) == [wanted]


def test_the_banners_of_a_transfer_tell_a_persons_words_from_the_projects(capsys):
    source, run, scratch = banner(
        ["experiment=transfer/reach_to_push", "seed=2", "algo.gamma=0.98", "transfer.baseline=true"], capsys
    )
    assert source == "algo.gamma=0.98, task=reach-v3, total_steps=200_000, stop.success=0.95"
    assert run == "seed=2, algo.gamma=0.98, transfer.baseline=true"
    assert scratch == "seed=2, algo.gamma=0.98"


@pytest.mark.parametrize("words", [["--version"], ["seed=2", "--version"]])
def test_the_version_is_the_projects(words, capsys):
    assert ended(words, capsys)[:2] == (0, f"mtrl {__version__}\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--multrun", "seed=1,2"], "no flag --multrun: did you mean --multirun?"),
        (["--multi", "seed=1,2"], "no flag --multi: did you mean --multirun?"),
        (["--seed=3"], "no flag --seed=3: did you mean seed=3?"),
        # Hydra has a flag that begins so: taken for it, the command would train another recipe.
        (["--experiment", "mt10"], "no flag --experiment: did you mean experiment=...?"),
        (["-x"], "no flag -x: python -m mtrl --help shows"),
        (["--zzz"], "no flag --zzz: "),
        (["--cfg"], "argument --cfg/-c: expected one argument: "),
        (["--cfg", "foo"], "argument --cfg/-c: invalid choice: 'foo'"),
    ],
)
def test_a_flag_that_is_not_there_is_one_sentence_that_names_the_nearest(words, hint, capsys):
    code, out, message = ended(["dry_run=true", *words], capsys)
    assert (code, out, len(message.splitlines())) == (2, "", 1)
    assert message.startswith(f"mtrl: {'there is ' * hint.startswith('no flag')}{hint}")


def test_tab_completes_groups_options_and_keys(command):
    def printed(line):
        result = command("-sc", "query=bash", COMP_LINE=f"mtrl {line}", COMP_POINT=str(len(line) + 5))
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    assert {"algo=ddpg", "algo=sac", "algo=td3"} <= set(printed("algo="))
    assert "evaluation.every=" in printed("evaluation.ev")
    assert {"experiment=mt1", "experiment=mt10"} <= set(printed("experiment=mt1"))
    assert "hydra/launcher=basic" in printed("hydra/launcher=")


@pytest.mark.parametrize("group", groups())
def test_tab_offers_exactly_the_options_of_a_group(group):
    assert offered(f"mtrl experiment=mt10 {group}=") == [f"{group}={option}" for option in groups()[group]]


OFFERED = {
    "experiment=paper/mt1_": ["paper/mt1_pick_place", "paper/mt1_push", "paper/mt1_reach"],
    "task=pu": ["push-back-v3", "push-v3", "push-wall-v3"],
    "-m task=reach-v3,pus": ["reach-v3,push-back-v3", "reach-v3,push-v3", "reach-v3,push-wall-v3"],
    "fresh=": ["false", "true"],
    "algo=td3 algo.policy_delay=": ["2"],
    "env.tasks=": [],
    "nothing=": [],
}


@pytest.mark.parametrize("line", OFFERED)
def test_tab_offers_the_values_that_are_known(line):
    key = line.split()[-1].split("=")[0]
    assert offered(f"mtrl {line}") == [f"{key}={value}" for value in OFFERED[line]]


def test_tab_offers_keys_one_level_at_a_time_and_those_of_the_options_chosen():
    assert offered("mtrl ev") == ["evaluation."]
    assert offered("mtrl exp") == ["experiment="]
    assert offered("mtrl al") == ["algo.", "algo="]
    assert offered("mtrl seed=3 tas") == ["task="]
    assert offered("mtrl variant.") == [
        f"variant.{key}=" for key in ("actor_layers", "critic_layers", "initialisation", "layer_norm")
    ]
    assert offered("mtrl variant=multihead variant.sh") == ["variant.shared_layers="]
    assert {f"{group}=" for group in groups()} < set(offered("mtrl "))


def test_a_sweep_is_refused_as_a_whole_before_its_first_member_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (
        ["seed=1,2", "env.horizon=100,501"],
        ["task=reach-v3,reach-v2"],
        ["algo=sac,ppo"],
        ["hydra/launcher=foo"],
    ):
        code, out, message = ended(["-m", *words], capsys)
        assert (code, out, len(message.splitlines())) == (2, "", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [["experiment=mt10"], ["experiment=transfer/mt3_to_mt10"]], ids=["a run", "a run and its source"]
)
def test_a_sweep_on_a_cluster_asks_nothing_of_the_machine_that_hands_it_over(
    tmp_path, monkeypatch, capsys, recwarn, words
):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mtrl.hardware.cuda_available", lambda device: False)
    monkeypatch.setattr("mtrl.hardware.free_memory", lambda: 0)
    words = [*words, "seed=1,2", "dry_run=true"]
    code, out, message = ended(["-m", *words, "hardware=gpu", "hydra/launcher=submitit_slurm"], capsys)
    assert (code, message) == (0, "")
    assert out.startswith("2 runs:")
    assert not recwarn.list
    for here, reason in (
        (["hardware=gpu", "hydra/launcher=submitit_local"], "torch sees no such GPU"),
        (["hardware=cpu"], "GiB are free"),
    ):
        code, _, message = ended(["-m", *words, *here], capsys)
        assert code == 2
        assert reason in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["total_steps=1e5,2e5"], "total_steps=100000.0 and total_steps=200000.0"),
        (["phase=1,2,3", "seed=1,2"], "phase=1 and phase=2"),
        (["task=reach-v3,push-v3", "logging.every=10,20"], "logging.every=10 and logging.every=20"),
    ],
)
def test_members_of_a_sweep_that_are_one_run_are_refused_before_the_first_starts(
    tmp_path, monkeypatch, capsys, words, named
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mtrl.sweep.make_folder", lambda *_, **__: pytest.fail("the sweep starts"))
    code, out, message = ended(["-m", *words], capsys)
    assert (code, out, len(message.splitlines())) == (2, "", 1)
    assert f"{named} are one run" in message
    assert "one after the other without -m" in message
    assert not list(tmp_path.iterdir())


def test_a_sweep_runs_each_member_where_it_would_live_alone_and_a_failed_one_takes_only_itself(
    command, tmp_path
):
    """The directory of one member cannot be made, for a link that leads nowhere is in its place."""
    words = ["total_steps=60", "evaluation.every=1000", "evaluation.final_episodes=1"]
    words += without(TINY, words)
    blocked, other = (tmp_path / run_directory(compose_run([*words, f"seed={seed}"])) for seed in (1, 2))
    blocked.parent.mkdir(parents=True)
    blocked.symlink_to(tmp_path / "nowhere")
    result = command("-m", *words, "seed=1,2")
    assert result.returncode == 1
    assert str(blocked.relative_to(tmp_path)) in result.stdout
    status = json.loads((other / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 60)
    assert not list((tmp_path / "outputs").rglob(".hydra"))
