// What people build first: node's HTTP server in front of Postgres, with a row that is locked. Arguments: port, directory of Postgres'
// socket, schema.
const http = require('http');
const { Pool } = require('pg');

const [port, host, schema] = process.argv.slice(2);
const pool = new Pool({ host, user: 'postgres', database: 'postgres', options: `-c search_path=${schema}`, max: 32 });

function answer(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}

async function claim(client, user) {
  await client.query('BEGIN');
  const found = await client.query({ name: 'lock', text: 'SELECT left_over FROM campaigns WHERE id = $1 FOR UPDATE', values: ['spring'] });
  if (found.rows[0].left_over < 1) return { status: 410, body: { title: 'sold-out' } };
  const made = await client.query({
    name: 'claim',
    text: 'INSERT INTO claims (campaign, member) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id',
    values: ['spring', user],
  });
  if (made.rowCount === 0) return { status: 409, body: { title: 'already-claimed' } };
  const id = made.rows[0].id;
  await client.query({ name: 'take', text: 'UPDATE campaigns SET left_over = left_over - 1 WHERE id = $1', values: ['spring'] });
  await client.query({ name: 'queue', text: 'INSERT INTO outbox (body) VALUES ($1)', values: [{ claim: id, user }] });
  return { status: 201, body: { outcome: 'admitted', claim: { id, campaign: 'spring', user } } };
}

async function start() {
  await pool.query('CREATE TABLE campaigns (id text PRIMARY KEY, left_over bigint NOT NULL)');
  await pool.query('CREATE TABLE claims (id bigserial PRIMARY KEY, campaign text, member text, at timestamptz DEFAULT now(), UNIQUE (campaign, member))');
  await pool.query('CREATE TABLE outbox (id bigserial PRIMARY KEY, body jsonb NOT NULL)');
  await pool.query("INSERT INTO campaigns VALUES ('spring', 1000000000)");
  http.createServer(async (request, response) => {
    const user = request.headers['x-user-id'];
    if (!user) return answer(response, 401, { title: 'user-required' });
    const client = await pool.connect();
    try {
      const { status, body } = await claim(client, user);
      await client.query(status === 201 ? 'COMMIT' : 'ROLLBACK');
      answer(response, status, body);
    } catch {
      await client.query('ROLLBACK').catch(() => {});
      answer(response, 503, { title: 'unavailable' });
    } finally {
      client.release();
    }
  }).listen(Number(port), '127.0.0.1');
}

start();
