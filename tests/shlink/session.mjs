// A whole session of Shlink's own client on a real gateway: BASE, KEY (an admin's). Says which steps it took.
import assert from 'node:assert/strict';
import { ShlinkApiClient } from '@shlinkio/shlink-js-sdk';
import { FetchHttpClient } from '@shlinkio/shlink-js-sdk/fetch';
import { NodeHttpClient } from '@shlinkio/shlink-js-sdk/node';

const { BASE, KEY } = process.env;
const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';
const BOT = 'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)';
const client = new ShlinkApiClient(new NodeHttpClient(), { baseUrl: BASE, apiKey: KEY });
const stranger = new ShlinkApiClient(new FetchHttpClient(), { baseUrl: BASE, apiKey: 'nobody' });
const step = (text) => console.log(`· ${text}`);

/** What a call is refused with. */
const refused = async (promise) => {
  const problem = await promise.then(() => assert.fail('it was not refused'), (problem) => problem);
  assert.equal(typeof problem.title, 'string');
  return problem.type.replace('https://shlink.io/api/error/', '');
};
const come = (path, agent) => fetch(BASE + path, { redirect: 'manual', headers: { 'user-agent': agent } });
/** Asks until it is so: visits are told a moment later. */
const until = async (what, look) => {
  for (let tries = 0; tries < 100; tries += 1) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
  return assert.fail(what);
};

step('the first screens of the web client');
assert.equal((await client.health()).status, 'pass');
assert.equal(await refused(client.mercureInfo()), 'mercure-not-configured');
assert.equal((await client.listDomains()).data[0].isDefault, true);
assert(Array.isArray((await client.listTags()).data));
const first = await client.listShortUrls({ itemsPerPage: 5, orderBy: { field: 'dateCreated', dir: 'DESC' } });
assert(first.data.length <= 5);
const before = await client.getVisitsOverview();

step('short URLs are made, found, listed');
const word = `t${process.pid}`;
const made = await client.createShortUrl({
  longUrl: 'https://example.com/spring', customSlug: `spring-${word}`, tags: [word, 'sale'], title: 'Spring', maxVisits: 100,
  validUntil: '2099-01-01T00:00:00+01:00', findIfExists: false, crawlable: true, forwardQuery: true,
});
assert.equal(made.shortUrl.endsWith(`/spring-${word}`), true);
assert.deepEqual(made.visitsSummary, { total: 0, nonBots: 0, bots: 0 });
const { shortCode } = made;
assert.deepEqual(await client.getShortUrl({ shortCode }), made);
for (let n = 0; n < 6; n += 1) await client.createShortUrl({ longUrl: `https://example.com/${word}/${n}`, tags: [word], shortCodeLength: 9 });
const found = await client.createShortUrl({ longUrl: `https://example.com/${word}/3`, findIfExists: true });
assert.equal(found.shortCode.length, 9);
const listed = await client.listShortUrls({ tags: [word], itemsPerPage: 3, page: '2', orderBy: { field: 'longUrl', dir: 'ASC' } });
assert.deepEqual([listed.data.length, listed.pagination.totalItems, listed.pagination.pagesCount], [3, 7, 3]);
assert.equal((await client.listShortUrls({ searchTerm: `spring-${word}` })).data[0].shortCode, shortCode);
assert.equal((await client.listShortUrls({ tags: [word, 'sale'], tagsMode: 'all' })).pagination.totalItems, 1);

step('what breaks a rule is told');
assert.equal(await refused(client.createShortUrl({ longUrl: 'https://example.com', customSlug: shortCode })), 'non-unique-slug');
assert.equal(await refused(client.createShortUrl({ longUrl: 'no address' })), 'invalid-data');
assert.equal(await refused(client.getShortUrl({ shortCode: `none-${word}` })), 'short-url-not-found');
assert.equal(await refused(stranger.listShortUrls()), 'invalid-api-key');

step('a short URL is changed, and leads by rules');
const changed = await client.updateShortUrl({ shortCode }, { title: null, maxVisits: null, longUrl: 'https://example.com/changed' });
assert.deepEqual([changed.title, changed.meta.maxVisits, changed.longUrl], [null, null, 'https://example.com/changed']);
const conditions = [{ type: 'device', matchKey: null, matchValue: 'ios' }];
const rules = await client.setShortUrlRedirectRules({ shortCode }, { redirectRules: [{ longUrl: 'https://example.com/ios', conditions }] });
assert.deepEqual(rules.redirectRules, [{ longUrl: 'https://example.com/ios', priority: 1, conditions }]);
assert.deepEqual(await client.getShortUrlRedirectRules({ shortCode }), rules);
assert.equal((await client.getShortUrl({ shortCode })).hasRedirectRules, true);

step('visits are told one by one, and counted');
for (const agent of [FIREFOX, FIREFOX, BOT]) assert.equal((await come(`/${shortCode}`, agent)).status, 302);
assert.equal((await come(`/lost-${word}`, FIREFOX)).status, 404);
const visits = await until('three visits', async () => {
  const { data } = await client.getShortUrlVisits({ shortCode }, { page: 1, itemsPerPage: 5000 });
  return data.length === 3 && data;
});
assert.deepEqual(visits.map((visit) => visit.potentialBot).sort(), [false, false, true]);
assert.equal(visits[0].redirectUrl, 'https://example.com/changed');
assert.equal((await client.getShortUrlVisits({ shortCode }, { excludeBots: true })).pagination.totalItems, 2);
assert.equal((await client.getTagVisits(word)).pagination.totalItems, 3);
assert.equal((await client.getNonOrphanVisits({ itemsPerPage: 10 })).data.length > 0, true);
const domain = (await client.listDomains()).data[0].domain;
assert.equal((await client.getDomainVisits(domain)).pagination.totalItems >= 3, true);
await until('the lost visit', async () => (await client.getOrphanVisits({ itemsPerPage: 5000 })).data.some((visit) => visit.visitedUrl.endsWith(`/lost-${word}`)));
const after = await client.getVisitsOverview();
assert.equal(after.nonOrphanVisits.total >= before.nonOrphanVisits.total + 3, true);
assert.equal((await client.getShortUrl({ shortCode })).visitsSummary.bots, 1);

step('tags are counted, renamed, removed');
const stats = (await client.tagsStats()).data.find(({ tag }) => tag === word);
assert.deepEqual([stats.shortUrlsCount, stats.visitsSummary.total], [7, 3]);
await client.editTag({ oldName: word, newName: `${word}-new` });
assert.equal((await client.listShortUrls({ tags: [`${word}-new`] })).pagination.totalItems, 7);
assert.equal(await refused(client.editTag({ oldName: word, newName: 'other' })), 'tag-not-found');
await client.deleteTags([`${word}-new`]);
assert.equal((await client.listTags()).data.includes(`${word}-new`), false);

step('visits are forgotten, and the short URL removed');
assert.equal((await client.deleteShortUrlVisits({ shortCode })).deletedVisits, 3);
assert.equal((await client.getShortUrlVisits({ shortCode })).pagination.totalItems, 0);
assert.equal((await client.deleteOrphanVisits()).deletedVisits >= 1, true);
await client.deleteShortUrl({ shortCode });
assert.equal(await refused(client.getShortUrl({ shortCode })), 'short-url-not-found');
console.log('the session is over');
