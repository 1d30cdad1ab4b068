// The gateway's own events as they happen, and those that its topic keeps.
import { useEffect, useRef, useState } from './hooks.js';
import { live, useLive } from './live.js';
import { events, get, segment } from './api.js';
import { Badge, Command, Failure, Head, Loading, Table, Time, curl, html } from './ui.js';

/** Events in sight, and how many of the past are shown at first. */
const MOST = 200;
const PAST = 50;
/** Milliseconds until it is tried again where the stream has ended. */
const RETRY = 3000;

const TONES = {
  'message.dead': 'bad',
  'subscription.breaker-open': 'bad',
  'alert.started': 'bad',
  'subscription.paused': 'warn',
  'limit.refusing': 'warn',
  'campaign.sold-out': 'warn',
  'subscription.breaker-closed': 'good',
  'alert.ended': 'good',
};

/** Where the view of what an event is about is, if there is one. */
const place = ({ type, data }) => {
  if (data.topic) return `#/topics/${segment(data.topic)}`;
  if (type.startsWith('campaign.')) return `#/campaigns/${segment(data.id)}`;
  if (data.policy) return '#/limits';
  if (type.startsWith('link.')) return '#/links';
  if (type.startsWith('key.')) return '#/keys';
  return null;
};

const said = (value) => (Array.isArray(value) ? value.join(', ') : String(value));
const textOf = (event) => `${event.type} ${Object.values(event.data).map(said).join(' ')}`.toLowerCase();

const Row = ({ event }) => {
  const href = place(event);
  const facts = Object.entries(event.data).filter(([, value]) => value !== null);
  return html`
    <tr>
      <th scope="row"><${Badge} tone=${TONES[event.type] || 'quiet'}>${event.type}<//></th>
      <td class="long"><dl class="pairs">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt> <dd>${said(value)}</dd></div>`)}</dl></td>
      <td>${href && html`<a href=${href}>See</a>`}</td>
      <td><${Time} at=${event.time} exact /></td>
    </tr>`;
};

/** The newest messages of the topic of events, oldest first, and the sequence of the last. */
const kept = async (topic) => {
  const path = `api/topics/${segment(topic)}`;
  const { last } = await get(path).catch((problem) => (problem.status === 404 ? { last: 0 } : Promise.reject(problem)));
  const { messages, nextAfter } = await get(`${path}/messages?limit=${PAST}&after=${Math.max(0, last - PAST)}`);
  return [messages, nextAfter];
};

/** The events so far, newest first, and how the stream is. `topic`: where they are kept; undefined until it is known. */
const useEvents = (topic) => {
  const [all, setAll] = useState([]);
  const [state, setState] = useState({ open: false, problem: null });
  const [turn, setTurn] = useState(0);
  const after = useRef(null);
  useEffect(() => {
    if (topic === undefined || document.hidden) return undefined;
    const end = new AbortController();
    let timer = 0;
    const add = (some) => setAll((before) => [...[...some].reverse(), ...before].slice(0, MOST));
    const missed = (count) => ({ type: 'missed', id: `missed ${Date.now()}`, time: new Date().toISOString(), data: { events: count } });
    const listen = async () => {
      try {
        if (topic && after.current === null) {
          const [past, last] = await kept(topic);
          add(past);
          after.current = last;
        }
        const from = after.current === null ? {} : { 'last-event-id': String(after.current) };
        await events('api/events', from, end.signal, () => setState({ open: true, problem: null }), ({ id, name, data }) => {
          if (id) after.current = id;
          add([name === 'missed' ? missed(data.missed) : data]);
        });
        setState({ open: false, problem: null });
      } catch (problem) {
        if (end.signal.aborted) return;
        // A stream that breaks is opened again, as one that could not be opened.
        setState({ open: false, problem: problem.title ? problem : null });
      }
      if (!end.signal.aborted) timer = setTimeout(listen, RETRY);
    };
    listen();
    return () => {
      end.abort();
      clearTimeout(timer);
    };
  }, [topic, turn]);
  useEffect(() => {
    // Who does not look takes none of the streams that there are.
    const look = () => setTurn((n) => n + 1);
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, []);
  return { all, ...state };
};

export const Events = () => {
  useLive();
  const topic = live.gateway ? live.gateway.events : undefined;
  const { all, open, problem } = useEvents(topic);
  const [typed, setTyped] = useState('');
  const [held, setHeld] = useState(null);
  const wanted = typed.trim().toLowerCase();
  const shown = (held || all).filter((event) => !wanted || textOf(event).includes(wanted));
  const since = held?.length ? all.indexOf(held[0]) : all.length;
  return html`
    <${Head} title="Events">
      <button type="button" aria-pressed=${held ? 'true' : 'false'} onClick=${() => setHeld(held ? null : all)}>${held ? 'Go on' : 'Hold'}</button>
    <//>
    <p class="lead">${topic ? html`What happens to the gateway, newest first. The topic <a href="#/topics/${segment(topic)}">${topic}</a> keeps it.` : html`What happens to the gateway from now on. It is kept nowhere: <code>[events] topic = "tollgate"</code> in <code>tollgate.toml</code> keeps it.`}</p>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <div class="field"><label for="find">Find</label><input id="find" type="search" placeholder="Type, name or value" value=${typed} onInput=${(event) => setTyped(event.target.value)} /></div>
    </form>
    ${problem && html`<${Failure} problem=${problem} />`}
    ${!open && !problem && html`<${Loading} />`}
    <p class="note" role="status">${held ? `Held. Since then: ${since < 0 ? `${MOST} and more` : since}.` : open && !shown.length ? (wanted ? `No event has “${typed.trim()}” in it.` : 'Nothing has happened yet.') : ''}</p>
    ${shown.length > 0 && html`<${Table} label="Events" columns=${[['Event'], ['What'], ['View'], ['Time']]}>${shown.map((event) => html`<${Row} key=${event.id} event=${event} />`)}<//>`}
    <section aria-labelledby="same"><h2 id="same">The same over the API</h2><${Command} text=${curl('GET', '/api/events').replace('curl ', 'curl -N ')} /></section>`;
};
