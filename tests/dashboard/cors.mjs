// Pages of two origins call a real gateway, in a real browser: BASE, KEY (an admin's), CAMPAIGN, CHROMIUM; PORT: where this serves the
// pages. The gateway lets http://127.0.0.1:PORT call, and nobody else: http://localhost:PORT is another origin.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { launch } from './browser.mjs';

const { BASE, KEY, CAMPAIGN, PORT } = process.env;

const pages = createServer((request, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>A shop</title>'));
await new Promise((ready) => pages.listen(Number(PORT), ready));

const browser = await launch();
const context = await browser.newContext();
const step = (text) => console.log(`· ${text}`);

/** A page of this origin, which asks by script: status, what it can read of the headers, and the body; or that the browser refused. */
const at = async (origin) => {
  const page = await context.newPage();
  await page.goto(origin);
  return (path, options = {}) =>
    page.evaluate(
      async ([url, given]) => {
        try {
          const answer = await fetch(url, given);
          return { status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() };
        } catch (error) {
          return { refused: String(error) };
        }
      },
      [BASE + path, options],
    );
};
const json = (method, body, headers = {}) => ({ method, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
const member = { authorization: `Bearer ${KEY}` };

try {
  const shop = await at(`http://127.0.0.1:${PORT}/`);

  step('a page creates a link, and reads where it is and how much is left');
  const made = await shop('/api/links', json('POST', { url: 'https://example.com/', code: 'from-a-page' }, { 'x-client-id': 'a-page' }));
  assert.equal(made.status, 201, JSON.stringify(made));
  assert.equal(made.headers.location, '/api/links/from-a-page');
  for (const name of ['etag', 'x-request-id', 'ratelimit', 'ratelimit-policy']) assert(made.headers[name], name);

  step('it changes the link with a key and a condition, and deletes it');
  const changed = await shop('/api/links/from-a-page', json('PATCH', { title: 'A' }, { ...member, 'if-match': made.headers.etag }));
  assert.equal(changed.status, 200, JSON.stringify(changed));
  assert.notEqual(changed.headers.etag, made.headers.etag);
  assert.equal((await shop('/api/links/from-a-page', { method: 'DELETE', headers: member })).status, 204);

  step('it claims, once');
  const claim = () => shop(`/api/campaigns/${CAMPAIGN}/claims`, { method: 'POST', headers: { 'x-user-id': 'ann' } });
  assert.equal((await claim()).status, 201);
  const again = await claim();
  assert.equal(again.status, 409);
  assert.match(JSON.parse(again.text).type, /already-claimed$/);

  step('it is told of a limit, and when to come back');
  const limited = () => shop('/api/bounded/burst/x', { headers: { 'x-client-id': 'a-page' } });
  for (let n = 0; n < 5; n++) assert.equal((await limited()).status, 404);
  const refused = await limited();
  assert.equal(refused.status, 429);
  assert(Number(refused.headers['retry-after']) >= 1, JSON.stringify(refused));
  assert(refused.headers.ratelimit.includes('"burst";r=0'), refused.headers.ratelimit);

  step('it reads what the parser refuses');
  const large = await shop('/api/links', { headers: { 'x-large': 'y'.repeat(120_000) } });
  assert.equal(large.status, 431, JSON.stringify(large));

  step('the cookies of a browser are nobody’s credential');
  assert((await shop('/health/live', { credentials: 'include' })).refused);

  step('a page of another origin reads nothing, and what needs a preflight is not even sent');
  const other = await at(`http://localhost:${PORT}/`);
  assert((await other('/health/live')).refused);
  assert((await other('/api/links', json('POST', { url: 'https://example.com/', code: 'not-by-them' }, { 'x-client-id': 'a-page' }))).refused);
  assert.equal((await fetch(`${BASE}/not-by-them`, { redirect: 'manual' })).status, 404);
} finally {
  await browser.close();
  pages.close();
}
