// A real browser's own EventSource against a running server.
// node eventsource.js CHROMIUM PORT: prints one JSON object a line for everything the EventSource reports; ends when its
// standard input ends.
const { chromium } = require("playwright-core");

const [executablePath, port] = process.argv.slice(2);

async function main() {
  const browser = await chromium.launch({
    executablePath,
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
  });
  const page = await browser.newPage();
  await page.exposeFunction("report", (what) => console.log(JSON.stringify(what)));
  await page.goto(`http://127.0.0.1:${port}/livez`); // any page of this origin
  await page.evaluate(() => {
    const source = new EventSource("/events");
    const tell = (kind) => (e) =>
      window.report({ kind, data: e.data ?? null, id: e.lastEventId ?? null, state: source.readyState });
    source.onopen = tell("open");
    source.onerror = tell("error");
    source.onmessage = tell("message");
    source.addEventListener("snapshot", tell("snapshot"));
  });
  process.stdin.resume();
  await new Promise((resolve) => process.stdin.on("end", resolve));
  await browser.close();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
