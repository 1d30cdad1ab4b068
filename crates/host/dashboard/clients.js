// What clients have left, what they are granted, and who is turned away or not charged at all.
import { useEffect, useRef, useState } from './hooks.js';
import { call, query, segment } from './api.js';
import {
  Act, Badge, Confirm, Dialog, Failure, Form, Loading, Table, Time,
  duration, given, html, number, useAnswer, useSession,
} from './ui.js';

/** How often a client in sight is asked for, milliseconds. */
const AGAIN = 3000;

const Grant = ({ client, path, limits, close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    await call('PUT', path, given(values));
    announce(`${client} is granted something else under ${values.policy} now.`);
    close(true);
  };
  const fields = [
    { name: 'policy', label: 'Limit', kind: 'choice', choices: limits.map((limit) => [limit.policy, limit.policy]) },
    { name: 'capacity', label: 'Requests at once', kind: 'number', min: 1, required: true },
    { name: 'refill', label: 'Then so many', kind: 'number', min: 1, required: true },
    { name: 'interval', label: 'Every so many seconds', kind: 'number', min: 1, max: 2592000, required: true },
    { name: 'until', label: 'Until', kind: 'time', hint: 'In your time zone. Without it, until it is ended by hand.' },
  ];
  const [first] = limits;
  return html`
    <${Dialog} title="Grant something else to ${client}" close=${() => close(false)}>
      <${Form} fields=${fields} initial=${first && { ...first, policy: first.policy, interval: Math.max(1, Math.round(first.interval)) }} action="Grant" submit=${submit} close=${() => close(false)} />
    <//>`;
};

const Left = ({ data }) => html`
  ${data.limits.length > 0 && html`
    <${Table} label="What ${data.client} has left" columns=${[['Limit'], ['Left'], ['Full again in'], ['Allowed']]}>
      ${data.limits.map((limit) => html`
        <tr key=${limit.policy}>
          <th scope="row">${limit.policy}</th>
          <td>${limit.remaining === null ? 'counted by more than the client' : html`<strong>${number(limit.remaining)}</strong> of ${number(limit.capacity)}`}</td>
          <td>${limit.fullIn === null ? '–' : limit.fullIn === 0 ? 'full' : duration(limit.fullIn)}</td>
          <td>${number(limit.capacity)} at once, then ${number(limit.refill)} every ${duration(limit.interval)}${limit.override && html`<span class="note">granted to this client</span>`}</td>
        </tr>`)}
    <//>`}
  ${data.quotas.length > 0 && html`
    <${Table} label="Quotas of ${data.client}" columns=${[['Quota'], ['Used'], ['Begins anew']]}>
      ${data.quotas.map((quota) => html`
        <tr key=${quota.quota}>
          <th scope="row">${quota.quota}</th>
          <td>${quota.used === null ? 'counted by more than the client' : html`<strong>${number(quota.used)}</strong> of ${number(quota.limit)}`}</td>
          <td><${Time} at=${quota.resetsAt} /></td>
        </tr>`)}
    <//>`}
  ${!data.limits.length && !data.quotas.length && html`<p class="note">Nothing counts by such a client.</p>`}`;

/** What a client has left. `name`: the one that is looked up; `path`: of its call, or ''. */
export const Client = ({ name, set, limits, path }) => {
  const input = useRef(null);
  const { data, problem, reload } = useAnswer(path || null, AGAIN);
  const [grants, setGrants] = useState(false);
  useEffect(() => {
    input.current.value = name;
  }, [name]);
  const find = (event) => {
    event.preventDefault();
    set(input.current.value.trim());
  };
  const shown = name && data;
  return html`
    <section aria-labelledby="a-client">
      <h2 id="a-client">A client</h2>
      <form class="filters" role="search" onSubmit=${find}>
        <div class="field"><label for="client">Client</label><input id="client" ref=${input} placeholder="id:ann, key:…, ip:192.0.2.7 or user:bob" maxlength="300" autocomplete="off" spellcheck=${false} /></div>
        <div class="field end"><button type="submit">Look up</button></div>
      </form>
      ${name && problem && html`<${Failure} problem=${problem} />`}
      ${name && !data && !problem && html`<${Loading} />`}
      ${shown && html`
        <${Left} data=${shown} />
        <div class="actions">
          ${(limits.length > 0 || shown.quotas.length > 0) && html`<${Act} label="Fill again" of=${name} act=${() => call('DELETE', path).then(reload)} done="${name} begins anew, with the limits’ own terms." />`}
          ${shown.limits.length > 0 && html`<button type="button" aria-label="Grant something else to ${name}" onClick=${() => setGrants(true)}>Grant something else</button>`}
        </div>`}
      ${grants && shown && html`<${Grant} client=${name} path=${path} limits=${shown.limits} close=${(changed) => (setGrants(false), changed && reload())} />`}
    </section>`;
};

/** Clients that are granted something else than a limit's own terms. */
export const Overrides = ({ look }) => {
  const { data, problem, reload } = useAnswer('api/limits/overrides', 2 * AGAIN);
  if (problem) return html`<${Failure} problem=${problem} />`;
  if (!data?.overrides.length) return null;
  const end = (one) => () => call('DELETE', `api/limits/clients/${segment(one.client)}${query({ policy: one.policy })}`).then(reload);
  return html`
    <section aria-labelledby="overrides">
      <h2 id="overrides">Granted something else</h2>
      <${Table} label="Every grant" columns=${[['Client'], ['Limit'], ['Allowed'], ['Until'], ['Actions']]}>
        ${data.overrides.map((one) => html`
          <tr key=${`${one.client} ${one.policy}`}>
            <th scope="row" class="long">${one.client}</th>
            <td>${one.policy}</td>
            <td>${number(one.capacity)} at once, then ${number(one.refill)} every ${duration(one.interval)}</td>
            <td><${Time} at=${one.until} none="it is ended" /></td>
            <td class="buttons"><button type="button" class="small" aria-label="Look up ${one.client}" onClick=${() => look(one.client)}>Look up</button>
              <${Act} kind="small danger" label="End" of="${one.policy} of ${one.client}" act=${end(one)} done="The limit’s own terms count for ${one.client} again." /></td>
          </tr>`)}
      <//>
    </section>`;
};

const LIST = [
  { name: 'action', label: 'Who is on it', kind: 'choice', choices: [['deny', 'is turned away'], ['exempt', 'is not charged']] },
  { name: 'path', label: 'Where', placeholder: '/...', hint: 'A path; every one unless you say otherwise.' },
  { name: 'cidrs', label: 'Networks', kind: 'words', placeholder: '203.0.113.0/24', hint: 'Or addresses; separated by commas.' },
  { name: 'clients', label: 'Clients', kind: 'words', placeholder: 'id:harvester' },
  { name: 'users', label: 'Users', kind: 'words', hint: 'Where all three are empty, everybody is on it.' },
];
const NAME = { name: 'name', label: 'Name', required: true, max: 64, placeholder: 'harvesters', hint: 'a–z, 0–9, ., _ and -.', pointer: 'path:name' };

const EditList = ({ list, close }) => {
  const { announce } = useSession();
  const submit = async ({ name = list?.name, ...values }) => {
    await call('PUT', `api/access/${segment(name)}`, given(values));
    announce(`The list ${name} is in force.`);
    close(true);
  };
  return html`
    <${Dialog} title=${list ? `Change ${list.name}` : 'New access list'} close=${() => close(false)}>
      <${Form} fields=${list ? LIST : [NAME, ...LIST]} initial=${list || { action: 'deny' }} action="Save" submit=${submit} close=${() => close(false)} />
    <//>`;
};

