"""A person with a real browser: signs up, makes a token, sees a pushed image, browses its layers, deletes the tag."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
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

        return WebDriverWait(self.driver, 60).until(look, f"{css} with {text!r} in {self.driver.page_source[:3000]}")

    def clicks(self, css: str, text: str = "") -> None:
        element = self.sees(css, text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def types(self, name: str, text: str) -> None:
        self.sees(f"main [name={name}]").send_keys(text)

    def complaints(self) -> list[str]:
        """What the browser's console says of the page: blocked by the policy, missing, broken."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


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
    person.goes_to("/sign-up")
    person.types("name", "dana")
    person.types("password", PASSWORD)
    person.clicks("main button")
    person.sees(".who a", "dana")

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
    width = person.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= person.driver.execute_script("return window.innerWidth"), "the page is wider than the phone"

    person.clicks("main button.danger", "Delete tag")
    person.driver.switch_to.alert.accept()
    person.sees(".empty", "No tags yet")
    with Client(hub.url, ("dana", secret[0])) as client:
        assert client.get("/v2/dana/app/manifests/v1").status_code == 404
    assert person.complaints() == []
