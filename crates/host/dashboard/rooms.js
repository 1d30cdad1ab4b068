// Waiting rooms: who waits in front of what, and how fast they are let in.
import { useEffect, useState } from './hooks.js';
import { level, rates } from './live.js';
import { call, segment } from './api.js';
import {
  Act, Badge, Confirm, Dialog, Empty, Failure, Form, Head, Loading, Spark, Time,
  curl, decimal, duration, given, html, number, useAnswer, useSession,
} from './ui.js';

/** How often rooms are asked for while somebody looks, milliseconds. */
const AGAIN = 2000;
const STATES = { open: ['good', 'Open'], scheduled: ['quiet', 'Not open yet'], paused: ['warn', 'Paused'] };

const PACE = { label: 'Visitors a second', kind: 'number', min: 0.01, max: 10000, step: 'any', required: true };
const COMMON = [
  { name: 'path', label: 'In front of', required: true, max: 256, placeholder: '/sale/...', hint: 'A path. :name is one segment of it, ... all that follows.' },
  { ...PACE, name: 'admitPerSecond' },
  { name: 'session', label: 'Time inside, seconds', kind: 'number', min: 10, max: 86400, hint: '600 unless you say otherwise.' },
  { name: 'capacity', label: 'Inside at once, at most', kind: 'number', min: 1, max: 1e9, hint: 'Bounds the pace: no more are admitted in one session.' },
  { name: 'opens', label: 'Opens', kind: 'time', hint: 'In your time zone. Who comes before gets a place by lot. Without it, it is open at once.' },
  { name: 'title', label: 'What people wait for', max: 100, hint: 'Its page says so.' },
];
const NEW = [{ name: 'name', label: 'Name', required: true, max: 64, placeholder: 'sale', hint: 'a–z, 0–9, ., _ and -.', pointer: 'path:name' }, ...COMMON];

const Edit = ({ room, close }) => {
  const { announce } = useSession();
  const submit = async ({ name = room?.name, ...values }) => {
    await call('PUT', `api/rooms/${segment(name)}`, given(values));
    announce(`The room ${name} was saved.`);
    close(true);
  };
  return html`
    <${Dialog} title=${room ? `Change ${room.name}` : 'New waiting room'} close=${() => close(false)}>
      <${Form} fields=${room ? COMMON : NEW} initial=${room ? { ...room, admitPerSecond: room.perSecond } : {}} action="Save" submit=${submit} close=${() => close(false)} />
    <//>`;
};

const Pace = ({ room, close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    const now = await call('POST', `api/rooms/${segment(room.name)}/pace`, values);
    announce(`${room.name} admits ${decimal(now.perSecond)} a second.`);
    close(true);
  };
  const fields = [{ ...PACE, name: 'perSecond', hint: 'From now on. Everybody keeps their place.' }];
  return html`
    <${Dialog} title="Pace of ${room.name}" close=${() => close(false)}>
      <${Form} fields=${fields} initial=${room} action="Set" submit=${submit} close=${() => close(false)} />
    <//>`;
};

/** About how long somebody waits who comes now. */
const wait = (room) => duration(Math.ceil(room.waiting / room.perSecond));

const Card = ({ room, open, reload }) => {
  const [tone, text] = STATES[room.state] || ['quiet', room.state];
  const act = (verb) => () => call('POST', `api/rooms/${segment(room.name)}/${verb}`).then(reload);
  return html`
    <li class="card">
      <header><h2>${room.name}</h2><${Badge} tone=${tone}>${text}<//></header>
      <p class="long">${room.title && html`${room.title}, `}in front of <code>${room.path}</code></p>
      <p class="figure"><strong>${number(room.waiting)}</strong> waiting</p>
      <div class="row">
        <span><strong>${number(room.admitted)}</strong> admitted</span>
        <span><strong>${decimal(room.perSecond)}</strong> / s</span>
        ${room.state === 'open' && html`<span>a newcomer waits <strong>${wait(room)}</strong></span>`}
      </div>
      <${Spark} values=${rates(`room/${room.name}`)} label="Visitors who wait in ${room.name}, the last minutes; now ${number(room.waiting)}" />
      <dl class="pairs">
        <div><dt>${room.state === 'scheduled' ? 'opens' : 'open since'}</dt> <dd><${Time} at=${room.opens} /></dd></div>
        <div><dt>inside for</dt> <dd>${duration(room.session)}</dd></div>
        ${room.capacity !== null && html`<div><dt>inside at most</dt> <dd>${number(room.capacity)}</dd></div>`}
      </dl>
      <div class="actions">
        ${room.state === 'paused'
          ? html`<${Act} label="Resume" of=${room.name} act=${act('resume')} done="${room.name} goes on." />`
          : html`<${Act} label="Pause" of=${room.name} act=${act('pause')} done="${room.name} admits nobody; everybody keeps their place." />`}
        <button type="button" aria-label="Pace of ${room.name}" onClick=${() => open('pace', room)}>Pace</button>
        ${room.readOnly ? html`<span class="note">the rest is in tollgate.toml</span>` : html`
          <button type="button" aria-label="Change ${room.name}" onClick=${() => open('edit', room)}>Change</button>
          <button type="button" class="danger" aria-label="Delete ${room.name}" onClick=${() => open('delete', room)}>Delete</button>`}
      </div>
    </li>`;
};

export const Rooms = () => {
  const { data, problem, reload } = useAnswer('api/rooms', AGAIN);
  const [dialog, setDialog] = useState(null);
  useEffect(() => {
    for (const room of data?.rooms || []) level(`room/${room.name}`, room.waiting);
  }, [data]);
  const close = (changed) => {
    setDialog(null);
    if (changed) reload();
  };
  const rooms = data?.rooms;
  return html`
    <${Head} title="Waiting rooms"><button type="button" class="primary" onClick=${() => setDialog(['edit'])}>New waiting room</button><//>
    ${dialog?.[0] === 'edit' && html`<${Edit} room=${dialog[1]} close=${close} />`}
    ${dialog?.[0] === 'pace' && html`<${Pace} room=${dialog[1]} close=${close} />`}
    ${dialog?.[0] === 'delete' && html`
      <${Confirm} title="Delete ${dialog[1].name}?" action="Delete" done="The room ${dialog[1].name} is gone."
        act=${() => call('DELETE', `api/rooms/${segment(dialog[1].name)}`)} close=${close}>
        <p>What is behind it is open to everybody at once. ${number(dialog[1].waiting)} who wait lose their place.</p>
      <//>`}
    ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
    ${!rooms && !problem && html`<${Loading} />`}
    ${rooms?.length === 0 && html`<${Empty} title="Nobody waits" command=${curl('PUT', '/api/rooms/sale', { path: '/sale/...', admitPerSecond: 50 })}>A waiting room lets people in at a pace, in the order in which they came. Put one in front of a path here, or over the API:<//>`}
    ${rooms?.length > 0 && html`<ul class="cards">${rooms.map((room) => html`<${Card} key=${room.name} room=${room} open=${(kind, which) => setDialog([kind, which])} reload=${reload} />`)}</ul>`}`;
};
