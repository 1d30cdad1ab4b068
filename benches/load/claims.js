// The usual stack for claims: node's HTTP server in front of Redis. Arguments: port, port of Redis, script.
const fs = require('fs');
const http = require('http');
const Redis = require('ioredis');

const [port, redisPort, script] = process.argv.slice(2);
const redis = new Redis(Number(redisPort), '127.0.0.1', { enableAutoPipelining: true });
redis.defineCommand('claim', { numberOfKeys: 3, lua: fs.readFileSync(script, 'utf8') });

function answer(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}

http.createServer((request, response) => {
  const user = request.headers['x-user-id'];
  if (!user) return answer(response, 401, { title: 'user-required' });
  redis.claim('claimed', 'stock', 'claims', user).then(
    (id) => {
      if (id === 'already-claimed') return answer(response, 409, { title: id });
      if (id === 'sold-out') return answer(response, 410, { title: id });
      answer(response, 201, { outcome: 'admitted', claim: { id, campaign: 'spring', user } });
    },
    () => answer(response, 503, { title: 'unavailable' }),
  );
}).listen(Number(port), '127.0.0.1');
