// What a person does with the dashboard, in a real browser, on a real gateway: BASE, KEY (an admin's), CHROMIUM; SCREENSHOTS is a
// directory for pictures of every view, if they are wanted.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdirSync, readFileSync } from 'node:fs';
import { accessibility, launch, open } from './browser.mjs';

const { BASE, KEY, SCREENSHOTS } = process.env;
const CLAIMS = 100;

const api = async (method, path, body, headers = { authorization: `Bearer ${KEY}` }) => {
  const json = body === undefined ? {} : { 'content-type': 'application/json' };
  const answer = await fetch(BASE + path, { method, headers: { ...headers, ...json }, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  assert(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
};

/** An origin that refuses until it is told to take. */
const origin = { takes: false, taken: [] };
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (piece) => (body += piece));
  request.on('end', () => {
    if (origin.takes) origin.taken.push(body);
    response.writeHead(origin.takes ? 204 : 500).end();
  });
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const hook = `http://127.0.0.1:${server.address().port}/hook`;

const browser = await launch();
const { context, page, faults } = await open(browser);
const step = (text) => console.log(`· ${text}`);
const heading = (name) => page.getByRole('heading', { level: 1, name });
const go = async (hash, title) => {
  await page.goto(`${BASE}/admin#/${hash}`);
  await heading(title).waitFor();
};
const sound = async (where) => {
  assert.deepEqual(await accessibility(page), [], `axe, at ${where}`);
  assert.deepEqual(faults, [], `at ${where}`);
};
const logIn = async (key) => {
  await page.getByLabel('API key').fill(key);
  await page.getByRole('button', { name: 'Log in' }).click();
};
const field = (name) => page.getByRole('dialog').getByLabel(new RegExp(`^${name}( optional)?$`));
const submit = (name) => page.getByRole('dialog').getByRole('button', { name, exact: true }).click();
/** The focus is, or soon comes, where it is expected. */
const focusOn = async (label) => {
  const found = page.waitForFunction((wanted) => document.activeElement.ariaLabel === wanted, label);
  await found.catch(async () => assert.fail(`the focus is at ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 200))}`));
};
const gone = () => page.getByRole('dialog').waitFor({ state: 'detached' });

try {
  step('the root says what this is, and leads to the dashboard');
  await page.goto(BASE);
  await sound('the root');
  await page.getByRole('link', { name: /Dashboard/ }).click();

  step('a bad key is told at the field, a good one logs in');
  await heading('Tollgate').waitFor();
  await sound('the log-in');
  await logIn('tg_nobody_has_this_key');
  await page.getByText('This is no API key that the gateway knows').waitFor();
  assert.equal(await page.getByLabel('API key').getAttribute('aria-invalid'), 'true');
  await logIn(KEY);
  await heading('Overview').waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  assert(!(await page.content()).includes(KEY), 'the key is not in the page');
  const kept = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }]));
  assert.equal(kept, '["",{},{}]', 'nothing is kept where scripts could read it');
  await sound('the overview');

  step('empty lists say what to do');
  await go('campaigns', 'Campaigns');
  await page.getByText('No campaigns yet').waitFor();
  await sound('no campaigns');
  await go('links', 'Links');
  await page.getByText('No links yet').waitFor();
  await sound('no links');

  step('a campaign is created; what is wrong is told at its field');
  await go('campaigns', 'Campaigns');
  await page.getByRole('button', { name: 'New campaign' }).click();
  await sound('a new campaign');
  await field('Id').fill('Not A Slug');
  await field('Units').fill('150');
  await submit('Create');
  await page.getByText(/^must be 1 to 64 of a-z/).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.name), 'id', 'the focus is where the fault is');
  await field('Id').fill('spring');
  await submit('Create');
  await gone();
  await page.getByRole('link', { name: 'spring' }).click();
  await heading('spring').waitFor();

  step(`${CLAIMS} claims arrive while it is watched`);
  await page.getByText('of 150 units').waitFor();
  const claim = (n) => api('POST', '/api/campaigns/spring/claims', undefined, { 'x-user-id': `user-${n}` });
  for (let n = 0; n < CLAIMS; n += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, k) => claim(n + k)));
    await new Promise((later) => setTimeout(later, 120));
  }
  const left = page.locator('.tile', { hasText: 'Left' }).locator('.value');
  const admitted = page.locator('.tile', { hasText: 'Admitted' }).locator('.value');
  // By events alone, well before the page would ask by itself.
  await page.waitForFunction(() => [...document.querySelectorAll('.tile .value')].some((one) => one.textContent === '100'), null, { timeout: 4000 });
  assert.deepEqual([await left.textContent(), await admitted.textContent()], ['50', '100']);
  await sound('a campaign');

  step('its stock is raised; it is sold out; it is closed, once one is sure');
  await page.getByRole('button', { name: 'Change' }).click();
  await field('Units').fill('10');
  await submit('Save');
  await page.getByText('must not be below what is admitted already').waitFor();
  await field('Units').fill('101');
  await submit('Save');
  await gone();
  await claim('last');
  await page.getByText('Sold out', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  await sound('the question whether to close');
  await page.keyboard.press('Escape');
  await gone();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Close', 'the focus is back');
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  await submit('Close campaign');
  await page.getByText('Closed', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Open again' }).click();
  await page.getByText('Sold out', { exact: true }).waitFor();

  step('holds are seen: held, confirmed, and come back');
  await go('campaigns', 'Campaigns');
  await page.getByRole('button', { name: 'New campaign' }).click();
  await field('Id').fill('kept');
  await field('Units').fill('10');
  await field('Hold, seconds').fill('600');
  await submit('Create');
  await gone();
  for (const [user, verb] of [['ann', 'confirm'], ['ben', 'release'], ['cat', null]]) {
    const { claim: made } = await api('POST', '/api/campaigns/kept/claims', undefined, { 'x-user-id': user });
    if (verb) await api('POST', `/api/campaigns/kept/claims/${made.id}/${verb}`, undefined, { 'x-user-id': user });
  }
  const tile = (name) => page.locator('.tile', { has: page.getByText(name, { exact: true }) }).locator('.value');
  await page.getByRole('link', { name: 'kept' }).click();
  await heading('kept').waitFor();
  for (const name of ['Held', 'Confirmed', 'Came back']) {
    await tile(name).filter({ hasText: /^1$/ }).waitFor();
  }
  assert.equal(await tile('Left').textContent(), '8');
  await page.getByText('10 min, then the unit comes back').waitFor();
  await sound('a campaign with holds');

  step('a link is created, found, changed and deleted');
  await go('links', 'Links');
  await page.getByRole('button', { name: 'New link' }).click();
  await field('Leads to').fill('https://example.com/a');
  await field('Code').fill('api');
  await submit('Create');
  await page.locator('.fault').waitFor();
  await field('Code').fill('hello');
  await field('Tags').fill('news, spring');
  await submit('Create');
  await gone();
  await api('POST', '/api/links', { url: 'https://example.com/other', code: 'other' });
  await page.getByRole('rowheader', { name: 'hello' }).waitFor();
  await page.getByLabel('Find').fill('spring');
  await page.getByRole('rowheader', { name: 'other' }).waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Change hello' }).click();
  await field('Leads to').fill('https://example.com/b');
  await submit('Save');
  await gone();
  assert.deepEqual((({ url, tags, redirect }) => ({ url, tags, redirect }))(await api('GET', '/api/links/hello')), { url: 'https://example.com/b', tags: ['news', 'spring'], redirect: 302 });
  await sound('links');
  step('its QR code is shown and saved');
  await page.getByRole('button', { name: 'QR code of hello' }).click();
  const picture = page.getByRole('img', { name: /^QR code that leads to/ });
  await picture.waitFor();
  await page.waitForFunction(() => document.querySelector('.qr img').naturalWidth > 0);
  await sound('a QR code');
  for (const [name, begin] of [['SVG', '<svg'], ['PNG', '\x89PNG']]) {
    const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: `Save as ${name}` }).click()]);
    assert.equal(saved.suggestedFilename(), `hello.${name.toLowerCase()}`);
    assert(readFileSync(await saved.path(), 'latin1').startsWith(begin), name);
  }
  await page.keyboard.press('Escape');
  await gone();
  await focusOn('QR code of hello');
  await page.getByLabel('Find').fill('');
  await page.getByRole('button', { name: 'Delete other' }).click();
  await submit('Delete');
  await page.getByRole('rowheader', { name: 'other' }).waitFor({ state: 'detached' });

  step('a dead letter is seen and redriven');
  await go('topics/orders', 'orders');
  await page.getByText('Nobody is told').waitFor();
  await page.getByRole('button', { name: 'New subscription' }).click();
  await field('Name').fill('origin');
  await field('URL').fill(hook);
  await submit('Save');
  await page.locator('.fault').waitFor();
  await field('May lead to private addresses').check();
  await field('Attempts of a message').fill('1');
  await sound('a new subscription');
  await submit('Save');
  await page.getByRole('heading', { name: 'Signing secret of origin' }).waitFor();
  await page.getByText(/^whsec_/).waitFor();
  await submit('Done');
  await gone();
  await api('POST', '/api/topics/orders/messages', { order: 1 });
  await page.getByRole('heading', { name: 'Dead letters of origin' }).waitFor();
  await sound('dead letters');
  origin.takes = true;
  const reset = page.getByRole('button', { name: 'Reset breaker' });
  if (await reset.isVisible()) await reset.click();
  await page.getByRole('button', { name: 'Redrive all' }).click();
  await page.getByText('No dead letters.').waitFor();
  for (let wait = 0; !origin.taken.length && wait < 100; wait++) await new Promise((later) => setTimeout(later, 100));
  assert.deepEqual(origin.taken.map(JSON.parse), [{ order: 1 }]);

  step('a subscription is paused and resumed');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText('Paused, by hand').waitFor();
  assert.equal((await api('GET', '/api/topics/orders/subscriptions/origin')).paused, true);
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByText('Running', { exact: true }).waitFor();
  await sound('a topic');

  step('the past is replayed, and what waits is tried at once');
  await page.getByRole('button', { name: 'Replay to origin' }).click();
  await submit('Replay');
  await page.getByText('is missing: give fromSequence, or fromTime').waitFor();
  await sound('a replay');
  await field('From the sequence').fill('1');
  await submit('Replay');
  await gone();
  for (let wait = 0; origin.taken.length < 2 && wait < 100; wait++) await new Promise((later) => setTimeout(later, 100));
  assert.deepEqual(origin.taken.map(JSON.parse), [{ order: 1 }, { order: 1 }]);
  origin.takes = false;
  await page.getByRole('button', { name: 'Change origin' }).click();
  await field('Attempts of a message').fill('9');
  await submit('Save');
  await gone();
  await api('POST', '/api/topics/orders/messages', { order: 2 });
  await page.getByText('Last error:').waitFor();
  await page.getByText('the oldest since').waitFor();
  await sound('a message that waits');
  origin.takes = true;
  await page.getByRole('button', { name: 'Retry now' }).click();
  for (let wait = 0; origin.taken.length < 3 && wait < 100; wait++) await new Promise((later) => setTimeout(later, 100));
  assert.deepEqual(origin.taken.map(JSON.parse).at(-1), { order: 2 });

  step('a consumer group is made; its leases and dead letters are seen');
  await page.getByText('Nobody fetches').waitFor();
  await page.getByRole('button', { name: 'New group' }).click();
  await field('Name').fill('Not A Name');
  await field('Leases of a message').fill('1');
  await sound('a new group');
  await submit('Save');
  await page.locator('.fault').waitFor();
  await field('Name').fill('shop');
  await submit('Save');
  await gone();
  const group = page.locator('.card', { has: page.getByRole('heading', { name: 'shop', exact: true }) });
  await group.getByText('2 to fetch').waitFor();
  const { leases } = await api('POST', '/api/topics/orders/groups/shop/lease', { limit: 1, leaseSeconds: 60 });
  await group.getByText('1 leased now').waitFor();
  await api('POST', '/api/topics/orders/groups/shop/nack', { leaseIds: [leases[0].leaseId] });
  await group.getByRole('heading', { name: 'Dead letters of shop' }).waitFor();
  await sound('a group with a dead letter');
  await group.getByRole('button', { name: 'Redrive all' }).click();
  await group.getByText('No dead letters.').waitFor();
  const again = await api('POST', '/api/topics/orders/groups/shop/lease', { limit: 10 });
  await api('POST', '/api/topics/orders/groups/shop/nack', { leaseIds: again.leases.map((one) => one.leaseId) });
  await group.getByRole('button', { name: 'Delete all dead letters of shop' }).click();
  await submit('Delete');
  await group.getByText('No dead letters.').waitFor();
  await group.getByText('All fetched').waitFor();

  step('limits tell who is refused most');
  await go('limits', 'Limits');
  const refused = page.getByRole('region', { name: 'Refused most' });
  await refused.getByText('127.0.0.1').first().waitFor();
  await refused.getByText('claims-of-an-address').first().waitFor();
  await sound('who is refused most');

  step('events come as they happen');
  await go('events', 'Events');
  await page.getByText('Nothing has happened yet.').waitFor();
  await api('POST', '/api/links', { url: 'https://example.com/told', code: 'told' });
  const events = page.getByRole('region', { name: 'Events' });
  await events.getByRole('row', { name: /link\.created.*told/ }).waitFor();
  await sound('events');
  await page.getByRole('button', { name: 'Hold' }).click();
  await api('DELETE', '/api/links/told');
  await page.getByText('Held. Since then: 1.').waitFor();
  assert.equal(await events.getByText('link.deleted').count(), 0);
  await page.getByRole('button', { name: 'Go on' }).click();
  await events.getByText('link.deleted').waitFor();
  await page.getByLabel('Find').fill('created');
  await events.getByText('link.deleted').waitFor({ state: 'detached' });

  step('the remaining views');
  for (const [hash, title] of [['topics', 'Topics'], ['limits', 'Limits'], ['configuration', 'Configuration'], ['campaigns', 'Campaigns'], ['nothing', 'Not found']]) {
    await go(hash, title);
    await page.getByText('Loading …').waitFor({ state: 'detached' });
    await sound(title);
  }

  step('by keyboard: the first stop skips to the content');
  await go('', 'Overview');
  await page.reload();
  await heading('Overview').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1');

  if (SCREENSHOTS) await pictures();

  step('at 360 px nothing sticks out');
  await page.setViewportSize({ width: 360, height: 740 });
  for (const [hash, title] of [['', 'Overview'], ['campaigns', 'Campaigns'], ['campaigns/spring', 'spring'], ['links', 'Links'], ['topics', 'Topics'], ['topics/orders', 'orders'], ['limits', 'Limits'], ['events', 'Events'], ['keys', 'Keys'], ['configuration', 'Configuration']]) {
    await go(hash, title);
    await page.getByText('Loading …').waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, `${title} at 360 px`);
  }
  await page.setViewportSize({ width: 1280, height: 860 });

  step('a key is made, and shown once');
  await go('keys', 'Keys');
  await page.getByRole('button', { name: 'New key' }).click();
  await field('Name').fill('campaign desk');
  await submit('Create');
  await page.getByText('must name at least one scope').waitFor();
  await field('Campaigns').check();
  await submit('Create');
  const narrow = await page.locator('.secret code').textContent();
  assert.match(narrow, /^tg_/);
  await sound('a new key');
  await submit('Done');
  await gone();
  assert(!(await page.content()).includes(narrow));

  step('who logs out is out');
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByText('You are logged out.').waitFor();
  assert.equal(await page.evaluate(async () => (await fetch('admin/session')).status), 401);

  step('a key whose scope does not reach that far is told so');
  await logIn(narrow);
  await heading('Keys').waitFor();
  await page.getByText('Your key does not reach this far').waitFor();
  await sound('a view out of reach');
  assert.deepEqual(await page.locator('.side nav a').allTextContents(), ['Overview', 'Campaigns']);
  await page.getByRole('link', { name: 'Campaigns', exact: true }).click();
  await page.getByRole('link', { name: 'spring' }).waitFor();

  step('a key that is deleted ends its sessions');
  const [, id] = narrow.split('_');
  await api('DELETE', `/api/keys/${id}`);
  await page.getByText('Your session has ended').waitFor({ timeout: 20_000 });
  await sound('the end');
  console.log('all is well');
} catch (error) {
  const shot = process.env.FAILED_AT;
  if (shot) await page.screenshot({ path: shot }).catch(() => {});
  console.error(`--- faults so far: ${JSON.stringify(faults)}\n--- the page:\n${await page.locator('body').innerText().catch(() => '(gone)')}`);
  throw error;
} finally {
  await browser.close();
  server.close();
}

