// The servers that the gateway stands in front of: the [[origins]].
import { rate, rates, useLive } from './live.js';
import { Badge, Empty, Head, Loading, Table, Tile, decimal, html, number, percent } from './ui.js';

const BREAKER = { closed: ['good', 'Closed'], open: ['bad', 'Open'], 'half-open': ['warn', 'Half open'] };
/** What became of requests, besides those that were answered. */
const LOST = { failed: 'answered 500 and above', unreachable: 'not reached', timed_out: 'timed out', broken: 'broke off', refused: 'not sent', gone: 'given up by the client' };
const EXAMPLE = '[[origins]]\nname = "shop"\nurls = ["http://10.0.0.7:8080"]\n\n[[proxy]]\npath = "/shop/..."\norigin = "shop"';

const isDown = (address) => !address.healthy || address.breaker === 'open';

/** How an origin is, in a word. */
export const standing = (origin) => {
  const down = origin.addresses.filter(isDown).length;
  if (down === 0) return ['good', 'Well'];
  return down < origin.addresses.length ? ['warn', `${down} of ${origin.addresses.length} down`] : ['bad', 'Down'];
};

const Cache = ({ cache }) => {
  const kept = cache.hit + cache.revalidated + cache.stale;
  const asked = kept + cache.miss + cache.pass;
  return html`<${Tile} name="From the cache" value=${percent(kept, asked)} note="${decimal(cache.bytes / (1 << 20))} of ${decimal(cache.max / (1 << 20))} MiB, ${number(cache.stale)} out of date" />`;
};

const Origin = ({ origin }) => {
  const [tone, text] = standing(origin);
  const { outcomes } = origin;
  const total = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
  const lost = Object.entries(LOST).filter(([name]) => outcomes[name] > 0);
  const id = `origin-${origin.name}`;
  return html`
    <section aria-labelledby=${id}>
      <div class="subhead"><h2 id=${id}>${origin.name}</h2><${Badge} tone=${tone}>${text}<//></div>
      <dl class="tiles">
        <${Tile} name="Requests" value=${decimal(rate(`origin/${origin.name}`))} unit="/ s" values=${rates(`origin/${origin.name}`)} />
        <${Tile} name="Under way" value=${number(origin.underWay)} note="of ${number(origin.max)}; ${number(origin.waiting)} wait" />
        <${Tile} name="Answered" value=${percent(outcomes.answered, total)} note="${number(outcomes.answered)} of ${number(total)}" />
        ${origin.cache && html`<${Cache} cache=${origin.cache} />`}
      </dl>
      <${Table} label="Addresses of ${origin.name}" columns=${[['Address'], ['Health'], ['Breaker'], ['Under way', 'num']]}>
        ${origin.addresses.map((address) => {
          const [kind, said] = BREAKER[address.breaker] || ['quiet', address.breaker];
          return html`
            <tr key=${address.url}>
              <th scope="row" class="long">${address.url}</th>
              <td>${address.healthy ? html`<${Badge} tone="good">${origin.checked ? 'Checks pass' : 'Not checked'}<//>` : html`<${Badge} tone="bad">Checks fail<//>`}</td>
              <td><${Badge} tone=${kind}>${said}<//></td>
              <td class="num">${number(address.underWay)}</td>
            </tr>`;
        })}
      <//>
      <p class="note">Since the start of the process: ${lost.length ? lost.map(([name, said]) => `${number(outcomes[name])} ${said}`).join(', ') : 'nothing was lost'}; ${number(origin.retries)} sent again, ${number(origin.cut)} answers cut off, ${number(origin.connections)} connections opened${origin.websockets ? `, ${number(origin.websockets)} WebSockets open` : ''}.</p>
    </section>`;
};

export const Origins = () => {
  const { origins } = useLive();
  return html`
    <${Head} title="Origins" />
    ${!origins && html`<${Loading} />`}
    ${origins?.origins.length === 0 && html`<${Empty} title="The gateway is in front of nothing" command=${EXAMPLE}>Limits, rooms and a cache for a server of yours: name it in tollgate.toml, and a path that leads to it:<//>`}
    ${origins?.origins.map((origin) => html`<${Origin} key=${origin.name} origin=${origin} />`)}`;
};
