// API keys: made (and shown once), listed, removed.
import { useState } from './hooks.js';
import { call, segment } from './api.js';
import { Badge, Confirm, Copy, Dialog, Empty, Failure, Form, Head, Loading, Pager, Table, Time, curl, html, usePages, useSession } from './ui.js';

const SCOPES = [
  ['links', 'Links: its own'],
  ['campaigns', 'Campaigns'],
  ['topics', 'Topics and subscriptions'],
  ['metrics', 'Metrics, to read them'],
  ['limits', 'Limits and access lists'],
  ['admin', 'Everything, keys too'],
];
const FIELDS = [
  { name: 'name', label: 'Name', required: true, max: 100, placeholder: 'shop, production' },
  ...SCOPES.map(([name, label]) => ({ name, label, kind: 'flag', pointer: name === 'links' ? '#/scopes' : `#/scopes/${name}` })),
  { name: 'expiresAt', label: 'Ends', kind: 'time', hint: 'In your time zone. Without it, it works until it is deleted.' },
];

const Create = ({ close }) => {
  const { announce } = useSession();
  const [made, setMade] = useState(null);
  const submit = async ({ name, expiresAt, ...flags }) => {
    const scopes = SCOPES.map(([scope]) => scope).filter((scope) => flags[scope]);
    setMade(await call('POST', 'api/keys', { name, scopes, ...(expiresAt ? { expiresAt } : {}) }));
    announce('The key was created. It is shown once.');
  };
  if (made) {
    return html`
      <${Dialog} title="The key ${made.name}" close=${() => close(true)}>
        <div class="text"><p>Keep it now: it is stored as a hash and never shown again.</p><p class="secret"><code>${made.key}</code> <${Copy} text=${made.key} /></p></div>
        <footer><button type="button" class="primary" onClick=${() => close(true)}>Done</button></footer>
      <//>`;
  }
  return html`<${Dialog} title="New key" close=${() => close(false)}><${Form} fields=${FIELDS} action="Create" submit=${submit} close=${() => close(false)} /><//>`;
};

export const Keys = () => {
  const { key } = useSession();
  const pages = usePages('api/keys?limit=100', 'keys');
  const [dialog, setDialog] = useState(null);
  const close = (changed) => {
    setDialog(null);
    if (changed) pages.reload();
  };
  const { items } = pages;
  return html`
    <${Head} title="Keys"><button type="button" class="primary" onClick=${() => setDialog(['create'])}>New key</button><//>
    ${dialog?.[0] === 'create' && html`<${Create} close=${close} />`}
    ${dialog?.[0] === 'delete' && html`
      <${Confirm} title="Delete ${dialog[1].name}?" action="Delete" done="The key ${dialog[1].name} was deleted."
        act=${() => call('DELETE', `api/keys/${segment(dialog[1].id)}`)} close=${close}>
        <p>Whoever uses it is refused from now on.${dialog[1].id === key.id ? ' It is the key that you are logged in with: you will be logged out.' : ''}</p>
      <//>`}
    ${pages.problem && html`<${Failure} problem=${pages.problem} again=${pages.reload} />`}
    ${!items && !pages.problem && html`<${Loading} />`}
    ${items?.length === 0 && html`<${Empty} title="No keys" command=${curl('POST', '/api/keys', { name: 'shop', scopes: ['links'] })}>Every program that uses the API gets a key of its own, with no more scopes than it needs.<//>`}
    ${items?.length > 0 && html`
      <${Table} label="API keys" columns=${[['Name'], ['Scopes'], ['Created'], ['Ends'], ['Actions']]}>
        ${items.map((one) => html`
          <tr key=${one.id}>
            <th scope="row">${one.name}<span class="note">${one.id}${one.id === key.id ? ' · yours' : ''}</span></th>
            <td><span class="badges">${one.scopes.map((scope) => html`<${Badge} tone=${scope === 'admin' ? 'warn' : 'quiet'}>${scope}<//>`)}</span></td>
            <td><${Time} at=${one.createdAt} /></td>
            <td><${Time} at=${one.expiresAt} none="never" /></td>
            <td class="buttons"><button type="button" class="small danger" aria-label="Delete ${one.name}" onClick=${() => setDialog(['delete', one])}>Delete</button></td>
          </tr>`)}
      <//>`}
    <${Pager} pages=${pages} />`;
};
