// A real browser's own EventSource against a running server.
// node eventsource.js CHROMIUM PORT [PATH]: prints one JSON object a line for everything the EventSource reports; ends
// when its standard input ends.
const { chromium } = require("playwright-core");
const { options } = require("./browser");

const [executablePath, port, path = "/events"] = process.argv.slice(2);

async function main() {
  const browser = await chromium.launch(options(executablePath));
  const page = await browser.newPage();
  await page.exposeFunction("report", (what) => console.log(JSON.stringify(what)));
  await page.goto(`http://127.0.0.1:${port}/livez`); // any page of this origin
  await page.evaluate((path) => {
    const source = new EventSource(path);
    const tell = (kind) => (e) =>
      window.report({ kind, data: e.data ?? null, id: e.lastEventId ?? null, state: source.readyState });
    source.onopen = tell("open");
    source.onerror = tell("error");
    source.onmessage = tell("message");
    source.addEventListener("snapshot", tell("snapshot"));
  }, path);
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
