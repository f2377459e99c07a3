"""Write a study as files: the page, the Markdown, and tables and figures beside them."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import matplotlib
from jinja2 import Environment, FileSystemLoader, select_autoescape

from mtrl import __version__
from mtrl.report import analysis, figures, tables
from mtrl.report.figures import Picture
from mtrl.report.published import published
from mtrl.report.study import Comparison, Study, comparison_notices, plural
from mtrl.report.tables import Table
from mtrl.status import count

_LIST = "files.txt"
"""The tables and figures that a report wrote: the next report in the same place removes them."""
_LISTED = re.compile(r"(tables/[\w.-]+\.csv|figures/[\w.-]+\.(png|svg))")

Part = Table | list[Picture]
"""What stands in a chapter; several figures stand side by side."""


class Chapter:
    """A heading with its pieces, in order; figures in a list stand side by side. What is empty is left out."""

    def __init__(
        self, key: str, title: str, parts: Sequence[Part], lead: str = "", notices: Sequence[str] = ()
    ) -> None:
        self.key, self.title, self.lead, self.notices = key, title, lead, notices
        self.parts = [part for part in parts if (part.rows if isinstance(part, Table) else part)]
        self.pieces = [piece for part in self.parts for piece in (part if isinstance(part, list) else [part])]


def write_report(
    study: Study,
    out: Path,
    title: str,
    notices: Sequence[str],
    thresholds: Sequence[float],
    with_published: bool,
) -> Path:
    """Write index.html, report.md, and tables and figures beside them into ``out``; return the page.

    Files of an earlier report there are replaced. ``thresholds`` are the success rates whose steps are given.

    Raises:
        OSError: If the directory cannot be written.
    """
    for folder in ("tables", "figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(fname=figures.STYLE):
        chapters = [_comparison_chapter(c, thresholds, with_published) for c in study.comparisons]
        groups = study.groups()
        general = [
            tables.throughput_table(groups),
            tables.settings_table(groups),
            tables.run_table(study),
            tables.common_settings_table(study.runs),
            tables.environment_table(study.runs),
        ]
        chapters.append(Chapter("runs", "Runs, speed and settings", general))
        pieces = [piece for chapter in chapters for piece in chapter.pieces]
        names = ["tables/curves.csv", *(name for piece in pieces for name in piece.files)]
        _remove_earlier(out)
        # Listed before they are written: the next report also removes what an interrupted one leaves.
        (out / _LIST).write_text("\n".join(names) + "\n", encoding="utf-8")
        for piece in pieces:
            piece.write(out)
    _write_curves(study, out / "tables" / "curves.csv")
    finished = sum(run.state == "finished" for run in study.runs)
    runs = f"{plural(len(study.runs), 'run')} in {plural(len(groups), 'group')}, {finished} finished"
    values = {
        "title": title,
        "facts": f"{runs}; {count(sum(run.step for run in study.runs))} environment steps in all.",
        "notices": notices,
        "chapters": chapters,
        "made": f"{datetime.now():%Y-%m-%d %H:%M} by mtrl {__version__}",
    }
    loader, escaped = (
        FileSystemLoader(Path(__file__).parent),
        select_autoescape(["html.jinja"], default=False),
    )
    templates = Environment(loader=loader, autoescape=escaped, trim_blocks=True, lstrip_blocks=True)
    for name in ("report.md", "index.html"):
        (out / name).write_text(templates.get_template(f"{name}.jinja").render(values), encoding="utf-8")
    return out / "index.html"


def _comparison_chapter(comparison: Comparison, thresholds: Sequence[float], with_published: bool) -> Chapter:
    """Return the chapter of one comparison: each kind of goals in turn, then published results."""
    several = len(comparison.tasks) > 1
    lead = f"{plural(len(comparison.tasks), 'task')}, {comparison.reward} reward, {comparison.horizon_text}."
    if several:
        shown = ", ".join(task.removesuffix("-v3") for task in comparison.tasks[:10])
        more = len(comparison.tasks) - 10
        lead += f" {shown}{f' and {more} more' if more > 0 else ''}."
    entries = published(comparison.title) if with_published else []
    results = {
        goals: [analysis.Result(group, goals) for group in comparison.evaluated(goals)]
        for goals in comparison.kinds
    }
    parts: list[Part] = []
    for goals, found in results.items():
        pairs = analysis.pairs(comparison, goals)
        aggregates = [figures.interquartile_means(comparison, goals, found)]
        parts += [
            tables.result_table(comparison, goals, found),
            [figures.curves(comparison, goals, entries)],
            [figures.panels(comparison, goals)] if several else [],
            [figures.final(comparison, goals, found)],
            aggregates,
            tables.threshold_table(comparison, goals, thresholds),
            tables.pair_table(comparison, goals, pairs),
            tables.forgetting_table(comparison, goals),
            tables.task_table(comparison, goals, found),
        ]
        if pairs:
            aggregates.append(figures.improvement(comparison, goals, pairs))
    parts.append(tables.transfer_table(comparison))
    if entries and results:
        parts.append([figures.reference(comparison, next(iter(results.values())), entries)])
        parts.append(tables.reference_table(comparison, results, entries))
    return Chapter(comparison.slug, comparison.heading, parts, lead, comparison_notices(comparison))


def _remove_earlier(out: Path) -> None:
    """Remove the tables and figures of an earlier report, and nothing that others have put beside them."""
    try:
        listed = (out / _LIST).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return
    for name in listed:
        if _LISTED.fullmatch(name):
            (out / name).unlink(missing_ok=True)


def _write_curves(study: Study, path: Path) -> None:
    """Write every evaluation as a line of CSV."""
    header = "comparison group seed goals step task episodes success_rate mean_return mean_length"
    rows = (
        [comparison.slug, group.label, member.run.seed, goals, f"{step:.0f}", task]
        + [f"{part[t, i]:.6g}" for part in (found.episodes, found.success, found.returns, found.lengths)]
        for comparison in study.comparisons
        for group in comparison.groups
        for member in group.members
        for goals, found in member.curves.items()
        for i, step in enumerate(found.steps)
        for t, task in enumerate(comparison.tasks)
    )
    tables.write_csv(path, header.split(), rows)
