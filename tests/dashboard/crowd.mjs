// A visitor of a waiting room and of a challenge, in a real browser, and ALTCHA's own library: BASE, KEY (an admin's), CHROMIUM. The gateway
// has the challenges `page` (before /page) and `claims` (before the claims of campaigns).
import assert from 'node:assert/strict';
import { solveChallenge } from 'altcha-lib';
import { accessibility, launch } from './browser.mjs';

const { BASE, KEY } = process.env;
const step = (text) => console.log(`· ${text}`);
const api = (method, path, body, headers = {}) =>
  fetch(BASE + path, { method, headers: { 'content-type': 'application/json', ...headers }, body: body && JSON.stringify(body) });
const member = { authorization: `Bearer ${KEY}` };
const made = async (method, path, body) => assert((await api(method, path, body, member)).ok, path);

step('ALTCHA\'s library solves what the gateway asks, and each solution counts once');
await made('POST', '/api/campaigns', { id: 'crowd', quantity: 5 });
const claim = (user, solution) => api('POST', '/api/campaigns/crowd/claims', undefined, { 'x-user-id': user, ...(solution && { 'x-challenge': solution }) });
const asked = await claim('ann');
assert.equal(asked.status, 403);
const { challenge, salt, algorithm, maxnumber, signature } = (await asked.json()).altcha;
const { number } = await solveChallenge(challenge, salt, algorithm, maxnumber).promise;
const solution = btoa(JSON.stringify({ algorithm, challenge, number, salt, signature }));
assert.equal((await claim('ann', solution)).status, 201);
assert.equal((await claim('bob', solution)).status, 403);

const browser = await launch();
try {
  step('a page solves the challenge by itself, and leads on');
  await made('POST', '/api/links', { url: 'https://example.com/', code: 'page' });
  await made('POST', '/api/links', { url: 'https://example.com/', code: 'queue' });
  const context = await browser.newContext({ locale: 'de-DE' });
  const faults = [];
  const page = await context.newPage();
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => /policy/i.test(message.text()) && faults.push(message.text()));
  await page.route('https://example.com/**', (route) => route.fulfill({ contentType: 'text/html', body: '<title>Behind it</title>' }));
  await page.goto(`${BASE}/page`);
  await page.waitForURL('https://example.com/');

  step('without scripts a visitor waits on a page, keeps the place, and is let in');
  await made('PUT', '/api/rooms/queue', { path: '/queue', admitPerSecond: 0.25, title: 'The <sale>' });
  const plain = await browser.newContext({ locale: 'ko-KR', javaScriptEnabled: false });
  const visitor = await plain.newPage();
  for (const other of ['a', 'b']) assert.equal((await api('POST', '/api/rooms/queue/tickets', undefined, { 'x-client-id': other })).status, 201);
  await visitor.goto(`${BASE}/queue`);
  assert.equal(await visitor.getAttribute('html', 'lang'), 'ko');
  assert.match(await visitor.innerText('[role=status]'), /대기 순번: [123]번/);
  assert.equal(await visitor.innerText('strong'), 'The <sale>');
  // A redirect is followed without asking the route, and there is no such host here: it is asked for, that is enough.
  await visitor.waitForRequest('https://example.com/', { timeout: 40_000 });

  step('nothing on the pages keeps anybody out');
  const looker = await context.newPage();
  await made('POST', '/api/rooms/queue/pause');
  await looker.goto(`${BASE}/queue`);
  assert.deepEqual(await accessibilityWithoutRefresh(looker), []);
  assert.deepEqual(faults, []);
} finally {
  await browser.close();
}

/** axe counts any refresh as a fault (WCAG 2.2.1); this one keeps a place that would else be lost, and leads to the same page. */
async function accessibilityWithoutRefresh(page) {
  return (await accessibility(page)).filter((fault) => !/ meta-refresh/.test(fault));
}
