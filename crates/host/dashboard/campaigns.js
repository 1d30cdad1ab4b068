// Campaigns: the list with its stock as it falls, and each by itself.
import { useState } from './hooks.js';
import { live, rate, rates, useLive } from './live.js';
import { call, query, segment } from './api.js';
import { ImportCodes } from './codes.js';
import {
  Act, Badge, Command, Confirm, Dialog, Empty, Failure, Form, Head, Loading, Pager, Spark, Stock, Tile, Time,
  changes, curl, decimal, duration, given, html, number, percent, useAnswer, usePages, useSession,
} from './ui.js';

const STATES = {
  open: ['good', 'Open'],
  scheduled: ['quiet', 'Scheduled'],
  soldOut: ['warn', 'Sold out'],
  ended: ['quiet', 'Ended'],
  closed: ['quiet', 'Closed'],
};

export const State = ({ state }) => {
  const [tone, text] = STATES[state] || ['quiet', state];
  return html`<${Badge} tone=${tone}>${text}<//>`;
};

const CODES = { none: 'none', generate: 'one is made for each claim', import: 'imported, one for each claim' };

const QUANTITY = { name: 'quantity', label: 'Units', kind: 'number', min: 1, max: 1e9, required: true };
const ENDS = { name: 'endsAt', label: 'Ends', kind: 'time', hint: 'In your time zone. Without it, it ends when it is closed.' };
const TITLE = { name: 'title', label: 'Title', max: 100, hint: 'What people call it.' };
const NEW = [
  { name: 'id', label: 'Id', required: true, max: 64, placeholder: 'spring-sale', hint: 'a–z, 0–9 and -. It stands in the address of a claim.' },
  TITLE,
  { ...QUANTITY, required: false, hint: 'Not where codes are imported: each is a unit.' },
  { name: 'perUser', label: 'Claims of one user', kind: 'number', min: 1, max: 1000, hint: '1 unless you say otherwise.' },
  { name: 'startsAt', label: 'Starts', kind: 'time', hint: 'In your time zone. Without it, it starts at once.' },
  ENDS,
  { name: 'holdSeconds', label: 'Hold, seconds', kind: 'number', min: 1, max: 2592000, hint: 'A claim is held for so long, until it is confirmed or its unit comes back. Without it, each is confirmed at once.' },
  { name: 'codes', label: 'Codes', kind: 'choice', choices: [['none', 'Without'], ['generate', 'One is made for each claim'], ['import', 'Imported, one for each claim']] },
  { name: 'waitlist', label: 'Users may wait in line once all is taken', kind: 'flag', hint: 'Takes holds: what comes back is held for the next in line.' },
  { name: 'room', label: 'Waiting room', max: 64, placeholder: 'sale', hint: 'In front of its claims.' },
  { name: 'topic', label: 'Topic', placeholder: 'coupon', hint: 'Where claims are announced.' },
];

const Create = ({ close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    const made = await call('POST', 'api/campaigns', given(values));
    announce(`Campaign ${made.id} was created.`);
    close(true);
  };
  return html`<${Dialog} title="New campaign" close=${() => close(false)}><${Form} fields=${NEW} action="Create" submit=${submit} close=${() => close(false)} /><//>`;
};

const Edit = ({ campaign, close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    const changed = changes(values, campaign);
    if (Object.keys(changed).length) await call('PATCH', `api/campaigns/${segment(campaign.id)}`, changed);
    announce(`Campaign ${campaign.id} was changed.`);
    close(true);
  };
  const fields = campaign.codes === 'import' ? [TITLE, ENDS] : [TITLE, { ...QUANTITY, hint: `Not below the ${number(campaign.admitted)} that are admitted.` }, ENDS];
  return html`<${Dialog} title="Change ${campaign.id}" close=${() => close(false)}><${Form} fields=${fields} initial=${campaign} action="Save" submit=${submit} close=${() => close(false)} /><//>`;
};

/** The newest state of a campaign: what was told, or what was asked for. */
const newest = (campaign) => live.campaigns?.campaigns.find((one) => one.id === campaign.id) || campaign;

