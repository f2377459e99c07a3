"""Write a study as files: the page, the Markdown, and tables and figures beside them."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mtrl import __version__
from mtrl.errors import DamagedError
from mtrl.report import analysis, figures, tables
from mtrl.report.figures import Picture
from mtrl.report.study import Comparison, Study, plural
from mtrl.report.tables import Table
from mtrl.rundir.read import read_text
from mtrl.status import count
from mtrl.text import printable

# The tables and figures that a report wrote: the next report in the same place removes them.
_LIST = "files.txt"
_LISTED = re.compile(r"(tables|figures)/[\w.-]+\.(csv|png|svg)")

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
        OSError: If the directory cannot be written, or a link stands where a folder of the report belongs.
    """
    groups = study.groups()
    with matplotlib.rc_context(fname=figures.STYLE):
        chapters = [_comparison_chapter(c, thresholds, with_published) for c in study.comparisons]
        general = tables.group_tables(groups) + tables.run_tables(study)
        chapters.append(Chapter("runs", "Runs, speed and settings", general))
        files = {"tables/curves.csv": _curves(study)}
        for chapter in chapters:
            for piece in chapter.pieces:
                files |= piece.files()
    finished = sum(run.state == "finished" for run in study.runs)
    runs = f"{plural(len(study.runs), 'run')} in {plural(len(groups), 'group')}, {finished} finished"
    values = {
        "title": title,
        "facts": f"{runs}; {count(sum(run.step for run in study.runs))} environment steps in all.",
        "notices": study.notices,
        "chapters": chapters,
        "made": f"{datetime.now():%Y-%m-%d %H:%M} by mtrl {__version__}",
    }
    files = {_LIST: "".join(f"{name}\n" for name in files).encode(), **files}
    form = {"loader": FileSystemLoader(Path(__file__).parent), "trim_blocks": True, "lstrip_blocks": True}
    for name, finalize in (("report.md", _in_markdown), ("index.html", _in_html)):
        templates = Environment(autoescape="html" in name, finalize=finalize, **form)
        files[name] = templates.get_template(f"{name}.jinja").render(values).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    with _opened(out) as top, _opened("tables", top) as first, _opened("figures", top) as second:
        folders = {"": top, "tables": first, "figures": second}
        # Nothing that others have put beside the tables and figures of the earlier report is removed.
        with suppress(DamagedError):
            earlier = filter(_LISTED.fullmatch, read_text(out / _LIST).splitlines())
            files = dict.fromkeys(earlier) | files
        for path, content in files.items():
            folder, _, name = path.rpartition("/")
            # What has the name is removed and not written to: somebody may have put a link or a pipe there.
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folders[folder])
            if content is not None:
                with open(name, "xb", opener=partial(os.open, dir_fd=folders[folder])) as file:
                    file.write(content)
    return out / "index.html"


@contextmanager
def _opened(folder: str | Path, within: int | None = None) -> Iterator[int]:
    """Open a folder, made if there is none, and no link to one."""
    with suppress(FileExistsError):
        os.mkdir(folder, dir_fd=within)
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _in_html(value: Any) -> Any:
    return value if isinstance(value, Markup) else printable(value)


def _in_markdown(value: Any) -> str:
    """Return text without what would be markup, a link, a picture or another cell of a table there."""
    text = re.sub(r"[\\`|]|!(?=\[)|\](?=[(:])", r"\\\g<0>", printable(value)).replace("<", "&lt;")
    return " ".join(text.split())


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


def _curves(study: Study) -> bytes:
    """Return every evaluation as a line of CSV."""
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
    return tables.csv_text([header.split(), *rows])
