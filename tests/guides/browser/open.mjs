// Debian's Chromium, with one page in it.
import { chromium } from "playwright-core";

export async function open() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const args = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath, args });
  return { browser, page: await browser.newPage() };
}