/** Whether its units may be held, or have come back: by a hold, or by hand. */
const hasReturns = (campaign) => campaign.holdSeconds !== null || campaign.held > 0 || campaign.released > 0;

const Card = ({ campaign }) => {
  const perSecond = rate(`campaign/${campaign.id}`);
  return html`
    <li class="card">
      <header><h2><a class="link" href="#/campaigns/${segment(campaign.id)}">${campaign.id}</a></h2><${State} state=${campaign.state} /></header>
      <p class="figure"><strong>${number(campaign.remaining)}</strong> of ${number(campaign.quantity)} left</p>
      <${Stock} campaign=${campaign} />
      <div class="row">
        <span><strong>${number(campaign.admitted)}</strong> admitted</span>
        <span><strong>${decimal(perSecond)}</strong> / s</span>
      </div>
      ${campaign.waiting > 0 && html`<div class="row"><span><strong>${number(campaign.waiting)}</strong> in line</span></div>`}
      ${hasReturns(campaign) && html`
        <div class="row">
          <span><strong>${number(campaign.held)}</strong> held</span>
          <span><strong>${number(campaign.confirmed)}</strong> confirmed</span>
          <span><strong>${number(campaign.released)}</strong> came back</span>
        </div>`}
      <${Spark} values=${rates(`campaign/${campaign.id}`)} label="Claims of ${campaign.id} each second; now ${decimal(perSecond)}" />
    </li>`;
};

