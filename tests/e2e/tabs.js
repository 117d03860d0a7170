// Tabs of one browser that share one stream by the script given.
// node tabs.js CHROMIUM PORT SCRIPT TABS: opens the tabs, runs the script's text in each, and prints {"tab","data"} for all
// that they show and {"tab","data":null} when one is set up; each line of standard input closes the first tab that is open;
// ends when its standard input ends.
const { chromium } = require("playwright-core");
const readline = require("readline");
const { options } = require("./browser");

const [executablePath, port, script, count] = process.argv.slice(2);

async function main() {
  const browser = await chromium.launch(options(executablePath));
  const context = await browser.newContext(); // which the tabs share, as those of one user do
  const tabs = [];
  for (let tab = 0; tab < Number(count); ++tab) {
    const page = await context.newPage();
    await page.exposeFunction("show", (data) => console.log(JSON.stringify({ tab, data })));
    await page.goto(`http://127.0.0.1:${port}/livez`);
    await page.addScriptTag({ content: script });
    console.log(JSON.stringify({ tab, data: null }));
    tabs.push(page);
  }
  for await (const _ of readline.createInterface({ input: process.stdin })) await tabs.shift().close();
  await browser.close();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