/** Pictures of every view, in both themes, narrow and wide. */
async function pictures() {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await api('POST', '/api/campaigns', { id: 'summer', quantity: 20000 });
  await api('POST', '/api/campaigns', { id: 'early-birds', quantity: 60 });
  await api('PUT', '/api/topics/orders/groups/billing', { maxAttempts: 1 });
  const { leases } = await api('POST', '/api/topics/orders/groups/billing/lease', { limit: 2 });
  await api('POST', '/api/topics/orders/groups/billing/nack', { leaseIds: [leases[0].leaseId] });
  await api('POST', '/api/campaigns', { id: 'winter', quantity: 500, startsAt: '2030-12-01T08:00:00Z' });
  for (const [code, title, tags] of [['guide', 'The guide', []], ['sale', 'Summer sale', ['campaign', 'mail']], ['jobs', 'Open positions', ['hr']]]) {
    await api('POST', '/api/links', { url: `https://example.com/${code}/a-page-with-a-rather-long-address`, code, title, tags });
  }
  for (let n = 0; n < 23; n++) await fetch(`${BASE}/sale`, { redirect: 'manual', headers: { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0' } });
  origin.takes = false;
  await api('POST', '/api/topics/orders/messages', { order: 2 });
  await api('POST', '/api/keys', { name: 'shop, production', scopes: ['links', 'campaigns'] });
  const views = [['', 'overview'], ['campaigns', 'campaigns'], ['campaigns/summer', 'campaign'], ['links', 'links'], ['topics', 'topics'], ['topics/orders', 'topic'], ['limits', 'limits'], ['events', 'events'], ['keys', 'keys'], ['configuration', 'configuration']];
  const cookies = await context.cookies();
  let claimed = 0;
  let running = true;
  const crowd = (async () => {
    while (running) {
      const some = 10 + Math.round(25 * (1 + Math.sin(claimed / 150)));
      await Promise.all(Array.from({ length: some }, (_, k) => api('POST', '/api/campaigns/summer/claims', undefined, { 'x-user-id': `s-${claimed + k}` })));
      if (claimed < 52) await api('POST', '/api/campaigns/early-birds/claims', undefined, { 'x-user-id': `e-${claimed}` }).catch(() => {});
      claimed += some;
      await new Promise((later) => setTimeout(later, 150));
    }
  })();
  const shoot = async (name, width, colorScheme) => {
    const one = await open(browser, { viewport: { width, height: width < 500 ? 780 : 860 }, colorScheme });
    await one.context.addCookies(cookies);
    await one.page.goto(`${BASE}/admin`);
    await one.page.getByText('Live', { exact: true }).waitFor();
    // The lines have something to show.
    await one.page.waitForTimeout(name ? 0 : 20_000);
    for (const [hash, file] of views) {
      await one.page.goto(`${BASE}/admin#/${hash}`);
      await one.page.waitForTimeout(1500);
      await one.page.getByText('Loading …').waitFor({ state: 'detached' });
      await one.page.screenshot({ path: `${SCREENSHOTS}/${file}-${colorScheme}-${width}.png` });
    }
    await one.page.goto(`${BASE}/admin#/links`);
    await one.page.getByRole('button', { name: 'QR code of sale' }).click();
    await one.page.getByRole('img', { name: /^QR code that leads to/ }).waitFor();
    await one.page.screenshot({ path: `${SCREENSHOTS}/qr-${colorScheme}-${width}.png` });
    await one.page.keyboard.press('Escape');
    await one.page.goto(`${BASE}/admin#/campaigns`);
    await one.page.getByRole('button', { name: 'New campaign' }).click();
    await one.page.screenshot({ path: `${SCREENSHOTS}/form-${colorScheme}-${width}.png` });
    await one.context.clearCookies();
    await one.page.goto(BASE);
    await one.page.screenshot({ path: `${SCREENSHOTS}/root-${colorScheme}-${width}.png` });
    await one.page.goto(`${BASE}/admin`);
    await one.page.getByLabel('API key').waitFor();
    await one.page.screenshot({ path: `${SCREENSHOTS}/log-in-${colorScheme}-${width}.png` });
    assert.deepEqual(one.faults, []);
    await one.context.close();
  };
  await Promise.all([[1280, 'light'], [1280, 'dark'], [360, 'light'], [360, 'dark']].map(([width, scheme]) => shoot('', width, scheme)));
  running = false;
  await crowd;
  origin.takes = true;
}
