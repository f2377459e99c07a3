"""Write a study as files: the page, the Markdown, and tables and figures beside them."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import matplotlib
from jinja2 import Environment, FileSystemLoader

from mtrl import __version__
from mtrl.report import analysis, figures, tables
from mtrl.report.figures import Picture
from mtrl.report.study import Comparison, Study, plural
from mtrl.report.tables import Table
from mtrl.status import count

# The tables and figures that a report wrote: the next report in the same place removes them.
_LIST = "files.txt"
_LISTED = re.compile(r"(tables/[\w.-]+\.csv|figures/[\w.-]+\.(png|svg))")

Part = Table | list[Picture]  # What stands in a chapter; several figures stand side by side.


class Chapter:
    """A heading with its parts in order; what is empty is left out."""

    def __init__(
        self, key: str, title: str, parts: Sequence[Part], lead: str = "", notices: Sequence[str] = ()
    ) -> None:
        self.key, self.title, self.lead, self.notices = key, title, lead, notices
        self.parts = [part for part in parts if (part.rows if isinstance(part, Table) else part)]
        self.pieces = [piece for part in self.parts for piece in (part if isinstance(part, list) else [part])]


def write_report(
    study: Study, out: Path, title: str, thresholds: Sequence[float], with_published: bool
) -> Path:
    """Write index.html, report.md, and tables and figures beside them into ``out``; return the page.

    Files of an earlier report there are replaced. ``thresholds`` are the success rates whose steps are given.

    Raises:
        OSError: If the directory cannot be written.
    """
    for folder in ("tables", "figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    groups = study.groups()
    with matplotlib.rc_context(fname=figures.STYLE):
        chapters = [_comparison_chapter(c, thresholds, with_published) for c in study.comparisons]
        general = tables.group_tables(groups) + tables.run_tables(study)
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
        "notices": study.notices,
        "chapters": chapters,
        "made": f"{datetime.now():%Y-%m-%d %H:%M} by mtrl {__version__}",
    }
    for name in ("report.md", "index.html"):
        loader = FileSystemLoader(Path(__file__).parent)
        form = Environment(loader=loader, autoescape="html" in name, trim_blocks=True, lstrip_blocks=True)
        (out / name).write_text(form.get_template(f"{name}.jinja").render(values), encoding="utf-8")
    return out / "index.html"


def _comparison_chapter(comparison: Comparison, thresholds: Sequence[float], with_published: bool) -> Chapter:
    """Return the chapter of one comparison: each kind of goals in turn, then published results."""
    tasks = [task.removesuffix("-v3") for task in comparison.tasks]
    lead = f"{plural(len(tasks), 'task')}, {comparison.reward} reward, {comparison.horizon_text}."
    if len(tasks) > 1:
        more = f" and {len(tasks) - 10} more" if len(tasks) > 10 else ""
        lead += f" {', '.join(tasks[:10])}{more}."
    entries = tables.published(comparison.title) if with_published else []
    results, parts = {}, []
    for goals in comparison.kinds:
        found = results[goals] = [analysis.Result(group, goals) for group in comparison.evaluated(goals)]
        pairs = analysis.pairs(comparison, goals)
        better = [figures.improvement(comparison, goals, pairs)] if pairs else []
        parts += [
            tables.result_table(comparison, goals, found),
            [figures.curves(comparison, goals, entries)],
            [figures.panels(comparison, goals)] if len(tasks) > 1 else [],
            [figures.final(comparison, goals, found)],
            [figures.interquartile_means(comparison, goals, found), *better],
            *tables.detail_tables(comparison, goals, found, pairs, thresholds),
        ]
    parts.append(tables.transfer_table(comparison))
    if entries and results:
        parts.append([figures.reference(comparison, next(iter(results.values())), entries)])
        parts.append(tables.reference_table(comparison, results, entries))
    return Chapter(comparison.slug, comparison.heading, parts, lead, comparison.notices)


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
    tables.write_csv(path, [header.split(), *rows])
