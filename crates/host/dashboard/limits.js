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

export const Limits = () => {
  const { limits } = useLive();
  const { data, problem, reload } = useAnswer('api/limits');
  return html`
    <${Head} title="Limits" />
    ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data?.limits.length === 0 && html`<${Empty} title="Nobody is limited" command=${'[[limits]]\nname = "everything"\nper = ["ip"]\ncapacity = 100\nrefill = 10\ninterval = "1s"'}>Limits stand in tollgate.toml, and are in force from the next start on:<//>`}
    ${data?.limits.length > 0 && html`
      <p class="lead">A request is charged by every limit that matches it, all or none. They stand in <code>tollgate.toml</code>.</p>
      <${Table} label="Limits" columns=${[['Name'], ['What'], ['Counted'], ['Allowed'], ['State'], ['If it cannot count']]}>
        ${data.limits.map((limit) => html`<${Row} key=${limit.name} limit=${limit} counts=${limits?.[limit.name]} />`)}
      <//>`}`;
};
