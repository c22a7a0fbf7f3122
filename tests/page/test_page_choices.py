"""What is chosen before and during a talk: words to expect, how many speak, and from when it counts."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from scripted_server import ScriptedServer
from visiting import CUT_OFF, FAINT_TEXTS, OpenPage

from tests.started import Server

pytest_plugins = ["browsers"]

CSV = b'\xef\xbb\xbfAda,"Lovelace, Ada","a ""b"""\r\nKyiv;Lviv\n'


def vocabulary_file(name: str, content: bytes) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def settings(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()


def test_what_counts_from_the_next_session_only_cannot_be_changed_while_live_and_says_so(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    settings(page)
    controls = [
        page.get_by_role("combobox", name="Captions"),
        page.get_by_label("Tell speakers apart"),
        page.get_by_label("At least"),
        page.get_by_label("At most"),
    ]
    for control in controls:
        expect(control).to_be_disabled()
        expect(control).to_have_accessible_description("You can change this once the captions have stopped.")
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(FAINT_TEXTS) == []
    opened.photograph("settings-live")
    expect(page.get_by_label("Words to expect")).to_be_enabled()
    expect(page.get_by_label("Spoken language")).to_be_enabled()
    page.keyboard.press("Escape")
    scripted.stop(3.0)
    scripted.conclude(("SPEAKER_00", 0, "All of it."), live_labels={"SPEAKER_00": []})
    opened.expect_phase("done")
    settings(page)
    for control in controls:
        expect(control).to_be_enabled()
        expect(control).to_have_accessible_description("")


def test_how_many_speak_is_sent_and_remembered_and_nonsense_is_named_at_the_field(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    settings(page)
    least, most = page.get_by_label("At least"), page.get_by_label("At most")
    for low, high, problem in [
        ("4", "2", "“At least” is more than “At most”: both are ignored."),
        ("0", "2", "Enter a whole number from 1 to 32, or leave it empty."),
        ("2", "33", "Enter a whole number from 1 to 32, or leave it empty."),
        ("2", "4", ""),
    ]:
        least.fill(low)
        most.fill(high)
        expect(page.locator("#speaker-count-problem")).to_have_text(problem)
    page.reload()
    scripted = ScriptedServer(opened)
    scripted.open()
    assert (scripted.starts[0]["min_speakers"], scripted.starts[0]["max_speakers"]) == (2, 4)


def test_too_many_or_too_long_words_are_named_at_the_field_and_the_rest_makes_a_session(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    settings(page)
    field = page.get_by_label("Words to expect")
    problem = page.locator("#vocabulary-problem")
    field.fill(", ".join(f"Name{number}" for number in range(1, 201)))
    expect(page.locator("#vocabulary-count")).to_have_text("200 of 200 words and names")
    expect(problem).to_have_text("")
    field.fill("\n".join(f"Name{number}" for number in range(1, 205)))
    expect(problem).to_have_text("204 entries: the first 200 are used. Remove 4.")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("Silero, " + "x" * 101)
    expect(problem).to_have_text(
        "“xxxxxxxxxxxxxxxxxxxxxxxx…” has 101 characters, more than 100, and is left out. Shorten it."
    )
    opened.photograph("vocabulary-too-long")
    field.fill("\n".join(["🎤" * 100, "🎤" * 101, *(f"Name{number}" for number in range(1, 251))]))
    page.keyboard.press("Escape")
    opened.start()  # the real server takes what is sent to it
    opened.stop()


def test_lists_are_kept_by_name_taken_up_and_deleted(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    settings(page)
    field = page.get_by_label("Words to expect")
    lists = page.get_by_label("Saved lists")
    said = page.locator("#vocabulary-tools .said")
    page.get_by_role("button", name="Save list").click()
    expect(said).to_have_text("Give the list a name first.")
    for name, words in [("Board", "Margaret, Thornton"), ("Chemistry", "Erlenmeyer; Büchner")]:
        field.fill(words)
        page.get_by_label("Name of the list").fill(name)
        page.get_by_role("button", name="Save list").click()
        expect(said).to_have_text(f"Saved “{name}” (2).")
    page.reload()
    settings(page)
    lists.select_option("Board")
    expect(field).to_have_value("Margaret\nThornton")
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(FAINT_TEXTS) == []
    opened.photograph("vocabulary-lists")
    page.keyboard.press("Escape")
    scripted = ScriptedServer(opened)
    scripted.open()
    assert scripted.starts[0]["vocabulary"] == ["Margaret", "Thornton"]
    settings(page)
    lists.select_option("Chemistry")
    scripted.wait_until(lambda: bool(scripted.all("update")))
    assert scripted.all("update")[0]["vocabulary"] == ["Erlenmeyer", "Büchner"]
    page.get_by_role("button", name="Delete list").click()
    expect(lists.locator("option")).to_have_text(["Choose a saved list", "Board"])
    expect(field).to_have_value("Erlenmeyer\nBüchner")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("names.txt", "Ada Lovelace\r\nGödel\n\n Nguyễn \n".encode(), ["Ada Lovelace", "Gödel", "Nguyễn"]),
        ("names.txt", "Gödel\nErdős".encode("utf-16"), ["Gödel", "Erdős"]),
        ("names.txt", "Gödel\nBüchner".encode("cp1252"), ["Gödel", "Büchner"]),
        ("names.csv", CSV, ["Ada", "Lovelace Ada", 'a "b"', "Kyiv", "Lviv"]),
    ],
    ids=["text", "utf-16", "windows", "csv"],
)
def test_words_are_loaded_from_a_file(
    silent_browser: Browser, server: Server, visit: OpenPage, name: str, content: bytes, expected: list[str]
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    settings(page)
    field = page.get_by_label("Words to expect")
    field.fill("Silero")
    page.set_input_files("#vocabulary-file", vocabulary_file(name, content))
    expect(field).to_have_value("\n".join(["Silero", *expected]))
    expect(page.locator("#vocabulary-tools .said")).to_have_text(
        f"{len(expected)} new entries from “{name}”."
    )
    page.keyboard.press("Escape")
    page.reload()
    scripted = ScriptedServer(opened)
    scripted.open()
    assert scripted.starts[0]["vocabulary"] == ["Silero", *expected]


def test_a_file_that_is_no_list_of_words_is_refused_and_changes_nothing(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    settings(page)
    field = page.get_by_label("Words to expect")
    field.fill("Silero")
    said = page.locator("#vocabulary-tools .said")
    page.set_input_files("#vocabulary-file", vocabulary_file("sound.wav", b"RIFF\0\0\0\0WAVE"))
    expect(said).to_contain_text("“sound.wav” is not a text file.")
    page.set_input_files("#vocabulary-file", vocabulary_file("novel.txt", b"word\n" * 300_000))
    expect(said).to_have_text("“novel.txt” is too large for a word list.")
    expect(field).to_have_value("Silero")
