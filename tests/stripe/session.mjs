// A webhook that Stripe's own library signs, through a route that verifies it, to an origin that verifies it again: BASE, KEY (an admin's).
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import Stripe from 'stripe';

const { BASE, KEY } = process.env;
const SECRET = 'whsec_of_the_stripe_account';
const { webhooks } = new Stripe('sk_test_nobody');
const step = (text) => console.log(`· ${text}`);

const taken = [];
const arrived = {};
arrived.promise = new Promise((resolve) => { arrived.resolve = resolve; });
const origin = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  taken.push({ headers: request.headers, body: Buffer.concat(parts) });
  response.writeHead(204).end();
  arrived.resolve();
});
await new Promise((resolve) => origin.listen(0, '127.0.0.1', resolve));

const url = `http://127.0.0.1:${origin.address().port}/stripe`;
const made = await fetch(`${BASE}/api/topics/signup/subscriptions/stripe`, {
  method: 'PUT',
  headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
  body: JSON.stringify({ url, allowPrivateAddresses: true }),
});
assert.equal(made.status, 201, await made.text());

// As Stripe writes them: over several lines, with letters that are not ASCII.
const event = { id: 'evt_1', object: 'event', type: 'charge.succeeded', data: { object: { id: 'ch_1', name: 'Zoë', amount: 1999 } } };
const payload = JSON.stringify(event, null, 2);
const signed = (more) => webhooks.generateTestHeaderString({ payload, secret: SECRET, ...more });
const send = async (body, signature) => {
  const headers = { 'content-type': 'application/json; charset=utf-8', 'stripe-signature': signature };
  const answer = await fetch(`${BASE}/hooks/stripe`, { method: 'POST', headers, body });
  return answer.status;
};

step('a false one is refused: another secret, another body, too old, none');
const now = Math.floor(Date.now() / 1000);
assert.equal(await send(payload, signed({ secret: 'whsec_of_somebody_else' })), 401);
assert.equal(await send(`${payload} `, signed()), 401);
assert.equal(await send(payload, signed({ timestamp: now - 301 })), 401);
assert.equal(await send(payload, ''), 401);

step('a genuine one is taken, and verifies at the origin');
assert.equal(await send(payload, signed()), 202);
await Promise.race([arrived.promise, new Promise((_, reject) => setTimeout(reject, 20_000, new Error('nothing came')).unref())]);
const { headers, body } = taken[0];
assert.deepEqual(webhooks.constructEvent(body, headers['stripe-signature'], SECRET), event);
assert.throws(() => webhooks.constructEvent(body, headers['stripe-signature'], 'whsec_of_somebody_else'), /signature/i);
assert.deepEqual([headers['ce-type'], headers['ce-path'], taken.length], ['stripe.event', '/hooks/stripe', 1]);

origin.close();
step('the session is over');
process.exit(0);
