// Looks at the page of an order: says where it is to be paid, and what its status was when it was shipped.
import { open } from "./open.mjs";

const { browser, page } = await open();
await page.goto(process.argv[2]);
await page.waitForSelector("#pay[href]", { timeout: 60_000 });
console.log("Pay at", await page.getAttribute("#pay", "href"));
await page.waitForFunction(() => document.querySelector("#status").innerText.includes("shipped"), null, { timeout: 90_000 });
console.log("Status", JSON.stringify((await page.innerText("#status")).trim().split("\n")));
await browser.close();
