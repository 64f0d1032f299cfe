"""People with a real browser: one signs up, makes a token, sees a pushed image, browses its layers, deletes the tag;

two make an organisation, and one of them pushes there by the role that the other gave him.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from tests.unit.hub.hubs import PASSWORD, Client, Running
from tests.unit.hub.layers import push_layers, tar

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=390,900",
)  # fmt: skip


class Person:
    """Finds things by what they say, as people do."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def goes_to(self, path: str) -> None:
        self.driver.get(self.url + path)

    def sees(self, css: str, text: str = "") -> WebElement:
        def look(driver: webdriver.Chrome) -> WebElement | None:
            found = [e for e in driver.find_elements(By.CSS_SELECTOR, css) if text in e.text]
            return found[0] if found else None

        return WebDriverWait(self.driver, 60, ignored_exceptions=[WebDriverException]).until(
            look, f"{css} with {text!r} in {self.driver.page_source[:3000]}"
        )

    def clicks(self, css: str, text: str = "") -> None:
        element = self.sees(css, text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def follows(self, css: str, text: str = "") -> None:
        """Clicks what leads to another page, and waits until that is there."""
        page = self.sees("html")
        self.clicks(css, text)
        WebDriverWait(self.driver, 60).until(lambda _: is_gone(page))

    def types(self, name: str, text: str) -> None:
        self.sees(f"main [name={name}]:not([type=hidden])").send_keys(text)

    def signs_up(self, name: str) -> None:
        self.goes_to("/sign-up")
        self.types("name", name)
        self.types("password", PASSWORD)
        self.follows("main button")
        self.sees(".who a", name)

    def signs_in(self, name: str) -> None:
        self.follows(".who button", "Sign out")
        self.sees(".who a", "Sign in")
        self.goes_to("/sign-in")
        self.types("name", name)
        self.types("password", PASSWORD)
        self.follows("main button")
        self.sees(".who a", name)

    def chooses(self, name: str, option: str) -> None:
        Select(self.sees(f"main select[name={name}]")).select_by_visible_text(option)

    def is_as_wide_as_the_phone(self) -> None:
        width = self.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= self.driver.execute_script("return window.innerWidth"), "the page is wider than the phone"

    def complaints(self) -> list[str]:
        """What the browser's console says of the page: blocked by the policy, missing, broken."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


def is_gone(element: WebElement) -> bool:
    """The driver has several errors for an element whose page is no longer there."""
    try:
        element.is_enabled()
    except WebDriverException:
        return True
    return False


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    running = Running(str(tmp_path / "data"), tmp_path / "log")
    yield running
    assert running.stop() == 0


@pytest.fixture
def person(hub: Running, tmp_path: Path) -> Iterator[Person]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--lang=en"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield Person(driver, hub.url)
    driver.quit()


def test_from_sign_up_to_deleting_a_tag(hub: Running, person: Person) -> None:
    person.signs_up("dana")

    person.goes_to("/settings/tokens")
    person.types("name", "laptop")
    person.types("repositories", "dana/app")
    person.clicks("main form.fields button")
    secret = re.search(r"mdl_[A-Za-z0-9]{32}", person.sees(".fresh code").text)
    assert secret

    history = [{"created_by": "COPY app /srv"}, {"created_by": "RUN rm /srv/app/big"}]
    with Client(hub.url, ("dana", secret[0])) as client:
        layers = [tar(("srv/app/big", b"x" * 9000), ("srv/app/main.py", b"1")), tar(("srv/app/.wh.big", b""))]
        push_layers(client, "dana/app", "v1", layers, {"os": "linux", "architecture": "amd64", "history": history})
        assert client.post("/v2/dana/other/blobs/uploads/").status_code in (401, 403)
        client.put(
            "/api/v1/repositories/dana/app/readme", content="# The app\n\n<script>document.title = 'x'</script>"
        )

    person.goes_to("/")
    person.clicks(".card a", "dana/app")
    person.sees(".prose h2", "The app")
    person.clicks(".rows a", "v1")
    person.sees(".instruction", "COPY app /srv")
    person.sees(".facts", "hides 9.0 kB")
    person.clicks(".layers li:nth-child(2) a", "Files")
    for directory in ("srv/", "app/"):
        person.clicks(".tree a.dir", directory)
    person.sees(".tree tr.deleted", "big")
    person.is_as_wide_as_the_phone()

    person.clicks("main button.danger", "Delete tag")
    person.driver.switch_to.alert.accept()
    person.sees(".empty", "No tags yet")
    with Client(hub.url, ("dana", secret[0])) as client:
        assert client.get("/v2/dana/app/manifests/v1").status_code == 404
    assert person.complaints() == []


def test_an_organisation_from_its_making_to_a_members_push(hub: Running, person: Person) -> None:
    person.signs_up("eve")
    person.follows(".who button", "Sign out")
    person.sees(".who a", "Sign in")
    person.signs_up("dana")

    person.follows(".who a", "Settings")
    person.follows(".sections a", "Organisations")
    person.types("name", "acme")
    person.follows("main button", "Create organisation")
    person.sees(".rows", "dana")
    person.types("name", "eve")
    person.follows("main button", "Invite")
    person.sees(".badge", "invited")
    person.is_as_wide_as_the_phone()

    with hub.client("eve") as client:
        assert client.post("/v2/acme/app/blobs/uploads/").status_code == 403
    person.signs_in("eve")
    person.follows(".who a", "1 invitation")
    person.follows("main button", "Accept")
    person.sees(".rows a", "acme")

    person.signs_in("dana")
    person.follows(".tabs a", "acme")
    person.follows("main a.button", "Settings")
    person.follows(".sections a", "Teams and roles")
    _makes_a_team(person)

    with hub.client("eve") as client:
        client.push_image("acme/app", "v1")
        assert client.delete("/v2/acme/app/manifests/v1").status_code == 403

    person.follows(".sections a", "Audit log")
    person.sees(".audit li:first-child", "eve pushed acme/app")
    person.sees(".audit", "dana gave a role in acme/*")
    person.chooses("action", "joined")
    person.follows("main button", "Filter")
    person.sees(".audit li:first-child", "eve joined acme")
    assert "pushed" not in person.sees(".audit").text
    person.is_as_wide_as_the_phone()

    person.goes_to("/settings/repository/acme/app")
    person.follows("main button", "Make private")
    person.sees(".badge", "Private")
    person.types("confirm", "acme/app")
    person.follows("main button", "Delete repository")
    person.sees("h1", "acme")
    person.sees(".empty", "No repositories yet")
    assert person.complaints() == []


def _makes_a_team(person: Person) -> None:
    """With eve in it, who may write everywhere in acme."""
    person.types("team", "developers")
    person.follows("main button", "Create team")
    person.chooses("member", "eve")
    person.follows("main button", "Add")
    person.sees(".pill a", "eve")
    person.chooses("who", "developers")
    person.chooses("level", "write")
    person.follows("main button", "Give role")
    person.sees(".facts", "write")
    person.is_as_wide_as_the_phone()
