// node todo.mjs URL CHROMIUM SCREENSHOT.png first|again: uses the page of the template `todo` as a person does. `again`
// is for another server with the same data. `cargo xtask templates` runs it.

import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

// In the page: what it shows, each item with a mark if it is done.
function shownItems() {
  const shown = (row) => (row.querySelector("input").checked ? "x " : "") + row.querySelector("label").textContent;
  return [...document.querySelectorAll("#items li")].map(shown);
}

const [url, executablePath, screenshot, time] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage();
  await page.evaluateOnNewDocument(`${shownItems}`);
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  // Not until the network is idle: under `daylily dev`, the page waits for reloads.
  await page.goto(url, { waitUntil: "load" });
  const shows = (expected) =>
    page
      .waitForFunction((expected) => JSON.stringify(shownItems()) === expected, { timeout: 30_000 }, JSON.stringify(expected))
      .catch(async () => assert.deepEqual(await page.evaluate("shownItems()"), expected));
  const add = async (title) => {
    await page.type("#title", title);
    await page.click("#add button");
  };
  if (time === "first") {
    await shows([]);
    await add("Water the lilies");
    await shows(["Water the lilies"]);
    // Text of users is text, not HTML.
    await add("<b>Weed</b> & prune");
    await shows(["Water the lilies", "<b>Weed</b> & prune"]);
    await page.click("#items li:first-child input");
    await page.waitForFunction(() => document.querySelector("#rest").textContent === "1 of 2 left");
    await page.reload({ waitUntil: "load" });
    await shows(["x Water the lilies", "<b>Weed</b> & prune"]);
    await page.screenshot({ path: screenshot });
  } else {
    await shows(["x Water the lilies", "<b>Weed</b> & prune"]);
    await page.click("#items li:last-child button");
    await shows(["x Water the lilies"]);
    await page.click("#items li:last-child button");
    await shows([]);
  }
  assert.deepEqual(errors, []);
} finally {
  await browser.close();
}
