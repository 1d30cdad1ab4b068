// A Chromium, and what a page of it must never do.
import { chromium } from 'playwright-core';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** Refusals that the walk provokes: the browser reports each as an error of the console. */
const PROVOKED = [/the server responded with a status of (401|403|404|409|400)/];

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });

/** A page, and the list of what it did wrong so far. */
export const open = async (browser, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC', ...options });
  const faults = [];
  // To try changes of the page without a build of the gateway.
  if (process.env.FILES) await context.route('**/admin/assets/*', serve);
  const page = await context.newPage();
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !PROVOKED.some((provoked) => provoked.test(text))) faults.push(`console: ${text}`);
  });
  page.on('pageerror', (error) => faults.push(`error: ${error.stack}`));
  page.on('response', (response) => response.status() >= 500 && faults.push(`${response.status()} ${response.url()}`));
  page.on('request', (request) => {
    const { origin } = new URL(request.url());
    if (origin !== process.env.BASE && !request.url().startsWith('data:')) faults.push(`elsewhere: ${request.url()}`);
  });
  page.setDefaultTimeout(15_000);
  return { context, page, faults };
};

const serve = (route) => {
  const name = new URL(route.request().url()).pathname.split('/').at(-1);
  const folder = ['preact.js', 'hooks.js', 'htm.js'].includes(name) ? 'vendor/' : '';
  return route.fulfill({ path: `${process.env.FILES}/${folder}${name}` });
};

/** What axe finds serious or critical here. (By a script of the test's, which the page's policy does not reach.) */
export const accessibility = async (page) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical' || impact === 'moderate')
    .map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => `${node.html.slice(0, 160)} (${node.failureSummary?.split('\n').slice(1, 3).join('; ').slice(0, 240)})`).slice(0, 3).join(' | ')}`);
};
