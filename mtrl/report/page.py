"""Write a study as files: the page, the Markdown, and tables and figures beside them."""

import html
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mtrl import __version__
from mtrl.report import canvas
from mtrl.report.chapters import Chapter, Picture, appendix, comparison_chapter
from mtrl.report.sheets import Sheet
from mtrl.report.study import Study
from mtrl.status import count

_LIST = "files.txt"
"""The tables and figures that a report wrote, by which the next one in its place knows what to remove."""
_LISTED = re.compile(r"(tables/[\w.-]+\.csv|figures/[\w.-]+\.(png|svg))")


def write_report(
    study: Study,
    out: Path,
    title: str,
    notices: Sequence[str] = (),
    thresholds: Sequence[float] = (0.5, 0.8, 0.95),
    with_published: bool = False,
) -> Path:
    """Write index.html, report.md, and tables and figures beside them; return the page.

    Args:
        study: What to report.
        out: The directory; files of an earlier report in it are replaced.
        title: Heading.
        notices: What to say first.
        thresholds: Success rates to give steps and time for.
        with_published: Set published results beside ours.

    Raises:
        OSError: If the directory cannot be written.
    """
    with canvas.style():
        chapters = [
            comparison_chapter(comparison, thresholds, with_published) for comparison in study.comparisons
        ]
        chapters.append(appendix(study))
        out.mkdir(parents=True, exist_ok=True)
        for folder in ("tables", "figures"):
            (out / folder).mkdir(exist_ok=True)
        _remove_earlier(out)
        # Listed before they are written: what an interrupted report leaves is known to the next one too.
        (out / _LIST).write_text("\n".join(_names(chapters)) + "\n", encoding="utf-8")
        for part in _flat(chapters):
            if isinstance(part, Sheet):
                (out / "tables" / f"{part.name}.csv").write_text(part.csv(), encoding="utf-8")
            else:
                canvas.save(part.draw, part.width, str(out / "figures" / part.name), part.legend)
    (out / "tables" / "curves.csv").write_text(_raw_curves(study), encoding="utf-8")
    (out / "report.md").write_text(_markdown(study, title, notices, chapters), encoding="utf-8")
    page = out / "index.html"
    page.write_text(_html(study, title, notices, chapters), encoding="utf-8")
    return page


def _names(chapters: Sequence[Chapter]) -> list[str]:
    names = ["tables/curves.csv"]
    for part in _flat(chapters):
        if isinstance(part, Sheet):
            names.append(f"tables/{part.name}.csv")
        else:
            names += [f"figures/{part.name}.{kind}" for kind in ("png", "svg")]
    return names


def _remove_earlier(out: Path) -> None:
    """Remove the tables and figures of an earlier report, and nothing that others have put beside them."""
    try:
        listed = (out / _LIST).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return
    for name in listed:
        if _LISTED.fullmatch(name):
            (out / name).unlink(missing_ok=True)


def _flat(chapters: Sequence[Chapter]) -> list[Sheet | Picture]:
    return [
        piece
        for chapter in chapters
        for part in chapter.parts
        for piece in (part if isinstance(part, list) else [part])
    ]


def _facts(study: Study) -> str:
    groups = sum(len(comparison.groups) for comparison in study.comparisons)
    finished = sum(run.state == "finished" for run in study.runs)
    steps = sum(run.step for run in study.runs)
    what = f"{_count(len(study.runs), 'run')} in {_count(groups, 'group')}, {finished} finished"
    return f"{what}; {count(steps)} environment steps in all."


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _html(study: Study, title: str, notices: Sequence[str], chapters: Sequence[Chapter]) -> str:
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{chapter.key}">{html.escape(chapter.title)}</a>' for chapter in chapters)
    body = "\n".join(_chapter(chapter) for chapter in chapters)
    made = datetime.now().strftime("%Y-%m-%d %H:%M")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{html.escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<main>
<header>
<h1>{html.escape(title)}</h1>
<p class=lead>{html.escape(_facts(study))}</p>
<nav>{links}</nav>
{_notices(notices)}
</header>
{body}
<footer>Made {made} by mtrl {__version__}. Numbers are in tables/, drawings in figures/.</footer>
</main>
</body>
</html>
"""


def _chapter(chapter: Chapter) -> str:
    parts = []
    for part in chapter.parts:
        if isinstance(part, list):
            parts.append(f"<div class=pair>{''.join(picture.html() for picture in part)}</div>")
        else:
            parts.append(part.html())
    lead = f"<p class=lead>{html.escape(chapter.lead)}</p>" if chapter.lead else ""
    head = f'<h2 id="{chapter.key}">{html.escape(chapter.title)}</h2>{lead}{_notices(chapter.notices)}'
    return head + "\n".join(parts)


def _notices(notices: Sequence[str]) -> str:
    if not notices:
        return ""
    return f"<ul class=notices>{''.join(f'<li>{html.escape(notice)}</li>' for notice in notices)}</ul>"


def _markdown(study: Study, title: str, notices: Sequence[str], chapters: Sequence[Chapter]) -> str:
    lines = [f"# {title}", "", _facts(study), ""]
    lines += [f"- {notice}" for notice in notices] + [""]
    for chapter in chapters:
        lines += [
            f"## {chapter.title}",
            "",
            chapter.lead,
            "",
            *(f"- {notice}" for notice in chapter.notices),
            "",
        ]
        for part in _flat([chapter]):
            if isinstance(part, Sheet):
                lines += [part.markdown()]
            else:
                lines += [
                    f"### {part.title}",
                    "",
                    part.note,
                    "",
                    f"![{part.title}](figures/{part.name}.png)",
                    "",
                ]
    return "\n".join(lines)


def _raw_curves(study: Study) -> str:
    lines = ["comparison,group,seed,goals,step,task,episodes,success_rate,mean_return,mean_length"]
    for comparison in study.comparisons:
        for group in comparison.groups:
            for member in group.members:
                for goals, curves in member.curves.items():
                    first = f"{comparison.slug},{_quoted(group.label)},{member.run.seed},{goals}"
                    for i, step in enumerate(curves.steps):
                        for t, task in enumerate(comparison.tasks):
                            values = (curves.episodes, curves.success, curves.returns, curves.lengths)
                            cells = ",".join(f"{value[t, i]:.6g}" for value in values)
                            lines.append(f"{first},{step:.0f},{_quoted(task)},{cells}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
