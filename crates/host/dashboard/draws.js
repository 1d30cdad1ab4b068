// Draws: entries as they come, the outcome, and what proves it.
import { useState } from './hooks.js';
import { call, query, segment } from './api.js';
import {
  Act, Badge, Command, Confirm, Copy, Dialog, Empty, Failure, Form, Head, Loading, Pager, Table, Tile, Time,
  curl, given, html, number, useAnswer, usePages, useSession,
} from './ui.js';

/** How often a draw in sight is asked for, milliseconds. */
const AGAIN = 2000;
const STATES = {
  scheduled: ['quiet', 'Not open yet'],
  open: ['good', 'Open'],
  closed: ['warn', 'Closed'],
  drawn: ['good', 'Drawn'],
  void: ['quiet', 'Void: no entries'],
};
const State = ({ state }) => {
  const [tone, text] = STATES[state] || ['quiet', state];
  return html`<${Badge} tone=${tone}>${text}<//>`;
};

const NEW = [
  { name: 'id', label: 'Id', required: true, max: 64, placeholder: 'easter', hint: 'a–z, 0–9 and -.' },
  { name: 'pool', label: 'Picked from', required: true, placeholder: '1-49', hint: 'All numbers from one to another, or words, separated by commas.' },
  { name: 'pick', label: 'Words of a pick', kind: 'number', min: 1, max: 20, required: true },
  { name: 'prizes', label: 'Prizes', kind: 'json', placeholder: '[{"matches": 6, "name": "a car", "quantity": 1}]', hint: 'As JSON. Without a quantity, one for everybody who reaches it.' },
  { name: 'closesAt', label: 'Closes', kind: 'time', required: true, hint: 'In your time zone. It is drawn then.' },
  { name: 'opensAt', label: 'Opens', kind: 'time', hint: 'Without it, at once.' },
  { name: 'perUser', label: 'Entries of one user', kind: 'number', min: 1, max: 100, hint: '1 unless you say otherwise.' },
  { name: 'beaconSource', label: 'Public value', max: 100, placeholder: 'The DAX’s closing value of 22 April', hint: 'Of after the close, so that not even you could choose the winner. The draw then waits for it.' },
  { name: 'topic', label: 'Topic', placeholder: 'draw', hint: 'Where entries are announced.' },
];

/** `1-49` as all numbers between, anything else as words. */
const poolOf = (text) => {
  const numbers = /^\s*(\d+)\s*[-–]\s*(\d+)\s*$/.exec(text || '');
  return numbers ? { from: Number(numbers[1]), to: Number(numbers[2]) } : (text || '').split(',').map((word) => word.trim()).filter(Boolean);
};
const poolText = (pool) => (Array.isArray(pool) ? pool.join(', ') : `${number(pool.from)} to ${number(pool.to)}`);

const Create = ({ close }) => {
  const { announce } = useSession();
  const submit = async ({ pool, ...values }) => {
    const made = await call('POST', 'api/draws', { ...given(values), pool: poolOf(pool), prizes: values.prizes });
    announce(`The draw ${made.id} was created.`);
    close(true);
  };
  return html`<${Dialog} title="New draw" close=${() => close(false)}><${Form} fields=${NEW} action="Create" submit=${submit} close=${() => close(false)} /><//>`;
};

const Card = ({ draw }) => html`
  <li class="card">
    <header><h2><a class="link" href="#/draws/${segment(draw.id)}">${draw.id}</a></h2><${State} state=${draw.state} /></header>
    <p class="figure"><strong>${number(draw.entries)}</strong> ${draw.entries === 1 ? 'entry' : 'entries'}</p>
    <div class="row"><span>${draw.drawnAt ? html`drawn <${Time} at=${draw.drawnAt} />` : html`closes <${Time} at=${draw.closesAt} />`}</span><span>${draw.pick} of ${poolText(draw.pool)}</span></div>
  </li>`;

export const Draws = () => {
  const pages = usePages(`api/draws${query({ limit: 50 })}`, 'draws');
  const [creating, setCreating] = useState(false);
  const close = (made) => {
    setCreating(false);
    if (made) pages.reload();
  };
  const { items } = pages;
  return html`
    <${Head} title="Draws"><button type="button" class="primary" onClick=${() => setCreating(true)}>New draw</button><//>
    ${creating && html`<${Create} close=${close} />`}
    ${pages.problem && html`<${Failure} problem=${pages.problem} again=${pages.reload} />`}
    ${!items && !pages.problem && html`<${Loading} />`}
    ${items?.length === 0 && html`<${Empty} title="No draws yet" command=${curl('POST', '/api/draws', { id: 'easter', pick: 6, pool: { from: 1, to: 49 }, closesAt: '2030-04-21T18:00:00Z', prizes: [{ matches: 6, name: 'a car', quantity: 1 }] })}>A draw takes entries until it closes, and then has a sure winner whom nobody could choose. Create one here, or over the API:<//>`}
    ${items?.length > 0 && html`<ul class="cards">${items.map((one) => html`<${Card} key=${one.id} draw=${one} />`)}</ul>`}
    <${Pager} pages=${pages} />`;
};

const BEACON = { name: 'beacon', label: 'The value', required: true, max: 100 };

const Beacon = ({ draw, path, close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    await call('POST', `${path}/draw`, values);
    announce(`${draw.id} is drawn.`);
    close(true);
  };
  return html`
    <${Dialog} title="Draw ${draw.id}" close=${() => close(false)}>
      <${Form} fields=${[{ ...BEACON, hint: draw.beaconSource }]} action="Draw" submit=${submit} close=${() => close(false)} />
    <//>`;
};

