"""A transcript as a document for a word processor (Office Open XML)."""

from __future__ import annotations

import io
import re
import unicodedata
from datetime import UTC, datetime

from docx import Document
from docx.oxml.ns import qn
from docx.shared import Pt, RGBColor
from docx.text.paragraph import Paragraph

from live_asr.core.export import Record, paragraphs
from live_asr.core.types import SAMPLE_RATE_HZ

NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML has no place for."""
AFTER_BIDI = ("w:adjustRightInd", "w:snapToGrid", "w:spacing", "w:ind", "w:jc", "w:rPr")
"""What follows it among a paragraph's properties, whose order is fixed, of all that are set here."""
SOFT = RGBColor(0x5A, 0x5C, 0x57)


def to_docx(record: Record, *, title: str | None, created_at: float) -> bytes:
    """Render a record: its title and date, then who says what from when on.

    `created_at` is Unix time in seconds. Takes about a second for an hour of speech: call it off
    the event loop.
    """
    document = Document()
    created = datetime.fromtimestamp(created_at, UTC)
    properties = document.core_properties
    properties.title, properties.author, properties.comments = _clean(title or ""), "", ""
    properties.created = properties.modified = created
    if record.language:
        properties.language = record.language
        for tag in document.styles.element.iter(qn("w:lang")):
            tag.set(qn("w:val"), record.language)
    _write_way(document.add_heading(_clean(title or "Transcript"), level=1))
    about = document.add_paragraph().add_run(
        f"{created:%Y-%m-%d %H:%M} UTC, {_clock(record.duration_samples)}"
    )
    about.font.color.rgb = SOFT
    for one in paragraphs(record):
        head = document.add_paragraph()
        head.paragraph_format.keep_with_next = True
        head.paragraph_format.space_after = Pt(0)
        if one.speaker:
            head.add_run(_clean(one.speaker)).bold = True
            head.add_run("  ")
        head.add_run(_clock(one.start_sample)).font.color.rgb = SOFT
        text = _clean(" ".join(one.lines))
        _write_way(document.add_paragraph(text))
        if _is_right_to_left(text):
            _turn(head)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def _write_way(paragraph: Paragraph) -> None:
    if _is_right_to_left(paragraph.text):
        _turn(paragraph)


def _turn(paragraph: Paragraph) -> None:
    """Have a paragraph begin on the right, as in Arabic and Hebrew."""
    properties = paragraph._p.get_or_add_pPr()
    properties.insert_element_before(properties.makeelement(qn("w:bidi"), {}), *AFTER_BIDI)
    for run in paragraph.runs:
        run.font.rtl = _is_right_to_left(run.text)


def _is_right_to_left(text: str) -> bool:
    """Tell by the first letter that has a direction of its own."""
    for character in text:
        way = unicodedata.bidirectional(character)
        if way in ("L", "R", "AL"):
            return way != "L"
    return False


def _clean(text: str) -> str:
    return NO_XML.sub("", text)


def _clock(position_samples: int) -> str:
    minutes, second = divmod(position_samples // SAMPLE_RATE_HZ, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
