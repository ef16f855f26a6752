"""A Chromium that is logged in to Label Studio."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Page, Playwright

from tests.e2e.support import LabelStudio

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright) -> Browser:
    """A Chromium: the system's, else the one that playwright has downloaded."""
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return playwright.chromium.launch(executable_path=executable, headless=True, args=BROWSER_ARGS)


def log_in(page: Page, label_studio: LabelStudio) -> None:
    page.goto("/user/login/")
    page.fill("input[name=email]", label_studio.account.email)
    page.fill("input[name=password]", label_studio.account.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url)
