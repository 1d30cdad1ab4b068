// The rate limits in force.
import { useLive } from './live.js';
import { Badge, Empty, Failure, Head, Loading, Table, duration, html, number, useAnswer } from './ui.js';

const WHOM = { client: 'client', ip: 'address', path: 'path' };
const per = (parts) => (parts.length ? `for each ${parts.map((part) => WHOM[part] || part).join(' and ')}` : 'for all together');

const Row = ({ limit, counts }) => html`
  <tr>
    <th scope="row">${limit.name}</th>
    <td class="long"><code>${limit.path}</code><span class="note">${limit.methods.length && !limit.methods.includes('*') ? limit.methods.join(', ') : 'every method'}</span></td>
    <td>${per(limit.per)}</td>
    <td class="wide"><strong>${number(limit.capacity)}</strong> at once, then <strong>${number(limit.refill)}</strong> every ${duration(limit.interval)}
      ${limit.cost !== 1 && html`<span class="note">a request costs ${number(limit.cost)}</span>`}</td>
    <td>${limit.shadow ? html`<${Badge} tone="warn">Shadow: refuses nobody<//>` : html`<${Badge} tone="good">In force<//>`}
      ${counts && html`<span class="note">${number(counts.refused)} ${limit.shadow ? 'would have been refused' : 'refused'}</span>`}</td>
    <td>${limit.onStoreFailure === 'deny' ? 'refuse' : 'let through'}</td>
  </tr>`;

/** What a part of what a bucket counts by begins with, and what it is. */
const KINDS = [['key:', 'API key'], ['id:', 'client'], ['ip:', 'address, without a client id,'], [' ', 'hash of a long one']];
const Part = ({ text }) => {
  if (text.startsWith('/')) return html`<span>path <code>${text}</code></span>`;
  const [start, kind] = KINDS.find(([begin]) => text.startsWith(begin)) || ['', 'address'];
  return html`<span>${kind} <code>${text.slice(start.length)}</code></span>`;
};

/** Who is refused most, as far as the bounded counts tell. */
const Most = ({ most, minutes, shadows }) => html`
  <section aria-labelledby="most">
    <h2 id="most">Refused most <small>in the last ${minutes[0]} to ${minutes[1]} minutes</small></h2>
    ${most.length === 0 && html`<p class="note">Nobody was refused.</p>`}
    ${most.length > 0 && html`
      <${Table} label="Refused most" columns=${[['Who'], ['Limit'], ['Requests', 'num']]}>
        ${most.map((one) => html`
          <tr key=${`${one.policy} ${one.who.join(' ')}`}>
            <th scope="row"><span class="parts">${one.who.length ? one.who.map((text) => html`<${Part} key=${text} text=${text} />`) : 'all together'}</span></th>
            <td>${one.policy}${shadows.has(one.policy) && html`<span class="note">in shadow: let through</span>`}</td>
            <td class="num">${one.atLeast && html`<small>at least </small>`}${number(one.refused)}</td>
          </tr>`)}
      <//>
      <p class="note">The memory of this process alone, and bounded: those who are refused often are there, the long tail is not. The access log, where it is on, has the share of refusals that sample_refusals names.</p>`}
  </section>`;

export const Limits = () => {
  const { limits } = useLive();
  const { data, problem, reload } = useAnswer('api/limits');
  return html`
    <${Head} title="Limits" />
    ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data?.limits.length === 0 && html`<${Empty} title="Nobody is limited" command=${'[[limits]]\nname = "everything"\nper = ["ip"]\ncapacity = 100\nrefill = 10\ninterval = "1s"'}>Limits stand in tollgate.toml, and are in force once it is read again:<//>`}
    ${data?.limits.length > 0 && html`
      <p class="lead">A request is charged by every limit that matches it, all or none. They stand in <code>tollgate.toml</code>.</p>
      <${Table} label="Limits" columns=${[['Name'], ['What'], ['Counted'], ['Allowed'], ['State'], ['If it cannot count']]}>
        ${data.limits.map((limit) => html`<${Row} key=${limit.name} limit=${limit} counts=${limits?.limits[limit.name]} />`)}
      <//>
      ${limits && html`<${Most} most=${limits.most} minutes=${limits.minutes} shadows=${new Set(data.limits.filter((limit) => limit.shadow).map((limit) => limit.name))} />`}`}`;
};
