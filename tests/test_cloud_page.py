"""The page at /: nothing from outside, and what a person sees in a real browser."""

import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from cloud_cases import Limits, running, served, some_stream, until
from spic.cloud.arrivals import Arrivals
from spic.cloud.trial import Trials

TOKEN = "a-token-of-some-length"


def png(height=300, width=400):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client():
    with running(trials=Trials(served())) as client:
        yield client


# ---- what it asks ------------------------------------------------------------------------------------------------------


def test_the_page_takes_nothing_from_outside_and_runs_only_what_stands_in_it(client):
    status, headers, body = client.ask("GET", "/")
    policy = headers["Content-Security-Policy"]
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("'sha256-") == 2
    assert not re.search(
        rb"https?://|<link(?! rel=\"icon\" href=\"data:,\")|@import|<\w+[^>]*\bsrc=|\sstyle=|\son\w+=", body
    )


def test_arrivals_are_told_once_each_and_the_last_with_their_answer(client):
    one = served()[0]
    before = client.get("/page/arrivals")["last"]
    client.predict(some_stream(one, 3))
    told = client.get(f"/page/arrivals?after={before}")
    assert told["last"] == before + 3 and [row[0] for row in told["rows"]] == [before + 1, before + 2, before + 3]
    number, moment, source, point, coder, size, milliseconds, said = told["rows"][-1]
    assert source == "127.0.0.1" and point == one.header.point and coder == one.header.coder
    assert abs(moment - time.time()) < 60 and size > 0 and milliseconds > 0 and said.endswith("%")
    assert said.startswith(client.get(f"/page/arrivals/{number}")["top"][0]["name"])
    assert client.get(f"/page/arrivals?after={number}")["rows"] == []


def test_what_the_page_can_show_is_bounded():
    arrivals = Arrivals(100, 10)
    for number in range(1, 251):
        arrivals.add({"classes": ["a", "b"]}, time=0, source="", point="p", coder="rans", bytes=number, milliseconds=1)
    rows = arrivals.after(0, 1000)
    assert [row[0] for row in rows] == list(range(151, 251)) and rows[0][7] == "a, b"
    assert [row[0] for row in arrivals.after(245, 1000)] == [246, 247, 248, 249, 250]
    assert arrivals.after(250, 1000) == [] and arrivals.after(9999, 1000) == []
    assert arrivals.answer(240) is None and arrivals.answer(241) == {"classes": ["a", "b"]}


# ---- "try it" ----------------------------------------------------------------------------------------------------------


def tried(client, body, kind="image/png", query="point=classification/scenes/S1/1&coder=rans"):
    status, _, told = client.ask("POST", f"/page/try?{query}", body, {"Content-Type": kind})
    return status, json.loads(told)


def test_an_uploaded_picture_goes_through_the_edge_half_and_is_answered(client):
    status, told = tried(client, png())
    assert status == 200 and told["point"] == "classification/scenes/S1/1" and len(told["answers"][0]["top"]) == 5
    assert 50 < told["sent_bytes"] < 1000
    assert client.get("/page/arrivals")["rows"][-1][2] == "127.0.0.1 (try it)"


@pytest.mark.parametrize(
    "body,kind,query,status,message",
    [
        (b"no picture", "image/png", None, 400, "no PNG picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png", None, 400, "no PNG picture"),
        (b"x", "image/tiff", None, 415, "image/jpeg or image/png or image/webp"),
        (b"x", "image/png", "point=nothing&coder=rans", 422, "is not served"),
        (b"x", "image/png", "", 422, "is not served"),
    ],
)
def test_what_is_no_picture_is_refused(client, body, kind, query, status, message):
    got, told = tried(client, body, kind) if query is None else tried(client, body, kind, query)
    assert got == status and message in told["error"]


def test_a_picture_of_another_kind_than_it_says_or_too_narrow_a_one_is_refused(client):
    assert tried(client, png(), "image/jpeg")[0] == 400
    assert tried(client, png(2, 300))[0] == 400


