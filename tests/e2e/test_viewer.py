"""The viewer page, as a person uses it: in Chromium, through nginx, with a token of Keycloak."""

import io
import json
from collections.abc import AsyncIterator

import pytest
from PIL import Image
from playwright.async_api import Browser, Page, expect

from flowstack.deployment import Deployment
from flowstack.keycloak import SECRET, WITHOUT_ROLE
from records import map_of, record

NAMED = map_of(
    sql="select *, properties->>'displayName' as name from datapoint", interactivity=["name", "survey_id", "identifier"]
)


@pytest.fixture(scope="module")
def topic(deployment: Deployment) -> str:
    topic = deployment.new_topic()
    points = [record("west", 3.0, 52.0, displayName="Westmost"), record("east", 9.0, 50.0, displayName="Eastmost <b>")]
    deployment.push_and_wait(topic, points)
    return topic


@pytest.fixture
async def page(browser: Browser, deployment: Deployment) -> AsyncIterator[Page]:
    """The opened page; an error or a refused resource of it fails the test at the end."""
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    opened = await context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    await opened.goto(f"{deployment.url}/viewer/")
    yield opened
    assert problems == []
    await context.close()


async def fill(page: Page, topic: str, config: object = NAMED, secret: str = SECRET, client: str = "") -> None:
    await page.fill("#topic", topic)
    if client:
        await page.fill("#client-id", client)
    await page.fill("#client-secret", secret)
    await page.fill("#mapconfig", config if isinstance(config, str) else json.dumps(config, indent=2))


async def go(page: Page) -> None:
    await page.click("#go")
    await expect(page.locator("#go")).to_be_enabled(timeout=20_000)


async def place_of_red(page: Page) -> tuple[float, float]:
    """Return where on the page the westmost marker is drawn."""
    await expect(page.locator(".points img.leaflet-tile-loaded").first).to_be_visible(timeout=20_000)
    await expect(page.locator(".points img.leaflet-tile:not(.leaflet-tile-loaded)")).to_have_count(0, timeout=20_000)
    await page.wait_for_timeout(400)  # tiles fade in
    image = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
    red = [
        (x, y) for x in range(400, image.width) for y in range(image.height) if image.getpixel((x, y)) == (224, 0, 80)
    ]
    assert red, "no marker is drawn"
    west = min(x for x, _ in red)
    marker = [(x, y) for x, y in red if x < west + 20]
    return sum(x for x, _ in marker) / len(marker), sum(y for _, y in marker) / len(marker)


async def test_a_map_appears_fitted_and_its_points_show_their_attributes(page: Page, topic: str) -> None:
    await fill(page, topic)
    await go(page)
    x, y = await place_of_red(page)
    await page.mouse.move(x, y)
    await expect(page.locator(".hovered")).to_have_text("Westmost", timeout=10_000)
    await page.mouse.click(x, y)
    await expect(page.locator("#feature-title")).to_have_text("Westmost")
    shown = await page.locator("#feature-values").inner_text()
    assert shown.split() == ["identifier", "west", "name", "Westmost", "survey_id", "7"]
    await page.keyboard.press("Escape")
    await expect(page.locator("#feature")).to_be_hidden()
    # Fitted: both points are in view, far apart.
    zoom = int((await page.evaluate("location.hash")).split("/")[1])
    assert 6 <= zoom <= 8


async def test_an_address_can_be_shared(page: Page, browser: Browser, topic: str) -> None:
    await fill(page, topic)
    await go(page)
    await expect(page.locator("#share")).to_be_enabled()
    other = await (await browser.new_context()).new_page()
    await other.goto(page.url)
    await expect(other.locator("img.leaflet-tile-loaded").first).to_be_visible(timeout=20_000)
    shared, opened = (url.split("#")[1].split("/") for url in (page.url, other.url))
    assert opened[:2] == shared[:2]
    # A window of another size has its middle at another pixel.
    assert [float(part) for part in opened[2:]] == pytest.approx([float(part) for part in shared[2:]], abs=0.05)
    await other.context.close()


async def test_attributes_are_text_and_never_markup(page: Page, topic: str) -> None:
    only = map_of(
        sql="select *, properties->>'displayName' as name from datapoint where identifier = 'east'",
        interactivity="name",
    )
    await fill(page, topic, only)
    await go(page)
    x, y = await place_of_red(page)
    await page.mouse.click(x, y)
    await expect(page.locator("#feature-title")).to_have_text("Eastmost <b>")


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        ({"config": "{not json"}, "#mapconfig-error", "This is not JSON"),
        ({"config": map_of(cartocss="#s { marker-fil: red; }")}, "#mapconfig-error", "marker-fil"),
        ({"config": map_of(sql="selec * from datapoint")}, "#mapconfig-error", "syntax error"),
        ({"config": map_of(sql="select nope from datapoint")}, "#mapconfig-error", "nope"),
        ({"topic": "no.such.datapoint"}, "#topic-error", "no.such.datapoint"),
        ({"secret": "wrong"}, "#access-error", "No token"),
        ({"secret": ""}, "#access-error", "secret"),
        ({"client": WITHOUT_ROLE}, "#access-error", "lacks the role"),
    ],
)
async def test_errors_are_shown_where_they_belong(
    page: Page, topic: str, change: dict[str, str], place: str, message: str
) -> None:
    await fill(page, **({"topic": topic} | change))
    await go(page)
    await expect(page.locator(place)).to_contain_text(message)
    others = {"#topic-error", "#access-error", "#mapconfig-error"} - {place}
    for other in others:
        await expect(page.locator(other)).to_be_empty()


async def test_a_token_can_be_pasted(page: Page, deployment: Deployment, topic: str) -> None:
    await fill(page, topic)
    await page.check("input[name=access][value=token]")
    await go(page)
    await expect(page.locator("#access-error")).to_have_text("Paste a token.")
    await page.fill("#token", deployment.keycloak.token())
    await go(page)
    await expect(page.locator("#share")).to_be_enabled()


async def test_every_sample_makes_a_map(page: Page, topic: str) -> None:
    samples = await page.locator("#sample option").count()
    assert samples >= 3
    for index in range(samples):
        await page.select_option("#sample", str(index))
        config = await page.input_value("#mapconfig")
        await fill(page, topic, config)
        await page.evaluate("document.getElementById('share').disabled = true")
        await go(page)
        await expect(page.locator("#share")).to_be_enabled()
        await expect(page.locator("#mapconfig-error")).to_be_empty()


async def test_a_map_that_is_gone_is_said_to_be(page: Page, deployment: Deployment) -> None:
    await page.goto(f"{deployment.url}/viewer/#{'0' * 32}:1/3/10/10")
    await page.reload()
    await expect(page.locator("#map-error")).to_contain_text("This map does not exist")


async def test_the_page_can_be_used_on_a_phone(browser: Browser, deployment: Deployment, topic: str) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    await page.goto(f"{deployment.url}/viewer/")
    await fill(page, topic)
    await page.tap("#go")
    await expect(page.locator("img.leaflet-tile-loaded").first).to_be_visible(timeout=20_000)
    # The form makes room for the map, nothing is wider than the screen, and the form can be had back.
    await expect(page.locator("#panel")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.tap("#toggle")
    await expect(page.locator("#panel")).to_be_visible()
    await context.close()


async def test_the_page_needs_nothing_from_elsewhere(browser: Browser, deployment: Deployment) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{deployment.url}/viewer/")
    await expect(page.locator("#map canvas")).to_be_visible(timeout=20_000)
    assert asked
    assert [url for url in asked if not url.startswith((deployment.url, "data:", "blob:"))] == []
    await context.close()
