// Draws the diagram of a file as GitHub does, into a picture, and prints the words in it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { open } from "./open.mjs";

const [, , source, picture] = process.argv;
const { browser, page } = await open();
await page.setContent("<main></main>");
await page.addScriptTag({ path: createRequire(import.meta.url).resolve("mermaid/dist/mermaid.min.js") });
await page.evaluate(async (text) => {
  mermaid.initialize({ startOnLoad: false });
  document.querySelector("main").innerHTML = (await mermaid.render("drawn", text)).svg;
}, readFileSync(source, "utf8"));
console.log(await page.innerText("main"));
await page.locator("main").screenshot({ path: picture });
await browser.close();
