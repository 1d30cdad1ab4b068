// The limiter and the redirect in node: rate-limiter-flexible in memory. Arguments: port, target.
const http = require('http');
const { RateLimiterMemory } = require('rate-limiter-flexible');

const [port, target] = process.argv.slice(2);
const limiter = new RateLimiterMemory({ points: 1e9, duration: 1e6 });

http.createServer((request, response) => {
  limiter.consume(request.headers['x-client-id'] ?? request.socket.remoteAddress).then(
    () => response.writeHead(302, { location: target, 'cache-control': 'private, no-store' }).end(),
    () => response.writeHead(429).end(),
  );
}).listen(Number(port), '127.0.0.1');