export const Campaigns = () => {
  useLive();
  const pages = usePages(`api/campaigns${query({ limit: 60 })}`, 'campaigns');
  const [creating, setCreating] = useState(false);
  const told = pages.page === 1 && live.campaigns;
  const campaigns = told ? mergeFirst(pages.items, told.campaigns) : pages.items;
  const done = (made) => {
    setCreating(false);
    if (made) pages.reload();
  };
  return html`
    <${Head} title="Campaigns"><button type="button" class="primary" onClick=${() => setCreating(true)}>New campaign</button><//>
    ${creating && html`<${Create} close=${done} />`}
    ${pages.problem && html`<${Failure} problem=${pages.problem} again=${pages.reload} />`}
    ${!campaigns && !pages.problem && html`<${Loading} />`}
    ${campaigns?.length === 0 && html`<${Empty} title="No campaigns yet" command=${curl('POST', '/api/campaigns', { id: 'spring', quantity: 1000 })}>A campaign admits exactly as many claims as it has units. Create one here, or over the API:<//>`}
    ${campaigns?.length > 0 && html`<ul class="cards">${campaigns.map((one) => html`<${Card} key=${one.id} campaign=${one} />`)}</ul>`}
    <${Pager} pages=${pages} />`;
};

/** What the page shows, in its newest state, and what has come since. */
const mergeFirst = (items, told) => {
  if (!items) return told.slice(0, 60);
  const known = new Set(items.map((one) => one.id));
  const last = items.at(-1)?.id;
  const come = told.filter((one) => !known.has(one.id) && (items.length < 60 || one.id < last));
  return [...items.map(newest), ...come].sort((a, b) => (a.id < b.id ? -1 : 1));
};

export const Campaign = ({ id }) => {
  useLive();
  const { data, problem, reload } = useAnswer(`api/campaigns/${segment(id)}`, 5000);
  const [open, setOpen] = useState(null);
  const close = (changed) => {
    setOpen(null);
    if (changed) reload();
  };
  if (problem && !data) return html`<${Head} title=${id} back=${['#/campaigns', 'Campaigns']} /><${Failure} problem=${problem} again=${reload} />`;
  if (!data) return html`<${Head} title=${id} back=${['#/campaigns', 'Campaigns']} /><${Loading} />`;
  const campaign = newest(data);
  const name = `campaign/${id}`;
  const imports = campaign.codes === 'import';
  return html`
    <${Head} title=${id} back=${['#/campaigns', 'Campaigns']}>
      <${State} state=${campaign.state} />
      ${campaign.codes === 'import' && html`<button type="button" onClick=${() => setOpen('codes')}>Import codes</button>`}
      <button type="button" onClick=${() => setOpen('edit')}>Change</button>
      ${campaign.state !== 'closed' && html`<button type="button" class="danger" onClick=${() => setOpen('close')}>Close</button>`}
      ${campaign.state === 'closed' && html`<${Act} label="Open again" done="Campaign ${id} is open again."
        act=${() => call('PATCH', `api/campaigns/${segment(id)}`, { state: 'open' }).then(reload)} />`}
    <//>
    ${open === 'codes' && html`<${ImportCodes} campaign=${campaign} close=${close} />`}
    ${open === 'edit' && html`<${Edit} campaign=${campaign} close=${close} />`}
    ${open === 'close' && html`
      <${Confirm} title="Close ${id}?" action="Close campaign" done="Campaign ${id} was closed."
        act=${() => call('PATCH', `api/campaigns/${segment(id)}`, { state: 'closed' })} close=${close}>
        <p>Nobody is admitted any more. It can be opened again later; its ${number(campaign.admitted)} claims stay.</p>
      <//>`}
    <dl class="tiles">
      <${Tile} name=${imports ? 'Codes left' : 'Left'} value=${number(campaign.remaining)} note="of ${number(campaign.quantity)} ${imports ? 'that were imported' : 'units'}" />
      <${Tile} name="Admitted" value=${number(campaign.admitted)} note=${percent(campaign.admitted, campaign.quantity)} />
      ${hasReturns(campaign) && html`
        <${Tile} name="Held" value=${number(campaign.held)} note="until they are confirmed, or come back" />
        <${Tile} name="Confirmed" value=${number(campaign.confirmed)} note=${percent(campaign.confirmed, campaign.quantity)} />
        <${Tile} name="Came back" value=${number(campaign.released)} note="released, expired or revoked" />`}
      ${campaign.waiting != null && html`<${Tile} name="In line" value=${number(campaign.waiting)} note="what comes back goes to them first" />`}
      ${campaign.burnt > 0 && html`<${Tile} name="Burnt" value=${number(campaign.burnt)} note="of revoked claims whose code was shown" />`}
      <${Tile} name="Claims" value=${decimal(rate(name))} unit="/ s" values=${rates(name)} />
    </dl>
    <${Stock} campaign=${campaign} />
    <section aria-labelledby="terms">
      <h2 id="terms">Terms</h2>
      <dl class="facts">
        ${campaign.title && html`<dt>Title</dt><dd>${campaign.title}</dd>`}
        <dt>Claims of one user</dt><dd>${number(campaign.perUser)}</dd>
        <dt>Starts</dt><dd><${Time} at=${campaign.startsAt} none="at once" /></dd>
        <dt>Ends</dt><dd><${Time} at=${campaign.endsAt} none="when it is closed" /></dd>
        <dt>Holds</dt><dd>${campaign.holdSeconds === null ? 'none: a claim is confirmed at once' : `${duration(campaign.holdSeconds)}, then the unit comes back`}</dd>
        <dt>Codes</dt><dd>${CODES[campaign.codes] || campaign.codes}${imports && (campaign.codeOrder === 'import' ? ', in their order' : ', by chance')}</dd>
        <dt>Waitlist</dt><dd>${campaign.waiting == null ? 'none' : 'once all is taken'}</dd>
        ${campaign.restricted && html`<dt>Who may claim</dt><dd>only some: the users of its list, or whose token says so</dd>`}
        ${campaign.room && html`<dt>Waiting room</dt><dd><a href="#/rooms">${campaign.room}</a></dd>`}
        <dt>Topic</dt><dd><a href="#/topics/${segment(campaign.topic)}">${campaign.topic}</a></dd>
        <dt>Created</dt><dd><${Time} at=${campaign.createdAt} /></dd>
      </dl>
    </section>
    <section aria-labelledby="claim"><h2 id="claim">A claim</h2><${Command} text=${curl('POST', `/api/campaigns/${id}/claims`)} /></section>`;
};
