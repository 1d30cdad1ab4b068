// A whole session of Dub's own client on a real gateway: BASE, KEY (an admin's). Says which steps it took.
import assert from 'node:assert/strict';
import { Dub } from 'dub';

const { BASE, KEY } = process.env;
const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';
const PHONE = 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36';
const serverURL = `${BASE}/api/dub`;
const dub = new Dub({ token: KEY, serverURL });
const stranger = new Dub({ token: 'nobody', serverURL });
const step = (text) => console.log(`· ${text}`);

/** What a call is refused with. */
const refused = async (promise) => {
  const error = await promise.then(() => assert.fail('it was not refused'), (error) => error);
  assert.equal(typeof error.error?.message, 'string', String(error));
  return error.error.code;
};
const led = async (path, agent) => {
  const answer = await fetch(BASE + path, { redirect: 'manual', headers: { 'user-agent': agent } });
  return [answer.status, answer.headers.get('location')];
};

const word = `d${process.pid}`;
const url = `https://example.com/${word}?utm_source=page`;

step('a link is made and found by each of its names');
const made = await dub.links.create({
  url, key: `spring-${word}`, externalId: word, tagNames: [word, 'sale'], title: 'Spring', expiresAt: '2099-01-01T00:00:00.000Z',
  expiredUrl: 'https://example.com/over', utmSource: 'mail', utmCampaign: 'spring sale', android: 'https://example.com/android',
  geo: { KR: 'https://example.com/kr' },
});
assert.equal(made.shortLink.endsWith(`/spring-${word}`), true);
assert.deepEqual([made.url, made.utmSource, made.utmTerm, made.clicks, made.geo], [url, 'mail', null, 0, { KR: 'https://example.com/kr' }]);
assert.deepEqual(made.tags.map(({ name }) => name), [word, 'sale']);
for (const which of [{ linkId: made.id }, { externalId: `ext_${word}` }, { domain: made.domain, key: made.key }]) {
  assert.deepEqual(await dub.links.get(which), made);
}

step('it leads as it says');
assert.deepEqual(await led(`/${made.key}`, FIREFOX), [302, `https://example.com/${word}?utm_source=mail&utm_campaign=spring%20sale`]);
assert.deepEqual(await led(`/${made.key}`, PHONE), [302, 'https://example.com/android?utm_source=mail&utm_campaign=spring%20sale']);

step('it is changed, under another key too');
const changed = await dub.links.update(made.id, { key: `summer-${word}`, title: null, utmCampaign: null, android: null });
assert.deepEqual([changed.id, changed.key, changed.title, changed.android], [made.id, `summer-${word}`, null, null]);
assert.deepEqual(changed.geo, made.geo);
assert.deepEqual(await led(`/${changed.key}`, PHONE), [302, `https://example.com/${word}?utm_source=mail`]);
assert.equal((await led(`/${made.key}`, FIREFOX))[0], 404);
assert.equal((await dub.links.update(`ext_${word}`, { archived: true })).archived, true);
assert.equal((await led(`/${changed.key}`, FIREFOX))[1], 'https://example.com/over');
assert.equal((await dub.links.update(made.id, { archived: false })).archived, false);

step('upsert finds a link by its URL');
const upserted = await dub.links.upsert({ url, tagNames: [word] });
assert.deepEqual([upserted.id, upserted.tags.length, upserted.key], [made.id, 1, changed.key]);
const others = [];
for (let n = 0; n < 5; n += 1) others.push(await dub.links.upsert({ url: `https://example.com/${word}/${n}`, tagNames: [word], keyLength: 9 }));
assert.equal(others[0].key.length, 9);
assert.equal((await dub.links.upsert({ url: `https://example.com/${word}/3` })).id, others[3].id);
const variants = [{ url: 'https://example.com/a', percentage: 50 }, { url: 'https://example.com/b', percentage: 50 }];
assert.deepEqual((await dub.links.upsert({ url: `https://example.com/${word}/4`, testVariants: variants })).testVariants, variants);

step('links are listed by pages, and counted');
assert.equal(await dub.links.count({ tagNames: [word] }), 6);
const seen = [];
for await (const page of await dub.links.list({ tagNames: word, pageSize: 4, page: 1 })) seen.push(...page.result.map(({ id }) => id));
assert.deepEqual(seen, [...others].reverse().map(({ id }) => id).concat(made.id));
const [first] = (await dub.links.list({ search: word, startingAfter: others[2].id, pageSize: 1 })).result;
assert.equal(first.id, others[1].id);

step('what breaks a rule is told');
assert.equal(await refused(dub.links.create({ url: 'https://example.com/', key: changed.key })), 'conflict');
assert.equal(await refused(dub.links.create({ url: 'no address' })), 'unprocessable_entity');
assert.equal(await refused(dub.links.get({ externalId: `ext_none-${word}` })), 'not_found');
assert.equal(await refused(dub.links.update('link_none', { title: 'x' })), 'not_found');
assert.equal(await refused(stranger.links.list({})), 'unauthorized');

step('many are made, changed and removed at once');
const many = await dub.links.createMany([
  { url: `https://example.com/${word}/m1`, externalId: `m1-${word}` }, { url: 'no address' }, { url: 'https://example.com/', key: changed.key },
  { url: `https://example.com/${word}/m2`, externalId: `m2-${word}` },
]);
assert.deepEqual(many.map(({ code }) => code), [undefined, 'unprocessable_entity', 'conflict', undefined]);
const titled = await dub.links.updateMany({ linkIds: [many[0].id], externalIds: [`m2-${word}`], data: { title: 'Many' } });
assert.deepEqual(titled.map(({ id, title }) => [id, title]), [[many[0].id, 'Many'], [many[3].id, 'Many']]);
assert.equal(await refused(dub.links.createMany([])), 'unprocessable_entity');
assert.deepEqual(await dub.links.deleteMany({ linkIds: [many[0].id, many[3].id, 'link_none'] }), { deletedCount: 2 });
assert.equal(await refused(dub.links.get({ externalId: `ext_m1-${word}` })), 'not_found');

step('it is removed');
assert.deepEqual(await dub.links.delete(made.id), { id: made.id });
assert.equal(await refused(dub.links.get({ linkId: made.id })), 'not_found');
for (const { id } of others) await dub.links.delete(id);
assert.equal(await dub.links.count({ tagNames: word }), 0);
console.log('the session is over');
