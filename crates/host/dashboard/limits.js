// The limits in force: rates, quotas, requests at once, access lists; whom they refuse, and what a client has left.
import { useState } from './hooks.js';
import { useLive } from './live.js';
import { segment } from './api.js';
import { Access, Client, Overrides } from './clients.js';
import { Badge, Empty, Failure, Head, Loading, Table, duration, html, number, useAnswer } from './ui.js';

const WHOM = { client: 'client', ip: 'address', path: 'path', user: 'user' };
const whom = (part) => WHOM[part] || (part.startsWith('header:') ? part.slice('header:'.length) : part);
const per = (parts) => (parts.length ? `for each ${parts.map(whom).join(' and ')}` : 'for all together');
const methods = (limit) => (limit.methods.length && !limit.methods.includes('*') ? limit.methods.join(', ') : 'every method');

/** What a limit is about: a path, or the descriptors of others. */
const What = ({ limit }) =>
  limit.domain
    ? html`<td class="long">descriptors of <code>${limit.domain}</code><span class="note">${limit.descriptor.map(({ key, value }) => (value == null ? key : `${key} = ${value}`)).join(', ')}</span></td>`
    : html`<td class="long"><code>${limit.path}</code><span class="note">${methods(limit)}</span></td>`;

const Row = ({ limit, counts }) => html`
  <tr>
    <th scope="row">${limit.name}</th>
    <${What} limit=${limit} />
    <td>${limit.domain ? 'for each descriptor' : per(limit.per)}</td>
    <td class="wide"><strong>${number(limit.capacity)}</strong> at once, then <strong>${number(limit.refill)}</strong> every ${duration(limit.interval)}
      ${limit.cost !== 1 && html`<span class="note">a request costs ${number(limit.cost)}</span>`}</td>
    <td>${limit.shadow ? html`<${Badge} tone="warn">Shadow: refuses nobody<//>` : html`<${Badge} tone="good">In force<//>`}
      ${counts && html`<span class="note">${number(counts.refused)} ${limit.shadow ? 'would have been refused' : 'refused'}</span>`}</td>
    <td>${limit.onStoreFailure === 'deny' ? 'refuse' : 'let through'}</td>
  </tr>`;

const COUNTS = { admitted: 'what is let through' };

const Quotas = ({ quotas, counts }) => html`
  <section aria-labelledby="quotas">
    <h2 id="quotas">Quotas</h2>
    <${Table} label="Every quota" columns=${[['Name'], ['What'], ['Counted'], ['Allowed'], ['Refused', 'num']]}>
      ${quotas.map((quota) => html`
        <tr key=${quota.name}>
          <th scope="row">${quota.name}</th>
          <td class="long"><code>${quota.path}</code><span class="note">${methods(quota)}</span></td>
          <td>${per(quota.per)}<span class="note">${COUNTS[quota.count] || `answers with ${quota.count.slice('status:'.length)}`}</span></td>
          <td><strong>${number(quota.limit)}</strong> each ${quota.window}<span class="note">${quota.timezone}</span></td>
          <td class="num">${counts?.[quota.name] ? number(counts[quota.name].refused) : '–'}</td>
        </tr>`)}
    <//>
  </section>`;

const Concurrency = ({ limits, counts }) => html`
  <section aria-labelledby="at-once">
    <h2 id="at-once">Requests at once</h2>
    <${Table} label="Every bound on requests at once" columns=${[['Name'], ['What'], ['Counted'], ['Allowed', 'num'], ['Under way', 'num'], ['Refused', 'num']]}>
      ${limits.map((limit) => html`
        <tr key=${limit.name}>
          <th scope="row">${limit.name}</th>
          <td class="long"><code>${limit.path}</code><span class="note">${methods(limit)}</span></td>
          <td>${per(limit.per)}</td>
          <td class="num">${number(limit.max)}</td>
          <td class="num">${counts?.[limit.name] ? number(counts[limit.name].underWay) : '–'}</td>
          <td class="num">${counts?.[limit.name] ? number(counts[limit.name].refused) : '–'}<span class="note">with ${limit.status}</span></td>
        </tr>`)}
    <//>
  </section>`;

/** What a part of what a bucket counts by begins with, and what it is. */
const KINDS = [['key:', 'API key'], ['id:', 'client'], ['ip:', 'address, without a client id,'], [' ', 'hash of a long one']];
const Part = ({ text }) => {
  if (text.startsWith('/')) return html`<span>path <code>${text}</code></span>`;
  const [start, kind] = KINDS.find(([begin]) => text.startsWith(begin)) || ['', 'address'];
  return html`<span>${kind} <code>${text.slice(start.length)}</code></span>`;
};

/** The client among the parts that a bucket counts by, if there is one. */
const clientOf = (who) => who.find((text) => /^(key|id|ip):/.test(text));

/** Who is refused most, as far as the bounded counts tell. */
const Most = ({ most, minutes, shadows, look }) => {
  const some = most.some((one) => clientOf(one.who));
  return html`
    <section aria-labelledby="most">
      <h2 id="most">Refused most <small>in the last ${minutes[0]} to ${minutes[1]} minutes</small></h2>
      ${most.length === 0 && html`<p class="note">Nobody was refused.</p>`}
      ${most.length > 0 && html`
        <${Table} label="Refused most" columns=${[['Who'], ['Limit'], ['Requests', 'num'], ...(some ? [['Actions']] : [])]}>
          ${most.map((one) => {
            const client = clientOf(one.who);
            return html`
              <tr key=${`${one.policy} ${one.who.join(' ')}`}>
                <th scope="row"><span class="parts">${one.who.length ? one.who.map((text) => html`<${Part} key=${text} text=${text} />`) : 'all together'}</span></th>
                <td>${one.policy}${shadows.has(one.policy) && html`<span class="note">in shadow: let through</span>`}</td>
                <td class="num">${one.atLeast && html`<small>at least </small>`}${number(one.refused)}</td>
                ${some && html`<td class="buttons">${client && html`<button type="button" class="small" aria-label="Look up ${client}" onClick=${() => look(client)}>Look up</button>`}</td>`}
              </tr>`;
          })}
        <//>
        <p class="note">The memory of this process alone, and bounded: those who are refused often are there, the long tail is not. The access log, where it is on, has the share of refusals that sample_refusals names.</p>`}
    </section>`;
};

export const Limits = () => {
  const { limits } = useLive();
  const { data, problem, reload } = useAnswer('api/limits');
  const [client, setClient] = useState('');
  const look = (name) => {
    setClient(name);
    document.getElementById('client')?.focus();
  };
  return html`
    <${Head} title="Limits" />
    ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data?.limits.length === 0 && html`<${Empty} title="No rate is limited" command=${'[[limits]]\nname = "everything"\nper = ["ip"]\ncapacity = 100\nrefill = 10\ninterval = "1s"'}>Limits stand in tollgate.toml, and are in force once it is read again:<//>`}
    ${data?.limits.length > 0 && html`
      <p class="lead">A request is charged by every limit that matches it, all or none. They stand in <code>tollgate.toml</code>.</p>
      <${Table} label="Limits" columns=${[['Name'], ['What'], ['Counted'], ['Allowed'], ['State'], ['If it fails']]}>
        ${data.limits.map((limit) => html`<${Row} key=${limit.name} limit=${limit} counts=${limits?.limits[limit.name]} />`)}
      <//>`}
    ${data?.quotas.length > 0 && html`<${Quotas} quotas=${data.quotas} counts=${limits?.limits} />`}
    ${data?.concurrency.length > 0 && html`<${Concurrency} limits=${data.concurrency} counts=${limits?.concurrency} />`}
    ${data && limits && html`<${Most} most=${limits.most} minutes=${limits.minutes} shadows=${new Set(data.limits.filter((limit) => limit.shadow).map((limit) => limit.name))} look=${look} />`}
    ${data && html`
      <${Client} name=${client} set=${setClient} limits=${data.limits} path=${client && `api/limits/clients/${segment(client)}`} />
      <${Overrides} look=${look} />
      <${Access} />`}`;
};