const members = (list) => [...list.cidrs, ...list.clients, ...list.users.map((user) => `user ${user}`)].join(', ') || 'everybody';

/** Who is turned away, and who is not charged. */
export const Access = () => {
  const { data, problem, reload } = useAnswer('api/access');
  const [dialog, setDialog] = useState(null);
  const close = (changed) => {
    setDialog(null);
    if (changed) reload();
  };
  return html`
    <section aria-labelledby="access">
      <div class="subhead"><h2 id="access">Access lists</h2><button type="button" onClick=${() => setDialog(['edit'])}>New access list</button></div>
      ${dialog?.[0] === 'edit' && html`<${EditList} list=${dialog[1]} close=${close} />`}
      ${dialog?.[0] === 'delete' && html`
        <${Confirm} title="Delete ${dialog[1].name}?" action="Delete" done="The list ${dialog[1].name} is gone." act=${() => call('DELETE', `api/access/${segment(dialog[1].name)}`)} close=${close}>
          <p>${dialog[1].action === 'deny' ? 'Who is on it is no longer turned away.' : 'Who is on it is charged again.'}</p>
        <//>`}
      ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
      ${data?.access.length === 0 && html`<p class="note">Nobody is turned away, and nobody goes uncharged.</p>`}
      ${data?.access.length > 0 && html`
        <${Table} label="Every access list" columns=${[['Name'], ['Who'], ['Where'], ['What becomes of them'], ['Actions']]}>
          ${data.access.map((list) => html`
            <tr key=${list.name}>
              <th scope="row">${list.name}</th>
              <td class="long">${members(list)}</td>
              <td><code>${list.path}</code></td>
              <td><${Badge} tone=${list.action === 'deny' ? 'bad' : 'good'}>${list.action === 'deny' ? 'Turned away' : 'Not charged'}<//></td>
              <td class="buttons">${list.readOnly ? html`<span class="note">from tollgate.toml</span>` : html`
                <button type="button" class="small" aria-label="Change ${list.name}" onClick=${() => setDialog(['edit', list])}>Change</button>
                <button type="button" class="small danger" aria-label="Delete ${list.name}" onClick=${() => setDialog(['delete', list])}>Delete</button>`}</td>
            </tr>`)}
        <//>`}
    </section>`;
};
