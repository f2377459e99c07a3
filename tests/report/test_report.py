import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from run_directories import MT3, write_run
from tiny_runs import REPOSITORY, rows

from mtrl import statistics
from mtrl.report import analysis, figures
from mtrl.report.__main__ import main
from mtrl.report.study import build_study
from mtrl.report.tables import published
from mtrl.rundir.run import Run, read_runs
from mtrl.status import main as status_main
from mtrl.tasks import MT10

TWO = ("reach-v3", "push-v3")


def study_of(root):
    runs, problems = read_runs([root])
    assert problems == []
    return build_study(runs)


def comparison_of(root):
    (comparison,) = study_of(root).comparisons
    return comparison


def members(comparison):
    return {group.label: [member.run.seed for member in group.members] for group in comparison.groups}


def report(root, *options):
    assert main([str(root), *options]) == 0
    return root / "report"


def page_of(root, *options):
    return (report(root, *options) / "index.html").read_text()


def table(root, name):
    return rows(root / "report" / "tables" / f"{name}.csv")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two groups of MT3, one with a curriculum and held-out goals, and its report."""
    root = tmp_path_factory.mktemp("sweep")
    for seed in (1, 2, 3):
        write_run(root, "shared-00000000", seed, skill=0.6, goals=("train", "heldout"))
        wide = {"variant.name": "multihead", "variant.critic_width": 1024}
        write_run(root, "multihead-11111111", seed, skill=0.9, stages=3, overrides=wide)
    report(root, "--reference")
    return root


def test_groups_are_what_differs_except_the_seed(tmp_path):
    for seed in (1, 2):
        source = {"transfer.source": f"outputs/mt1/a/seed={seed}"}
        write_run(tmp_path, "a", seed, overrides={"hardware.device": f"cuda:{seed}", **source})
        write_run(tmp_path, "b", seed, overrides={"algo.gamma": 0.9, "total_steps": 100 + seed, **source})
        write_run(tmp_path, "c", seed, overrides={"algo.gamma": 0.9, "algo.name": "td3", **source})
    labels = ["sac · gamma=0.9", "sac · gamma=0.99", "td3 · gamma=0.9"]
    assert members(comparison_of(tmp_path)) == {label: [1, 2] for label in labels}


def test_a_transfer_is_named_by_the_run_it_came_from_and_two_alike_by_their_paths(tmp_path):
    best = "seed={}/checkpoints/best"
    train = {"transfer.train": ["experiment=mt1", "task=reach-v3", "total_steps=200_000"]}
    for seed in (1, 2, 3):
        source = {"transfer.source": f"outputs/mt1/reach-v3-537624e1/{best.format(seed)}"}
        write_run(tmp_path, "a", seed, overrides=source | train)
        write_run(tmp_path, "b", seed, overrides={"transfer.source": None, "transfer.train": []})
    assert members(comparison_of(tmp_path)) == {"transfer from reach-v3": [1, 2, 3], "no transfer": [1, 2, 3]}
    other = {"transfer.source": "outputs/mt1/reach-v3-00000001/seed=1"}
    write_run(tmp_path, "c", 1, overrides=other | train)
    assert set(members(comparison_of(tmp_path))) == {
        "transfer from outputs/mt1/reach-v3-537624e1/seed=*/checkpoints/best",
        "transfer from outputs/mt1/reach-v3-00000001/seed=*",
        "no transfer",
    }


def test_an_algorithm_is_named_by_its_class_and_what_follows_from_it_is_not(tmp_path):
    write_run(tmp_path, "a", overrides={"algo": {"cls": "mtrl.algo.SAC", "ent_coef": "auto"}})
    write_run(tmp_path, "b", overrides={"algo": {"cls": "stable_baselines3.TD3", "policy_delay": 2}})
    assert list(members(comparison_of(tmp_path))) == ["SAC", "TD3"]


def test_runs_with_episodes_of_other_lengths_that_are_evaluated_alike_stand_in_one_comparison(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "b", horizon=200, overrides={"evaluation.horizon": 500})
    comparison = comparison_of(tmp_path)
    assert (comparison.horizon, list(members(comparison))) == (500, ["horizon=200", "horizon=500"])


def test_other_rewards_horizons_and_tasks_stand_in_separate_comparisons_that_are_told_apart(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "b", reward="v1")
    write_run(tmp_path, "c", horizon=200)
    write_run(tmp_path, "d", tasks=TWO)
    write_run(tmp_path, "e", tasks=("reach-v3", "door-open-v3"))
    write_run(tmp_path, "f", tasks=("door-open-v3",), reward="v1")
    study = study_of(tmp_path)
    assert [(c.title, c.reward, c.horizon, c.heading) for c in study.comparisons] == [
        ("MT3", "v2", 500, "MT3, v2 reward, horizon 500"),
        ("MT3", "v1", 500, "MT3, v1 reward, horizon 500"),
        ("MT3", "v2", 200, "MT3, v2 reward, horizon 200"),
        ("2 tasks", "v2", 500, "2 tasks (reach, push)"),
        ("2 tasks", "v2", 500, "2 tasks (reach, door-open)"),
        ("door-open-v3", "v1", 500, "door-open-v3"),
    ]
    assert "differ in tasks, reward version and horizon" in study.notices[0]
    page = page_of(tmp_path)
    assert "which makes success rates incomparable" in page
    headings = [comparison.heading for comparison in study.comparisons]
    assert re.findall(r'<a href="#[^"]*">([^<]*)</a>', page) == [*headings, "Runs, speed and settings"]
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page)[:-1] == headings
    for place, name in enumerate((*["mt3"] * 3, *["2-tasks"] * 2, "door-open-v3"), start=1):
        assert len(table(tmp_path, f"{place}-{name}-train-results")) == 1
    assert len({row["group"] for row in table(tmp_path, "runs")}) == 6


def test_training_and_held_out_goals_are_never_mixed_and_intervals_are_over_seeds_or_episodes(sweep):
    results = {goals: table(sweep, f"mt3-{goals}-results") for goals in ("train", "heldout")}
    assert [[row["group"] for row in found] for found in results.values()] == [
        ["multihead", "shared"],
        ["shared"],
    ]
    for goals, found in results.items():
        finals = []
        for path in sorted(sweep.glob("shared-*/*/evaluation.csv")):
            last = [row for row in rows(path) if (row["goals"], row["step"]) == (goals, "200000")]
            rates = {row["task"]: float(row["success_rate"]) for row in last}
            finals.append([rates[task] for task in MT3])
        expected = [np.mean(finals), float(statistics.interquartile_mean(finals))]
        expected += statistics.bootstrap_interval(statistics.interquartile_mean, finals)
        shown = [float(found[-1][name]) for name in ("mean", "IQM", "IQM low", "IQM high")]
        assert shown == pytest.approx(expected, abs=1e-5)
        # The interval of a task pools the episodes of its seeds.
        pushes = np.array(finals)[:, MT3.index("push-v3")]
        low, high = map(float, statistics.wilson_interval(10 * pushes.sum(), 30))
        tasks = {(row["task"], row["group"]): row for row in table(sweep, f"mt3-{goals}-tasks")}
        shown = [
            float(tasks["push-v3", "shared"][name]) for name in ("success", "success low", "success high")
        ]
        assert shown == pytest.approx([pushes.mean(), low, high], abs=1e-5)


def test_the_better_group_is_said_to_be_better_and_time_to_a_threshold_is_that_of_the_logs(sweep):
    (row,) = table(sweep, "mt3-train-pairs")
    assert (row["group"], row["over"]) == ("multihead", "shared")
    assert float(row["probability of improvement"]) > 0.5
    assert float(row["mean lead while learning"]) > 0.02
    found = table(sweep, "mt3-train-thresholds")[0]
    expected = []
    for path in sweep.glob("multihead-*/*"):
        by_step = {}
        for row in rows(path / "evaluation.csv"):
            by_step.setdefault(row["step"], []).append(float(row["success_rate"]))
        first = next(step for step, rates in by_step.items() if np.mean(rates) >= 0.5)
        seconds = next(row["seconds"] for row in rows(path / "timing.csv") if row["step"] == first)
        expected.append((float(first), float(seconds)))
    shown = [float(found[f"50 % {name}"]) for name in ("steps", "seconds", "runs", "of")]
    assert shown == pytest.approx([*np.median(expected, axis=0), 3, 3])


def test_stages_of_a_curriculum_are_marked_where_they_begin(sweep):
    curriculum, plain = comparison_of(sweep).groups
    starts = dict(analysis.stage_starts(curriculum))
    assert list(starts) == [0, 1, 2]
    assert starts[1] == pytest.approx(200_000 / 3, abs=5001)
    assert analysis.stage_starts(plain) == []


def test_forgetting_is_the_fall_from_the_best_evaluations(tmp_path):
    path = write_run(tmp_path, tasks=TWO)
    lines = ["step,task,goals,episodes,success_rate,mean_return,mean_length"]
    reach, push = (0.0, 0.9, 0.9, 0.9, 0.5, 0.2), (0.0, 0.0, 1.0, 0.0, 0.1, 0.1)
    for step, rates in enumerate(zip(reach, push, strict=True), start=1):
        lines += [f"{step},{task},train,10,{rate},0,500" for task, rate in zip(TWO, rates, strict=True)]
    (path / "evaluation.csv").write_text("\n".join(lines) + "\n")
    group = comparison_of(tmp_path).groups[0]
    # A single good evaluation of push is luck: its best three in a row have a mean of 11/30.
    assert analysis.forgetting(group, "train") == pytest.approx([0.7, 1.1 / 3 - 0.1], abs=1e-9)


def test_few_seeds_and_unequal_lengths_are_said_to_be_and_can_be_compared_at_one_step(tmp_path):
    write_run(tmp_path, seed=1)
    write_run(tmp_path, seed=2, step=80_000, state="failed")
    comparison = comparison_of(tmp_path)
    band = analysis.Band(comparison.groups[0], "train")
    assert band.steps[band.whole - 1] == 80_000
    assert len(band.low) == band.whole
    first = Run(tmp_path / "plain-00000000" / "seed=1").evaluation
    last = first["success_rate"][first["step"] == 200_000]
    assert band.mean[-1] == pytest.approx(last.mean())
    for seed in (1, 2, 3):
        write_run(tmp_path, "three", seed, overrides={"algo.gamma": 0.9})
    said = " ".join(comparison_of(tmp_path).notices)
    few = [notice for notice in comparison_of(tmp_path).notices if "seeds" in notice]
    assert few == ["gamma=0.99 has only 2 seeds: fewer than 3 say little about the spread."]
    assert "1 failed" in said
    assert "between 80k and 200k steps" in said
    assert "compare at one budget" in said
    assert "compare at one budget" not in page_of(tmp_path, "--at-step", "8e4")
    for row in table(tmp_path, "mt3-train-results"):
        assert (float(row["steps from"]), float(row["steps to"])) == (80_000, 80_000)


def test_an_official_evaluation_beside_a_short_one_wins_and_one_seed_has_no_interval_over_seeds(tmp_path):
    path = write_run(tmp_path, tasks=("reach-v3",))
    official = "200000,reach-v3,train,50,0.42,1,500\n"
    with open(path / "evaluation.csv", "a") as file:
        file.write(official + "200000,reach-v3,train,10,0.9,1,500\n")
    result = analysis.Result(comparison_of(tmp_path).groups[0], "train")
    assert (result.mean, result.episodes, result.interquartile_interval) == (0.42, 50, None)
    text = (report(tmp_path) / "report.md").read_text()
    assert "[" not in text.split("### Success")[0].split("episodes a task")[1]


def test_the_interval_of_a_task_holds_its_mean_where_seeds_played_unlike_numbers_of_episodes(tmp_path):
    write_run(tmp_path, seed=1, episodes=100, skill=0.95)
    write_run(tmp_path, seed=2, episodes=1, skill=0)
    result = analysis.Result(comparison_of(tmp_path).groups[0], "train")
    assert (result.low <= result.tasks).all()
    assert (result.tasks <= result.high).all()
    # One episode of a seed tells hardly anything.
    assert (result.high - result.low > 0.5).all()


def test_a_run_moved_aside_does_not_count_twice(tmp_path):
    old = write_run(tmp_path, skill=0.2)
    shutil.copytree(old, old.with_name("seed=1.before"))
    time.sleep(0.02)
    (old / "status.json").touch()
    comparison = comparison_of(tmp_path)
    assert [member.run.path for group in comparison.groups for member in group.members] == [old]
    assert "seed=1.before is left out" in comparison.notices[0]


def test_runs_that_go_on_or_died_are_reported_with_what_they_have(tmp_path, capsys):
    write_run(tmp_path, seed=1, state="running", step=60_000)
    write_run(tmp_path, seed=2, state="running", step=0)
    torn = write_run(tmp_path, seed=3, state="failed", step=90_000)
    with open(torn / "evaluation.csv", "a") as file:
        file.write("100000,reach-v3,tra")
    (row,) = rows(report(tmp_path) / "tables/mt3-train-results.csv")
    assert row["seeds"] == "2"
    page = (tmp_path / "report" / "index.html").read_text()
    assert "seed=2 has no complete evaluation yet: it is in no average." in page
    assert "evaluation.csv: the last line is torn and ignored." in page
    assert [row["state"] for row in table(tmp_path, "runs")] == ["running", "running", "failed"]
    capsys.readouterr()
    assert main([str(tmp_path / "plain-00000000" / "seed=2")]) == 0
    assert "no run has a complete evaluation yet" in capsys.readouterr().err


def test_what_cannot_be_read_is_said_and_neither_stops_the_rest_nor_decides_where_it_goes(tmp_path, capsys):
    write_run(tmp_path / "runs", "good", environment={"versions": {"mtrl-metaworld": "0.0.7"}})
    bad = write_run(tmp_path / "runs", "bad")
    (bad / "config.yaml").write_text("{")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / name) for name in ("runs", "empty")] + ["/nowhere"]) == 0
    errors = capsys.readouterr().err
    assert f"{bad} is left out: its config.yaml cannot be read" in errors
    assert "empty holds no run" in errors
    assert "/nowhere does not exist" in errors
    assert "1 of 1 runs were made by version 0.0.7 of this project" in errors
    assert len(table(tmp_path / "runs", "runs")) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{root}/none"], "none does not exist: give a run directory or one that holds runs"),
        (["{root}/file"], "file is a file: give a run directory or one that holds runs"),
        (["{root}/run", "--thresholds", "80"], "a threshold is a success rate"),
        (["{root}/run", "--out", "{root}/file/report"], "cannot be written"),
        *(
            (["{root}/run", f"--at-step={step}"], f"--at-step {step} is no number of environment steps")
            for step in ("nan", "inf", "-inf", "0", "-5")
        ),
    ],
)
def test_what_cannot_be_reported_is_refused_with_one_sentence(tmp_path, capsys, arguments, sentence):
    (tmp_path / "file").write_text("")
    write_run(tmp_path / "run")
    assert main([word.format(root=tmp_path) for word in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert sentence in line


def test_a_run_of_the_trainer_is_reported_as_it_logged_it(train, tmp_path):
    path = train(tmp_path, "experiment=mt3", "algo.batch_size=51")
    run = Run(path)
    assert (run.state, run.step, run.tasks, run.seed) == ("finished", 300, MT3, run.config["seed"])
    assert run.seconds > 0
    folder = report(tmp_path, "--reference")
    assert run.problems == []
    result = json.loads((path / "status.json").read_text())["result"]
    (row,) = rows(folder / "tables" / "mt3-train-results.csv")
    assert float(row["mean"]) == pytest.approx(result["success_rate"], abs=1e-6)
    assert (row["group"], row["episodes a task"]) == ("mt3 · SAC · shared", "2")
    (speed,) = rows(folder / "tables" / "throughput.csv")
    assert float(speed["steps/s"]) == pytest.approx(300 / run.seconds, rel=1e-3)


def test_labels_in_drawings_say_every_digit_and_long_ones_in_full(tmp_path):
    for gamma in (0.9801, 0.9802):
        wide = {"algo.gamma": gamma, "algo.name": "another-long-name"}
        wide["variant.name"] = f"a-rather-long-name-of-{gamma}"
        for seed in (1, 2):
            write_run(tmp_path, f"gamma-{gamma}", seed, overrides=wide)
    page = page_of(tmp_path)
    words = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", page))
    for gamma in (0.9801, 0.9802):
        assert f"a-rather-long-name-of-{gamma}" in words
    assert "…" not in words


def test_the_page_is_one_file_that_loads_and_runs_nothing(sweep):
    page = (sweep / "report" / "index.html").read_text()
    assert not re.search(r"<(script|link|img|iframe|object)\b", page)
    assert not re.search(r"\b(src|href)=\"(?!#)", page.replace('xmlns:xlink="', ""))
    assert not re.search(r"url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:url\(#|href="#)([^")]+)', page):
        assert reference in ids


EVIL = '\x1b]0;x\x07<script>alert("x")</script> $\\frac{1}{0}$ | `x`\n# ![p](http://x/p.png) [l](http://x)\u202e\u2028'
"""What a terminal, a page or Markdown could take for more than text."""


def test_names_from_a_run_directory_reach_terminal_and_pages_as_text_alone(tmp_path, capsys):
    evil = {"variant.name": EVIL, "algo.cls": EVIL, "experiment": EVIL, EVIL: EVIL, "transfer.source": EVIL}
    facts = {"versions": {"mtrl-metaworld": EVIL}, EVIL: EVIL}
    tasks = ("reach-v3", EVIL.replace("\n", "").replace('"', ""))
    for seed in (1, 2):
        folder = EVIL.replace("/", "")
        write_run(
            tmp_path, folder, seed, overrides=evil, host=EVIL, state=EVIL, environment=facts, tasks=tasks
        )
        write_run(tmp_path, "b", seed, tasks=tasks)
    (tmp_path / "b" / "seed=2" / "evaluation.csv").write_text(EVIL)
    folder = report(tmp_path, "--reference")
    assert status_main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    pages = {name: (folder / name).read_text() for name in ("index.html", "report.md")}
    drawn = [path.read_text() for path in folder.glob("*/*.[cs][sv][vg]")]
    for text in (printed.out, printed.err, *pages.values(), *drawn):
        assert not set(text) & set("\x1b\x07\x00\r\u202e\u2028")
    for line in (printed.out + printed.err).splitlines():
        assert not line.startswith("# ")
    assert "&lt;script&gt;" in pages["index.html"]
    assert not re.search("<(script|img|a [^>]*http)", pages["index.html"] + pages["report.md"])
    # In Markdown, no row has more cells than its heading, and nothing is a link, a picture or code.
    assert not re.search(r"(?<!\\)(\]\(http|!\[p|`)", pages["report.md"])
    columns = 0
    for line in pages["report.md"].splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells in (0, columns) or columns == 0
        columns = cells
    for path in folder.glob("figures/*.svg"):
        ElementTree.parse(path)


def test_a_report_follows_no_link_that_somebody_has_put_in_its_place(tmp_path, capsys):
    run, precious = write_run(tmp_path), tmp_path / "precious"
    (precious / "tables").mkdir(parents=True)
    kept = [precious / "a.csv", precious / "tables" / "a.csv", precious / "curves.csv"]
    for path in kept:
        path.write_text("mine")
    out = run / "report"
    for link, target in (("report", precious), ("report/tables", precious), ("report/figures", precious)):
        shutil.rmtree(out, ignore_errors=True)
        (run / link).parent.mkdir(exist_ok=True)
        (run / link).symlink_to(target)
        (precious / "files.txt").write_text("tables/a.csv\n")
        if link != "report":
            (out / "files.txt").write_text("tables/a.csv\ntables/curves.csv\nfigures/curves.csv\n")
        assert main([str(run)]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()[-1:]
        assert "cannot be written (Not a directory)" in sentence
        (run / link).unlink()
    (out / "tables").mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "report.md", "files.txt", "tables/curves.csv"):
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(kept[0])
    (out / "figures").mkdir(exist_ok=True)
    os.mkfifo(out / "figures" / "mt3-train-curves.png")
    assert main([str(run)]) == 0
    assert [path.read_text() for path in kept] == ["mine"] * 3
    assert not any(path.is_symlink() or path.is_fifo() for path in out.rglob("*"))
    # A link that the user names is meant.
    (tmp_path / "meant").symlink_to(precious)
    assert main([str(run), "--out", str(tmp_path / "meant")]) == 0
    assert (precious / "index.html").is_file()


def test_every_figure_is_there_as_png_and_svg_and_every_number_as_csv(sweep):
    folder = sweep / "report"
    pictures = re.findall(r"\]\((figures/[^)]+)\)", (folder / "report.md").read_text())
    drawn = ("curves", "tasks", "final", "iqm")
    expected = {f"mt3-{goals}-{name}" for goals in ("train", "heldout") for name in drawn}
    assert {Path(picture).stem for picture in pictures} == expected | {
        "mt3-train-improvement",
        "mt3-published",
    }
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / picture).with_suffix(".svg").read_text()
    assert len(table(sweep, "curves")) == sum(len(run.evaluation) for run in study_of(sweep).runs)
    for path in (folder / "tables").iterdir():
        assert len({len(row) for row in csv.reader(path.open(newline=""))}) == 1, path


def test_equal_logs_give_equal_numbers_and_drawings(sweep, tmp_path):
    assert main([str(sweep), "--out", str(tmp_path / "again"), "--reference"]) == 0
    for folder in ("tables", "figures"):
        for path in sorted((sweep / "report" / folder).iterdir()):
            again = tmp_path / "again" / folder / path.name
            if path.suffix != ".png":
                assert path.read_bytes() == again.read_bytes(), path.name


def test_published_results_stand_beside_the_last_models_with_their_protocol(sweep, capsys):
    assert "last model" in (sweep / "report" / "report.md").read_text()
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "plays the best one" in " ".join(capsys.readouterr().out.split())
    found = table(sweep, "mt3-reference")
    ours = [row for row in found if row["source"] == "measured here"]
    theirs = {row["method"]: row for row in found if row not in ours}
    names = ("multihead", "shared", "shared")
    assert [row["method"] for row in ours] == [f"this report: {name}" for name in names]
    assert all("v2 reward, 10 episodes a task" in row["protocol"] for row in ours)
    assert float(theirs["SAC, one-hot"]["mean"]) == 0.6
    assert all("v1 reward, 100 episodes a task, one seed" in row["protocol"] for row in theirs.values())


def test_published_figures_are_complete_and_plausible():
    entries = published()
    assert len(entries) == 23
    sets = dict.fromkeys(entry.set for entry in entries)
    assert [entry for name in sets for entry in published(name)] == entries
    for entry in entries:
        assert 0 < entry.success[0] <= entry.success[1] <= 1
        assert entry.steps >= 1_000_000
        assert entry.protocol
        assert entry.source
        # What kind of mean it is, is a field of its own.
        assert entry.aggregate in ("IQM", "mean")
        assert "IQM" not in entry.protocol
    assert [entry.aggregate for entry in published("MT10")].count("IQM") == 7
    curve = next(entry.curve for entry in published("MT10") if entry.curve)
    assert [success for _, success in curve] == [0.49, 0.69, 0.82, 0.87, 0.90]


def test_the_directory_of_a_sweep_is_reported_and_holds_the_report(tmp_path):
    names = [write_run(tmp_path / "outputs", seed=seed).relative_to(tmp_path) for seed in (1, 2)]
    write_run(tmp_path / "outputs", "another")
    folder = tmp_path / "multirun" / "day" / "noon"
    folder.mkdir(parents=True)
    (folder / "plan.txt").write_text("\n".join(["2 runs:", *(f"  {name}" for name in names)]))
    assert len(rows(report(folder) / "tables/runs.csv")) == 2
    assert status_main([str(folder), "--json"]) == 0


def test_published_results_are_printed_alone_where_there_is_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "outputs does not exist" in capsys.readouterr().err
    assert main(["--reference"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1 + 23
    assert [line for line in out if "MTMHSAC, width 2048" in line and "92.2 %" in line and "IQM" in line]
    assert not list(tmp_path.iterdir())
    write_run(tmp_path / "outputs")
    assert main(["--reference"]) == 0
    assert rows(tmp_path / "outputs" / "report" / "tables" / "mt3-reference.csv")


def test_a_report_removes_what_the_earlier_one_in_its_place_wrote_and_nothing_else(tmp_path):
    one = write_run(tmp_path / "a")
    write_run(tmp_path / "b", reward="v1")
    out = tmp_path / "out"
    assert main([str(tmp_path), "--out", str(out)]) == 0
    assert len(list((out / "tables").glob("*-train-results.csv"))) == 2
    kept = [out / "tables" / "mine.csv", out / "figures" / "mine.png", tmp_path / "precious.csv"]
    for path in kept:
        path.write_text("mine")
    with (out / "files.txt").open("a") as listed:
        listed.write("../precious.csv\ntables/../../precious.csv\nindex.html\n")
    assert main([str(one), "--out", str(out)]) == 0
    assert [path.name for path in (out / "tables").glob("*-train-results.csv")] == ["mt3-train-results.csv"]
    assert {path.stem for path in (out / "figures").iterdir()} == {
        "mine",
        *(f"mt3-train-{name}" for name in ("curves", "tasks", "final", "iqm")),
    }
    assert all(path.read_text() == "mine" for path in kept)


def test_the_same_tasks_in_another_order_are_the_same_tasks(tmp_path):
    one = write_run(tmp_path, "a")
    other = write_run(tmp_path, "b", tasks=MT3[::-1], overrides={"algo.gamma": 0.9})
    study = study_of(tmp_path)
    (comparison,) = study.comparisons
    assert study.notices == []
    for group, path in zip(comparison.groups, (other, one), strict=True):
        logged = Run(path).evaluation
        last = logged.take(logged["step"] == 200_000)
        rates = dict(zip(last["task"].tolist(), last["success_rate"].tolist(), strict=True))
        assert group.scores("train")[0].tolist() == [rates[task] for task in comparison.tasks]
    write_run(tmp_path, "c", tasks=MT3[::-1], reward="v1")
    (said,) = study_of(tmp_path).notices
    assert "differ in reward version, which" in said


def test_a_published_curve_is_drawn_and_named_where_it_was_measured_and_lies_inside(tmp_path):
    write_run(tmp_path / "long", tasks=MT10, total_steps=3_000_000, every=500_000, goals=("train", "heldout"))
    write_run(tmp_path / "short", tasks=MT10, total_steps=900_000, every=100_000)

    def drawn(name, goals):
        figure = figures.curves(comparison_of(tmp_path / name), goals, published("MT10"))
        assert ("published" in figure.note) == (len(figure.legend) > 1)
        return [label for label, _ in figure.legend[1:]]

    assert drawn("long", "train") == ["MTMHSAC, width 2048 (published)"]
    assert drawn("long", "heldout") == drawn("short", "train") == []


def test_steps_of_a_transfer_say_whether_they_count_those_of_its_source(tmp_path):
    write_run(tmp_path, "a", overrides={"transfer.source": "outputs/mt1/reach"})
    write_run(tmp_path, "b")
    found = rows(report(tmp_path, "--reference") / "tables/mt3-reference.csv")
    ours = {row["method"]: row["protocol"] for row in found if row["source"] == "measured here"}
    assert [("without its source's" in said) for said in ours.values()] == [
        "transfer from" in name for name in ours
    ]
    (theirs,) = [row for row in found if "transfer from pick-place" in row["method"]]
    assert (theirs["steps"], "count the source's 5M" in theirs["protocol"]) == ("6000000", True)


@pytest.mark.slow
def test_thirty_runs_of_twenty_million_steps_take_under_twenty_seconds_and_a_gibibyte(tmp_path):
    long = {"tasks": MT10, "total_steps": 20_000_000, "every": 50_000, "log_every": 1000}
    for name, skill in (("plain", 0.5), ("shared", 0.7), ("multihead", 0.8)):
        template = write_run(tmp_path, f"{name}-00000000", skill=skill, **long)
        config = (template / "config.yaml").read_text().replace("name: shared", f"name: {name}")
        for seed in range(1, 11):
            path = template.with_name(f"seed={seed}")
            if seed > 1:
                shutil.copytree(template, path)
            (path / "config.yaml").write_text(config.replace("seed: 1\n", f"seed: {seed}\n"))
    code = (
        "import json, resource, sys; from mtrl.report.__main__ import main; assert main(sys.argv[1:]) == 0;"
        "used = resource.getrusage(resource.RUSAGE_SELF);"
        # Not ru_maxrss: across fork and exec it carries on the peak of the process that runs the tests.
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "print(json.dumps([used.ru_utime + used.ru_stime, int(peak.split()[1])]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stderr == ""
    # Processor time, because the wall clock of a test beside others measures the others.
    seconds, kibibytes = json.loads(done.stdout.splitlines()[-1])
    assert seconds < 20
    assert kibibytes < 2**20
    assert [row["seeds"] for row in table(tmp_path, "mt10-train-results")] == ["10"] * 3


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

MEASURE = """
<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const shown = e => e.getClientRects().length > 0;
  const clashes = [], small = [], outside = [];
  for (const svg of [...document.querySelectorAll("svg")].filter(shown)) {
    const frame = svg.getBoundingClientRect();
    const boxed = e => [e.textContent, e.getBoundingClientRect()];
    const texts = [...svg.querySelectorAll("text")].map(boxed);
    texts.forEach(([name, a], i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1) outside.push(name);
      if (a.height < 9) small.push(name);
      texts.slice(i + 1).forEach(([other, b]) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3) clashes.push(name + " / " + other);
      });
    });
  }
  const ink = getComputedStyle(document.querySelector("svg text")).fill;
  const paper = getComputedStyle(document.body).backgroundColor;
  const width = document.documentElement.scrollWidth - innerWidth;
  const drawings = [...document.querySelectorAll("svg")].filter(shown).length;
  document.body.innerHTML = "";
  document.title = "measured";
  const found = {clashes, small, outside, ink, paper, width, drawings, inner: innerWidth};
  document.body.dataset.found = JSON.stringify(found);
});
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to look at the page with")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (500, False)])
def test_in_a_browser_no_label_overlaps_and_nothing_overflows(sweep, tmp_path, width, dark):
    page = re.sub(r"<meta http-equiv[^>]*>", "", (sweep / "report" / "index.html").read_text())
    (tmp_path / "page.html").write_text(page + MEASURE)
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars --dump-dom"
    flags += " --disable-background-networking --disable-component-update --disable-sync"
    flags += f" --user-data-dir={tmp_path / 'profile'} --window-size={width},900"
    flags += " --blink-settings=preferredColorScheme=0" if dark else ""
    command = [BROWSER, *flags.split(), f"file://{tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    encoded = re.search(r'data-found="([^"]+)"', done.stdout)
    assert encoded, done.stderr[-2000:]
    found = json.loads(html.unescape(encoded[1]))
    assert found["inner"] == width
    assert found["drawings"] >= 12
    assert [found[name] for name in ("clashes", "outside", "small")] == [[], [], []]
    assert found["width"] <= 0
    light = [sum(map(int, re.findall(r"\d+", found[name])[:3])) for name in ("paper", "ink")]
    assert (light[0] < light[1]) == dark