def test_without_try_no_picture_is_taken():
    with running() as client:
        status, told = tried(client, png())
        assert status == 404 and "--try" in told["error"]
        assert client.get("/page/about")["trial"] is False


# ---- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1300,1000"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = selenium.Chrome(options, selenium.ChromeService(driver))
    yield browser
    browser.quit()


def text(browser, name):
    return browser.find_element("id", name).text


def complaints(browser):
    """Errors of scripts and of the policy; an answer that is kept no longer is none."""
    return [entry["message"] for entry in browser.get_log("browser") if "404" not in entry["message"]]


def test_a_person_sees_what_arrives(client, browser):
    browser.get(f"http://127.0.0.1:{client.port}/")
    until(lambda: "2 operating points" in text(browser, "what"))
    client.predict(some_stream(served()[0], 2))
    shown = lambda: text(browser, "count") == f"{client.service.arrivals.last:,}"  # noqa: E731
    until(shown)
    until(
        lambda: (
            "Answer to picture" in text(browser, "title")
            and len(browser.find_elements("css selector", "#answer .bar")) == 5
        )
    )
    first = browser.find_element("css selector", "#rows tr[data-n]").text
    assert "127.0.0.1" in first and "classification/scenes/S1/1" in first and first.endswith("%")
    assert complaints(browser) == [], "the page breaks no rule of its own policy"


def test_ten_thousand_arrivals_are_shown_and_scrolled(client, browser):
    browser.get(f"http://127.0.0.1:{client.port}/")
    for number in range(10_000):
        client.service.arrivals.add(
            {"top": [{"name": "<b>bold</b>", "score": 0.5}]},
            time=time.time(),
            source="10.0.0.1",
            point="classification/scenes/S1/1",
            coder="rans",
            bytes=20 + number % 50,
            milliseconds=1 + number % 7,
        )
    until(lambda: text(browser, "count") == f"{client.service.arrivals.last:,}", 30)
    assert browser.execute_script("return arrivals.length") == 10_000
    browser.execute_script(
        "document.getElementById('list').scrollTop = 1e9; document.getElementById('window').value = 10000; show()"
    )
    until(
        lambda: (
            f'data-n="{client.service.arrivals.last - 9999}"'
            in browser.find_element("id", "rows").get_attribute("innerHTML")
        )
    )
    assert len(browser.find_elements("css selector", "#rows tr")) < 60, "only what is in sight is made"
    assert "<b>bold</b>" in text(browser, "rows"), "what arrives is text, never markup"
    painted = browser.execute_script(
        "const c = document.getElementById('bytes'); return c.getContext('2d').getImageData(90, 0, c.width - 90, "
        "c.height).data.filter((v, i) => i % 4 === 3 && v).length"
    )
    assert painted > 1000 and complaints(browser) == []


def test_a_picture_is_tried_on_the_page(client, browser, tmp_path):
    (tmp_path / "photo.png").write_bytes(png())
    browser.get(f"http://127.0.0.1:{client.port}/")
    until(lambda: browser.find_element("id", "trying").is_displayed())
    assert "edge half runs here, in the server" in text(browser, "trying")
    browser.find_element("id", "file").send_keys(str(tmp_path / "photo.png"))
    browser.find_element("css selector", "#try button").click()
    until(lambda: "bytes stand for your picture" in text(browser, "tried"), 30)
    until(
        lambda: (
            text(browser, "title") == "Answer to your picture"
            and len(browser.find_elements("css selector", "#answer .bar")) == 5
        )
    )


def test_the_page_asks_for_the_token_and_opens_with_it(browser):
    with running(token=TOKEN, limits=Limits(idle_seconds=1)) as client:
        browser.get(f"http://127.0.0.1:{client.port}/")
        until(lambda: browser.find_element("id", "lock").is_displayed())
        assert not browser.find_element("id", "main").is_displayed()
        browser.find_element("id", "token").send_keys(TOKEN)
        browser.find_element("css selector", "#unlock button").click()
        until(lambda: "2 operating points" in text(browser, "what") and browser.find_element("id", "main").is_displayed())
        browser.execute_script("sessionStorage.clear()")
        browser.get("about:blank")
