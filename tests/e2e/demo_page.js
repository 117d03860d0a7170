// The demo's page in a real browser.
// node demo_page.js CHROMIUM URL [SCREENSHOT]: sees events and a summary come, publishes one, leaves, comes back and is sent what it
// missed. Prints what the page said; exit code 0 if all of it came.
const { chromium } = require("playwright-core");

const [executablePath, url, screenshot] = process.argv.slice(2);

async function main() {
  const browser = await chromium.launch({
    executablePath,
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
  });
  const page = await browser.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await page.goto(url);
  await page.waitForSelector("#state.live");
  await page.waitForSelector("#summaries tr");
  await page.click("#publish");
  await page.waitForFunction(() => document.querySelector("#note").textContent.startsWith("acknowledged: events-topic"));
  await page.click("#pause");
  const before = await page.textContent("#count");
  await page.waitForTimeout(1500); // in which events happen
  if (before !== await page.textContent("#count")) throw new Error("events came while it was away");
  await page.click("#pause");
  await page.waitForFunction(() => Number(document.querySelector("#missed").textContent) >= 5);
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
  console.log(JSON.stringify({ missed: await page.textContent("#missed"), note: await page.textContent("#note"), complaints }));
  await browser.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
