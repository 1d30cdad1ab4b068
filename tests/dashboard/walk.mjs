// What a person does with the dashboard, in a real browser, on a real gateway: BASE, KEY (an admin's), CHROMIUM; SCREENSHOTS is a
// directory for pictures of every view, if they are wanted.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdirSync, readFileSync } from 'node:fs';
import { accessibility, launch, open } from './browser.mjs';

const { BASE, KEY, SCREENSHOTS } = process.env;
/** Whether pictures are of whole pages, not of what is in sight at first. */
const FULL = Boolean(process.env.WHOLE_PAGES);
const CLAIMS = 100;
const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';

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

  step('codes are imported; who finds none left waits in line');
  await go('campaigns', 'Campaigns');
  await page.getByRole('button', { name: 'New campaign' }).click();
  await field('Id').fill('coded');
  await field('Hold, seconds').fill('600');
  await field('Codes').selectOption('import');
  await field('Users may wait in line once all is taken').check();
  await submit('Create');
  await gone();
  await page.getByRole('link', { name: 'coded' }).click();
  await heading('coded').waitFor();
  await page.getByRole('button', { name: 'Import codes' }).click();
  await field('Codes').fill('bad code\nAB-1');
  await submit('Import');
  await page.locator('.fault').waitFor();
  await field('Codes').fill('AB-1\n\n AB-2 \n');
  await sound('an import of codes');
  await submit('Import');
  await gone();
  await tile('Codes left').filter({ hasText: /^2$/ }).waitFor();
  await page.getByRole('button', { name: 'Import codes' }).click();
  await field('Codes').fill('AB-2\nAB-3');
  await submit('Import');
  await page.getByText('1 are new; the pool has 3 in all. 1 were there already:').waitFor();
  await submit('Done');
  await gone();
  for (const user of ['ann', 'ben', 'cat']) await api('POST', '/api/campaigns/coded/claims', undefined, { 'x-user-id': user });
  for (const user of ['dan', 'eve']) await api('POST', '/api/campaigns/coded/waitlist', {}, { 'x-user-id': user });
  await tile('In line').filter({ hasText: /^2$/ }).waitFor();
  await tile('Codes left').filter({ hasText: /^0$/ }).waitFor();
  await page.getByText('imported, one for each claim, by chance').waitFor();
  await sound('a campaign with codes');

  step('a waiting room is made, paced, paused and removed');
  await go('rooms', 'Waiting rooms');
  await page.getByRole('button', { name: 'New waiting room' }).click();
  await field('Name').fill('Not A Name');
  await field('In front of').fill('/sale/...');
  await field('Visitors a second').fill('0.05');
  await submit('Save');
  await page.locator('.fault').waitFor();
  await field('Name').fill('sale');
  await field('What people wait for').fill('The spring sale');
  await sound('a new waiting room');
  await submit('Save');
  await gone();
  const room = (name) => page.locator('.card', { has: page.getByRole('heading', { name, exact: true }) });
  for (let n = 0; n < 5; n++) await api('POST', '/api/rooms/sale/tickets', undefined, { 'x-user-id': `guest-${n}` });
  await room('sale').locator('.figure strong').filter({ hasText: /^[345]$/ }).waitFor();
  await page.getByRole('button', { name: 'Pace of sale' }).click();
  await field('Visitors a second').fill('0.1');
  await submit('Set');
  await gone();
  assert.equal((await api('GET', '/api/rooms/sale')).perSecond, 0.1);
  await page.getByRole('button', { name: 'Pause sale' }).click();
  await room('sale').getByText('Paused', { exact: true }).waitFor();
  assert.equal((await api('GET', '/api/rooms/sale')).state, 'paused');
  await sound('waiting rooms');
  await page.getByRole('button', { name: 'Resume sale' }).click();
  await room('sale').getByText('Open', { exact: true }).waitFor();
  await room('tickets').getByText('the rest is in tollgate.toml').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Delete tickets' }).count(), 0);
  await page.getByRole('button', { name: 'Delete sale' }).click();
  await submit('Delete');
  await room('sale').waitFor({ state: 'detached' });

  step('a page that waits listens with a plain EventSource until its turn has come');
  const heard = await page.evaluate(async () => {
    const draw = async () => (await (await fetch('/api/rooms/tickets/tickets', { method: 'POST' })).json()).ticket;
    await draw();
    const listener = new EventSource(`/api/rooms/tickets/tickets/${await draw()}`);
    const told = [];
    listener.addEventListener('ticket', (event) => told.push(JSON.parse(event.data)));
    for (let wait = 0; listener.readyState !== EventSource.CLOSED && wait < 200; wait++) await new Promise((later) => setTimeout(later, 100));
    return { told, state: listener.readyState };
  });
  assert.equal(heard.state, 2, JSON.stringify(heard));
  assert.equal(heard.told[0].state, 'waiting');
  assert.equal(heard.told.at(-1).state, 'admitted');
  assert(heard.told.at(-1).token);

  step('a draw takes entries, and is drawn once one is sure');
  await go('draws', 'Draws');
  await page.getByText('No draws yet').waitFor();
  await page.getByRole('button', { name: 'New draw' }).click();
  await field('Id').fill('easter');
  await field('Picked from').fill('1-9');
  await field('Words of a pick').fill('2');
  await field('Closes').fill('2035-01-01T10:00');
  await field('Prizes').fill('[{"matches": 3, "name": "a car"}]');
  await sound('a new draw');
  await submit('Create');
  await page.locator('.fault').waitFor();
  await field('Prizes').fill('[{"matches": 2, "name": "a car", "quantity": 1}, {"matches": 1, "name": "a book"}]');
  await submit('Create');
  await gone();
  await page.getByRole('link', { name: 'easter' }).click();
  await heading('easter').waitFor();
  for (const user of ['ann', 'ben', 'cat']) await api('POST', '/api/draws/easter/entries', {}, { 'x-user-id': user });
  await tile('Entries').filter({ hasText: /^3$/ }).waitFor();
  await sound('a draw');
  await page.getByRole('button', { name: 'Draw now' }).click();
  await submit('Draw');
  await gone();
  await page.getByText('Drawn', { exact: true }).waitFor();
  const drawn = await api('GET', '/api/draws/easter');
  await page.getByText(drawn.winningWords.join(', '), { exact: true }).waitFor();
  await page.getByText(drawn.seed).waitFor();
  await sound('a draw that is drawn');

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
  // The list is drawn anew under the dialog, as a search that was just typed does it: the focus is not lost.
  await page.getByLabel('Find').evaluate((input) => ((input.value = 'news'), input.dispatchEvent(new Event('input', { bubbles: true }))));
  await page.waitForResponse((response) => response.url().includes('search=news'));
  await page.locator('main tbody tr').first().waitFor();
  for (const [name, begin] of [['SVG', '<svg'], ['PNG', '\x89PNG']]) {
    const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: `Save as ${name}` }).click()]);
    assert.equal(saved.suggestedFilename(), `hello.${name.toLowerCase()}`);
    assert(readFileSync(await saved.path(), 'latin1').startsWith(begin), name);
  }
  await page.keyboard.press('Escape');
  await gone();
  await focusOn('QR code of hello');
  step('its visits are drawn, counted and listed');
  for (let n = 0; n < 3; n++) await fetch(`${BASE}/hello`, { redirect: 'manual', headers: { 'user-agent': FIREFOX } });
  for (let wait = 0; (await api('GET', '/api/links/hello/visits')).visits.length < 3 && wait < 100; wait++) await new Promise((later) => setTimeout(later, 100));
  await page.getByRole('button', { name: 'Visits of hello' }).click();
  await page.getByRole('img', { name: /^Visits of hello by time; most: 3,/ }).waitFor();
  await page.getByRole('region', { name: 'Visits by browser' }).getByRole('row', { name: 'firefox 3' }).waitFor();
  assert.equal(await page.getByRole('region', { name: 'Newest visits' }).getByRole('row').count(), 4);
  await sound('the visits of a link');
  await page.keyboard.press('Escape');
  await gone();
  await page.getByLabel('Find').fill('');
  await page.getByRole('button', { name: 'Delete other' }).click();
  await submit('Delete');
  await page.getByRole('rowheader', { name: 'other' }).waitFor({ state: 'detached' });

  step('a topic is deleted');
  await api('POST', '/api/topics/scrap/messages', { scrap: 1 });
  await go('topics/scrap', 'scrap');
  await page.getByRole('button', { name: 'Delete topic' }).click();
  await page.getByText('Its messages go (1)').waitFor();
  await sound('the deletion of a topic');
  await submit('Delete topic');
  await page.getByRole('heading', { name: 'Topics', level: 1 }).waitFor();
  await page.getByRole('link', { name: 'scrap' }).waitFor({ state: 'detached' });

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

  step('its attempts are seen, and what a sample is answered');
  await page.getByRole('button', { name: 'Attempts of 1' }).click();
  const attempts = page.getByRole('region', { name: 'Attempts at origin' });
  await attempts.getByRole('row', { name: /204/ }).waitFor();
  await sound('attempts');
  await page.keyboard.press('Escape');
  await gone();
  await page.getByText('pauses by itself after 5 d of failure').waitFor();
  origin.takes = false;
  await page.getByRole('button', { name: 'Test origin' }).click();
  await page.getByText(/^The sample was not taken:/).waitFor();
  await sound('a sample that was not taken');
  origin.takes = true;
  await page.getByRole('button', { name: 'Test origin' }).click();
  await page.getByText('The sample was taken: 204').waitFor();
  await page.getByRole('button', { name: 'Close what came of the sample' }).click();
  origin.taken.length = 1;

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
  // What the form does not show stays as it is.
  const types = ['http.*'];
  await api('PUT', '/api/topics/orders/subscriptions/origin', { url: hook, allowPrivateAddresses: true, filter: { types }, pauseAfter: 3600 });
  await page.getByText('pauses by itself after 1 h of failure').waitFor();
  await page.getByRole('button', { name: 'Change origin' }).click();
  await field('Attempts of a message').fill('9');
  await field('Pauses itself after seconds of failure').fill('0');
  await submit('Save');
  await gone();
  await page.getByText('never pauses by itself').waitFor();
  assert.deepEqual((await api('GET', '/api/topics/orders/subscriptions/origin')).filter, { types });
  await api('POST', '/api/topics/orders/messages', { order: 2 });
  await page.getByText('Last error:').waitFor();
  await page.getByText('the oldest since').waitFor();
  await sound('a message that waits');
  origin.takes = true;
  await page.getByRole('button', { name: 'Retry now' }).click();
  for (let wait = 0; origin.taken.length < 3 && wait < 100; wait++) await new Promise((later) => setTimeout(later, 100));
  assert.deepEqual(origin.taken.map(JSON.parse).at(-1), { order: 2 });

  step('a subscription of another type is made and changed');
  await go('topics/archive', 'archive');
  await page.getByRole('button', { name: 'New subscription' }).click();
  await field('Name').fill('table');
  await field('Leads to').selectOption('Postgres');
  await field('URL').fill('postgres://shop@db.example/shop');
  await field('Password').fill('correct horse');
  await field('Statement').fill('INSERT INTO sign_ups (id) VALUES ($1)');
  await field('Parameters').fill('id, data..email');
  await submit('Save');
  await page.locator('.fault').waitFor();
  await field('Parameters').fill('id');
  await field('Messages of a batch').fill('50');
  await sound('a new subscription of Postgres');
  await submit('Save');
  await gone();
  await page.getByText('Postgres postgres://shop@db.example/shop').waitFor();
  await page.getByRole('button', { name: 'Change table' }).click();
  assert.equal(await field('Statement').inputValue(), 'INSERT INTO sign_ups (id) VALUES ($1)');
  await field('Parameters').fill('data.id');
  await submit('Save');
  await gone();
  const table = await api('GET', '/api/topics/archive/subscriptions/table');
  assert.deepEqual([table.type, table.statement, table.parameters, table.batch, table.password], ['postgres', 'INSERT INTO sign_ups (id) VALUES ($1)', ['data.id'], 50, '********']);
  for (const [type, kind, url] of [['Kafka', 'kafka', 'kafka://shop@kafka.example/sign-ups'], ['Object storage (S3)', 's3', 'https://AKIA@s3.example/bucket']]) {
    await page.getByRole('button', { name: 'New subscription' }).click();
    await field('Name').fill(kind);
    await field('Leads to').selectOption(type);
    await field('URL').fill(url);
    await field('Password').fill('correct horse');
    if (kind === 'kafka') await field('How the user logs in').selectOption('PLAIN');
    else await field('Region').fill('eu-central-1');
    await submit('Save');
    await gone();
    await page.getByText(`${type} ${url}`).waitFor();
  }
  assert.equal((await api('GET', '/api/topics/archive/subscriptions/kafka')).mechanism, 'PLAIN');
  assert.equal((await api('GET', '/api/topics/archive/subscriptions/s3')).region, 'eu-central-1');
  await sound('subscriptions of other types');
  for (const name of ['table', 'kafka', 's3']) await api('DELETE', `/api/topics/archive/subscriptions/${name}`);
  await go('topics/orders', 'orders');

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

  step('quotas and requests at once are there; a client is looked up, granted more, and filled again');
  const tried = [];
  for (let n = 0; n < 3; n++) tried.push((await fetch(`${BASE}/tried`)).status);
  assert.deepEqual(tried, [404, 404, 429]);
  const quota = page.getByRole('region', { name: 'Every quota' }).getByRole('row', { name: /trials-of-a-day/ });
  await quota.getByText('Europe/Berlin').waitFor();
  await quota.getByRole('cell', { name: '1', exact: true }).waitFor();
  await page.getByRole('region', { name: 'Every bound on requests at once' }).getByRole('row', { name: /reports/ }).waitFor();
  await page.getByLabel('Client', { exact: true }).fill('ip:127.0.0.1');
  await page.getByRole('button', { name: 'Look up', exact: true }).click();
  await page.getByRole('region', { name: 'Quotas of ip:127.0.0.1' }).getByText('2 of 2').waitFor();
  await sound('a client');
  await page.getByRole('button', { name: 'Fill again ip:127.0.0.1' }).click();
  await page.getByRole('region', { name: 'Quotas of ip:127.0.0.1' }).getByText('0 of 2').waitFor();
  assert.equal((await fetch(`${BASE}/tried`)).status, 404);

  step('an access list turns somebody away, and is removed');
  await page.getByRole('button', { name: 'New access list' }).click();
  await field('Name').fill('harvesters');
  await field('Networks').fill('nowhere');
  await submit('Save');
  await page.locator('.fault').waitFor();
  await field('Networks').fill('203.0.113.0/24, 198.51.100.7');
  await sound('a new access list');
  await submit('Save');
  await gone();
  await page.getByRole('region', { name: 'Every access list' }).getByRole('row', { name: /harvesters.*203\.0\.113\.0\/24.*Turned away/ }).waitFor();
  await page.getByRole('button', { name: 'Delete harvesters' }).click();
  await submit('Delete');
  await page.getByText('Nobody is turned away, and nobody goes uncharged.').waitFor();

  step('origins tell their health, breaker and cache');
  for (let n = 0; n < 6; n++) await fetch(`${BASE}/shop/${n}`);
  await go('origins', 'Origins');
  await page.getByRole('heading', { name: 'shop' }).waitFor();
  await page.getByText('1 of 2 down').waitFor();
  const addresses = page.getByRole('region', { name: 'Addresses of shop' });
  await addresses.getByText('Checks fail').waitFor();
  await addresses.getByText('Checks pass').waitFor();
  await tile('Answered').waitFor();
  await sound('origins');

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
  for (const [hash, title] of [['', 'Overview'], ['campaigns', 'Campaigns'], ['campaigns/spring', 'spring'], ['campaigns/coded', 'coded'], ['rooms', 'Waiting rooms'], ['draws', 'Draws'], ['draws/easter', 'easter'], ['links', 'Links'], ['topics', 'Topics'], ['topics/orders', 'orders'], ['limits', 'Limits'], ['origins', 'Origins'], ['events', 'Events'], ['keys', 'Keys'], ['configuration', 'Configuration']]) {
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
  assert.deepEqual(await page.locator('.side nav a').allTextContents(), ['Overview', 'Campaigns', 'Waiting rooms', 'Draws']);
  await page.getByRole('link', { name: 'Campaigns', exact: true }).click();
  await page.getByRole('link', { name: 'spring' }).waitFor();
  // What it may not see is asked for nowhere: neither a broken panel, nor a refusal.
  for (const [hash, title] of [['', 'Overview'], ['rooms', 'Waiting rooms'], ['draws', 'Draws'], ['campaigns/coded', 'coded']]) {
    await go(hash, title);
    await page.getByText('Loading …').waitFor({ state: 'detached' });
    assert.equal(await page.locator('.notice.bad').count(), 0, title);
  }

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
  for (let n = 0; n < 23; n++) await fetch(`${BASE}/sale`, { redirect: 'manual', headers: { 'user-agent': FIREFOX } });
  await api('PUT', '/api/rooms/sale', { path: '/sale/...', admitPerSecond: 3, title: 'The spring sale' });
  await api('PUT', '/api/rooms/concert', { path: '/concert/...', admitPerSecond: 50, opens: '2035-06-01T08:00:00Z', capacity: 2000 });
  for (let n = 0; n < 400; n += 20) await Promise.all(Array.from({ length: 20 }, (_, k) => api('POST', `/api/rooms/${(n + k) % 4 ? 'sale' : 'concert'}/tickets`, undefined, { 'x-user-id': `guest-${n + k}` })));
  await api('POST', '/api/draws', { id: 'new-year', pick: 6, pool: { from: 1, to: 49 }, closesAt: '2035-01-01T00:00:00Z', prizes: [{ matches: 6, name: 'a car', quantity: 1 }], beaconSource: 'The DAX’s closing value of 30 December 2034' });
  for (let n = 0; n < 40; n++) await api('POST', '/api/draws/new-year/entries', {}, { 'x-user-id': `guest-${n}` });
  await api('PUT', '/api/access/harvesters', { action: 'deny', cidrs: ['203.0.113.0/24'], clients: ['id:harvester'] });
  origin.takes = false;
  await api('POST', '/api/topics/orders/messages', { order: 2 });
  await api('POST', '/api/keys', { name: 'shop, production', scopes: ['links', 'campaigns'] });
  const views = [['', 'overview'], ['campaigns', 'campaigns'], ['campaigns/summer', 'campaign'], ['campaigns/coded', 'codes'], ['rooms', 'rooms'], ['draws', 'draws'], ['draws/easter', 'draw'], ['links', 'links'], ['topics', 'topics'], ['topics/orders', 'topic'], ['limits', 'limits'], ['origins', 'origins'], ['events', 'events'], ['keys', 'keys'], ['configuration', 'configuration']];
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
      // The lines of rooms are drawn by what their view has asked for.
      await one.page.waitForTimeout(file === 'rooms' ? 7000 : 1500);
      await one.page.getByText('Loading …').waitFor({ state: 'detached' });
      await one.page.screenshot({ path: `${SCREENSHOTS}/${file}-${colorScheme}-${width}.png`, fullPage: FULL });
    }
    await one.page.goto(`${BASE}/admin#/links`);
    await one.page.getByRole('button', { name: 'QR code of sale' }).click();
    await one.page.getByRole('img', { name: /^QR code that leads to/ }).waitFor();
    await one.page.screenshot({ path: `${SCREENSHOTS}/qr-${colorScheme}-${width}.png` });
    await one.page.keyboard.press('Escape');
    await one.page.getByRole('button', { name: 'Visits of sale' }).click();
    await one.page.getByRole('img', { name: /^Visits of sale by time/ }).waitFor();
    await one.page.screenshot({ path: `${SCREENSHOTS}/visits-${colorScheme}-${width}.png` });
    await one.page.keyboard.press('Escape');
    await one.page.goto(`${BASE}/admin#/topics/orders`);
    await one.page.getByRole('button', { name: /^Attempts of/ }).first().click();
    await one.page.getByRole('dialog').getByRole('heading', { name: 'origin' }).waitFor();
    await one.page.screenshot({ path: `${SCREENSHOTS}/attempts-${colorScheme}-${width}.png` });
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