const Hash = ({ text, none }) => (text ? html`<code>${text}</code> <${Copy} text=${text} />` : none);

export const Draw = ({ id }) => {
  const path = `api/draws/${segment(id)}`;
  const { data: draw, problem, reload } = useAnswer(path, AGAIN);
  const [dialog, setDialog] = useState(null);
  const back = ['#/draws', 'Draws'];
  const close = (changed) => {
    setDialog(null);
    if (changed) reload();
  };
  if (!draw) return html`<${Head} title=${id} back=${back} />${problem ? html`<${Failure} problem=${problem} again=${reload} />` : html`<${Loading} />`}`;
  const waits = draw.state === 'closed' && draw.beaconSource && !draw.beacon;
  return html`
    <${Head} title=${id} back=${back}>
      <${State} state=${draw.state} />
      ${draw.state === 'open' && html`<button type="button" class="danger" onClick=${() => setDialog('close')}>${draw.beaconSource ? 'Close now' : 'Draw now'}</button>`}
      ${waits && html`<button type="button" class="primary" onClick=${() => setDialog('beacon')}>Draw</button>`}
      ${draw.state === 'closed' && !waits && html`<${Act} label="Draw" kind="primary" act=${() => call('POST', `${path}/draw`).then(reload)} done="${id} goes on." />`}
    <//>
    ${dialog === 'close' && html`
      <${Confirm} title="${draw.beaconSource ? 'Close' : 'Draw'} ${id} now?" action=${draw.beaconSource ? 'Close' : 'Draw'} done="${id} is closed." act=${() => call('POST', `${path}/draw`)} close=${close}>
        <p>It takes no more entries, for good. ${draw.beaconSource ? 'It then waits for its public value.' : 'Its winner is final.'}</p>
      <//>`}
    ${dialog === 'beacon' && html`<${Beacon} draw=${draw} path=${path} close=${close} />`}
    <dl class="tiles">
      <${Tile} name="Entries" value=${number(draw.entries)} note="${draw.perUser} of one user at most" />
      ${draw.winner && html`<${Tile} name="Winner" value="No ${number(draw.winner.sequence)}" note="in order of entry" />`}
    </dl>
    <section aria-labelledby="prizes">
      <h2 id="prizes">Prizes</h2>
      <${Table} label="Prizes of ${id}" columns=${[['Prize'], ['Matches', 'num'], ['There are'], ['Won by', 'num']]}>
        ${draw.prizes.map((prize) => html`
          <tr key=${prize.name}><th scope="row">${prize.name}</th><td class="num">${prize.matches} of ${draw.pick}</td>
            <td>${prize.quantity === null ? 'one for everybody' : number(prize.quantity)}</td><td class="num">${prize.winners === null ? '–' : number(prize.winners)}</td></tr>`)}
      <//>
    </section>
    <section aria-labelledby="terms">
      <h2 id="terms">Terms and proof</h2>
      <dl class="facts">
        <dt>Picked from</dt><dd>${draw.pick} of ${poolText(draw.pool)}</dd>
        <dt>Opens</dt><dd><${Time} at=${draw.opensAt} none="at once" /></dd>
        <dt>Closes</dt><dd><${Time} at=${draw.closesAt} /></dd>
        ${draw.beaconSource && html`<dt>Public value</dt><dd>${draw.beacon ?? 'not known yet'} <span class="note">${draw.beaconSource}</span></dd>`}
        <dt>Winning words</dt><dd>${draw.winningWords ? draw.winningWords.join(', ') : 'not drawn yet'}</dd>
        <dt>Commitment</dt><dd><${Hash} text=${draw.commitment} /></dd>
        <dt>Root</dt><dd><${Hash} text=${draw.root} none="soon after the close" /></dd>
        <dt>Seed</dt><dd><${Hash} text=${draw.seed} none="told with the outcome" /></dd>
        <dt>Topic</dt><dd><a href="#/topics/${segment(draw.topic)}">${draw.topic}</a></dd>
      </dl>
    </section>
    <section aria-labelledby="entry"><h2 id="entry">An entry</h2><${Command} text=${curl('POST', `/api/draws/${id}/entries`)} /></section>`;
};
