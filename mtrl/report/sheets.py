"""Tables that can be written as HTML, Markdown and CSV alike."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

COLOURS = 8
"""Groups with a colour of their own; further ones repeat them, dashed."""


class Cell(NamedTuple):
    """What a cell shows, and the numbers behind it.

    Args:
        text: What people read.
        value: What CSV holds: a plain value, or several by name (one column each).
        series: The group's place, which gives the cell its coloured mark.
        alarm: Whether to set it off.
    """

    text: str
    value: Any = None
    series: int | None = None
    alarm: bool = False


@dataclass(slots=True)
class Sheet:
    """One table.

    Args:
        name: Stem of its CSV file.
        title: Heading.
        columns: Headings of the columns.
        rows: Cells; the first of a row names it.
        note: How to read it, one or two sentences.
        folded: Whether the page shows it closed.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False

    def html(self) -> str:
        """Return the table in HTML, every text escaped."""
        head = "".join(
            f"<th scope=col{' class=number' if self._numeric(i) else ''}>{html.escape(name)}</th>"
            for i, name in enumerate(self.columns)
        )
        body = "\n".join(
            f"<tr>{''.join(self._cell(i, cell) for i, cell in enumerate(row))}</tr>" for row in self.rows
        )
        rows = f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
        table = f"<div class=scroll tabindex=0><table>{rows}</table></div>"
        note = f"<p class=note>{prose(self.note)}</p>" if self.note else ""
        title = html.escape(self.title)
        if self.folded:
            return f"<details><summary>{title}</summary>{note}{table}</details>"
        return f"<h3>{title}</h3>{note}{table}"

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        rule = ["---:" if self._numeric(index) else "---" for index in range(len(self.columns))]
        for cells in (self.columns, rule, *([cell.text for cell in row] for row in self.rows)):
            lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
        return "\n".join([*lines, ""])

    def csv(self) -> str:
        """Return the values behind the table as CSV."""
        parts = [self._parts(index) for index in range(len(self.columns))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        names = zip(self.columns, parts, strict=True)
        writer.writerow([f"{name} {part}".strip() for name, found in names for part in found])
        for row in self.rows:
            cells = zip(row, parts, strict=True)
            writer.writerow([_value(cell, part) for cell, found in cells for part in found])
        return out.getvalue()

    def _parts(self, column: int) -> list[str]:
        values = [row[column].value for row in self.rows]
        return list(dict.fromkeys(part for v in values if isinstance(v, dict) for part in v)) or [""]

    def _numeric(self, column: int) -> bool:
        values = [row[column].value for row in self.rows if row[column].value is not None]
        return bool(values) and not any(isinstance(value, str) for value in values)

    def _cell(self, column: int, cell: Cell) -> str:
        swatch = f'<i class="mark {mark(cell.series)}"></i>' if cell.series is not None else ""
        text = swatch + html.escape(cell.text)
        if column == 0:
            return f"<th scope=row>{text}</th>"
        flags = {"number": self._numeric(column), "alarm": cell.alarm, "named": cell.series is not None}
        classes = [name for name, on in flags.items() if on]
        return f'<td class="{" ".join(classes)}">{text}</td>' if classes else f"<td>{text}</td>"


def prose(text: str) -> str:
    """Return a sentence in HTML; a number and its percent sign stay on one line."""
    return html.escape(text).replace(" %", "\u00a0%")


def mark(series: int | None) -> str:
    """Return the classes of a group's coloured mark on the page; None stands for what was published."""
    if series is None:
        return "other"
    return f"s{series % COLOURS} again" if series >= COLOURS else f"s{series}"


def percent(rate: float | None, interval: Sequence[float] | None = None) -> Cell:
    """Return a rate as a percentage, with its interval where there is one."""
    if rate is None:
        return Cell("–")
    text = f"{100 * rate:.1f} %"
    if interval is None:
        return Cell(text, _rounded(rate))
    low, high = interval
    text += f"  [{100 * low:.1f}, {100 * high:.1f}]"
    return Cell(text, {"": _rounded(rate), "low": _rounded(low), "high": _rounded(high)})


def _rounded(value: float) -> float:
    return round(float(value), 6)


def _value(cell: Cell, part: str) -> str | float | int | None:
    if isinstance(cell.value, dict):
        return cell.value.get(part)
    if part:
        return None
    return cell.text if cell.value is None and cell.text != "–" else cell.value


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
