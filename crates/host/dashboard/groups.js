// Consumer groups of a topic: programs that fetch its messages themselves.
import { useState } from './hooks.js';
import { call, segment } from './api.js';
import { AGAIN, DeadLetters } from './letters.js';
import { Badge, Confirm, Dialog, Empty, Failure, Form, curl, given, html, number, useAnswer, useSession } from './ui.js';

const NEW = [
  { name: 'name', label: 'Name', required: true, max: 64, placeholder: 'shop', hint: 'a–z, 0–9, ., _ and -.', pointer: 'path:group' },
  { name: 'startFrom', label: 'Begins with', kind: 'choice', choices: [['oldest', 'the oldest message that is kept'], ['newest', 'what comes from now on']] },
];
const COMMON = [
  { name: 'maxAttempts', label: 'Leases of a message', kind: 'number', min: 1, max: 100, hint: 'Then it is a dead letter.' },
  { name: 'ordered', label: 'In order, for each ordering key', kind: 'flag' },
];

const Edit = ({ path, group, close }) => {
  const { announce } = useSession();
  const submit = async ({ name = group?.name, ...values }) => {
    await call('PUT', `${path}/${segment(name)}`, given(values));
    announce(`The group ${name} was saved.`);
    close(true);
  };
  return html`
    <${Dialog} title=${group ? `Change ${group.name}` : 'New group'} close=${() => close(false)}>
      <${Form} fields=${group ? COMMON : [...NEW, ...COMMON]} initial=${group || { startFrom: 'oldest', maxAttempts: 10, ordered: true }} action="Save" submit=${submit} close=${() => close(false)} />
    <//>`;
};

const Group = ({ one, path, open }) => html`
  <li class="card wide">
    <header><h3>${one.name}</h3>
      <span class="badges">
        ${one.lag > 0 ? html`<${Badge}>${number(one.lag)} to fetch<//>` : html`<${Badge} tone="good">All fetched<//>`}
        ${one.ordered ? html`<${Badge}>In order<//>` : html`<${Badge}>In any order<//>`}
      </span>
    </header>
    <div class="row">
      <span><strong>${number(one.leased)}</strong> leased now</span>
      <span><strong>${number(one.waiting)}</strong> held back or given back</span>
      <span><strong>${number(one.lag)}</strong> not finished</span>
      <span>next new one <strong>${number(one.next)}</strong></span>
      <span>leases of a message: <strong>${number(one.maxAttempts)}</strong></span>
    </div>
    <div class="actions">
      <button type="button" aria-label="Change ${one.name}" onClick=${() => open('edit', one)}>Change</button>
      <button type="button" class="danger" aria-label="Delete ${one.name}" onClick=${() => open('delete', one)}>Delete</button>
    </div>
    <${DeadLetters} path="${path}/${segment(one.name)}" name=${one.name} again="to be fetched" />
  </li>`;

export const Groups = ({ topic }) => {
  const path = `api/topics/${segment(topic)}/groups`;
  const { data, problem, reload } = useAnswer(path, AGAIN);
  const [dialog, setDialog] = useState(null);
  const close = (changed) => {
    setDialog(null);
    if (changed) reload();
  };
  const groups = data?.groups;
  return html`
    <section aria-labelledby="groups">
      <div class="subhead"><h2 id="groups">Consumer groups</h2><button type="button" onClick=${() => setDialog(['edit'])}>New group</button></div>
      ${dialog?.[0] === 'edit' && html`<${Edit} path=${path} group=${dialog[1]} close=${close} />`}
      ${dialog?.[0] === 'delete' && html`
        <${Confirm} title="Delete ${dialog[1].name}?" action="Delete" done="The group ${dialog[1].name} was deleted."
          act=${() => call('DELETE', `${path}/${segment(dialog[1].name)}`)} close=${close}>
          <p>Its leases hold no more, and its dead letters go with it. ${number(dialog[1].lag)} messages were not finished.</p>
        <//>`}
      ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
      ${groups?.length === 0 && html`<${Empty} title="Nobody fetches" command=${curl('PUT', `/api/topics/${topic}/groups/shop`, { maxAttempts: 10 })}>Consumers of a group lease messages and acknowledge them, each at its own pace. Make one here, or over the API:<//>`}
      ${groups?.length > 0 && html`<ul class="stack">${groups.map((one) => html`<${Group} key=${one.name} one=${one} path=${path} open=${(kind, which) => setDialog([kind, which])} />`)}</ul>`}
    </section>`;
};
