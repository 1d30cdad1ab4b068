// The dashboard: who is logged in, which view is in sight, and what is announced.
import { render } from './preact.js';
import { useCallback, useEffect, useRef, useState } from './hooks.js';
import * as api from './api.js';
import * as stream from './live.js';
import { Failure, Head, Session, arrival, html } from './ui.js';
import { Overview } from './overview.js';
import { Campaign, Campaigns } from './campaigns.js';
import { Rooms } from './rooms.js';
import { Draw, Draws } from './draws.js';
import { Links } from './links.js';
import { Limits } from './limits.js';
import { Topic, Topics } from './topics.js';
import { Origins } from './origins.js';
import { Events } from './events.js';
import { Keys } from './keys.js';
import { Configuration } from './configuration.js';

/** Name in the address, title, the scope that it takes (none: any key), the view, and that of one thing. */
const VIEWS = [
  ['', 'Overview', null, Overview],
  ['campaigns', 'Campaigns', 'campaigns', Campaigns, ({ id }) => html`<${Campaign} id=${id} />`],
  ['rooms', 'Waiting rooms', 'campaigns', Rooms],
  ['draws', 'Draws', 'campaigns', Draws, ({ id }) => html`<${Draw} id=${id} />`],
  ['links', 'Links', 'links', Links],
  ['topics', 'Topics', 'topics', Topics, ({ id }) => html`<${Topic} name=${id} />`],
  ['limits', 'Limits', 'limits', Limits],
  ['origins', 'Origins', 'admin', Origins],
  ['events', 'Events', 'admin', Events],
  ['keys', 'Keys', 'admin', Keys],
  ['configuration', 'Configuration', 'admin', Configuration],
];
/** How long an announcement stays, milliseconds. */
const STAYS = 6000;

const place = () => {
  const [name = '', id] = location.hash.replace(/^#\/?/, '').split('/');
  try {
    return { name, id: id && decodeURIComponent(id) };
  } catch {
    return { name, id };
  }
};

const usePlace = () => {
  const [here, setHere] = useState(place);
  useEffect(() => {
    const moved = () => {
      arrival.moved = true;
      setHere(place());
    };
    addEventListener('hashchange', moved);
    return () => removeEventListener('hashchange', moved);
  }, []);
  return here;
};

const LogIn = ({ done, note }) => {
  const input = useRef(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = 'Log in · Tollgate';
    input.current.focus();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const who = await api.logIn(input.current.value.trim());
      arrival.moved = true;
      done(who);
    } catch (caught) {
      setProblem(caught);
      setBusy(false);
      input.current.focus();
    }
  };
  const fault = problem && (problem.status === 401 ? 'This is no API key that the gateway knows, or it has ended.' : problem.message);
  return html`
    <main class="login">
      <img src="admin/assets/icon.svg" alt="" width="48" height="48" />
      <h1>Tollgate</h1>
      ${note && html`<p role="status">${note}</p>`}
      <form onSubmit=${submit}>
        <div class="field">
          <label for="key">API key</label>
          <input id="key" ref=${input} type="password" autocomplete="current-password" required spellcheck=${false} aria-describedby=${fault ? 'key-hint key-fault' : 'key-hint'} aria-invalid=${fault ? 'true' : undefined} />
          <p class="hint" id="key-hint">What you see depends on its scopes. It leaves this page once, and is kept neither here nor in the browser.</p>
          ${fault && html`<p class="fault" id="key-fault" role="alert">${fault}</p>`}
        </div>
        <button type="submit" class="primary" disabled=${busy}>Log in</button>
      </form>
    </main>`;
};

const Reach = ({ title, scope }) => html`
  <${Head} title=${title} />
  <div class="notice" role="status"><p><strong>Your key does not reach this far</strong></p><p>${title} takes a key with the scope <code>${scope}</code>, or <code>admin</code>. Log in with one that has it, or ask who manages the keys.</p></div>`;

const Nowhere = () => html`<${Head} title="Not found" /><p>There is no such page. <a href="#/">Back to the overview.</a></p>`;

const Connection = () => {
  const { connected, failures } = stream.useLive();
  const lost = !connected && failures > 0;
  return html`<p class="connection ${lost ? 'lost' : ''}" role="status">${connected ? html`<i aria-hidden="true"></i>Live` : lost ? 'No connection; trying again …' : 'Connecting …'}</p>`;
};

/** Says what has changed by itself, where that matters: not every number. */
const useNews = (announce) => {
  const before = useRef(new Map());
  const { campaigns, topics } = stream.useLive();
  useEffect(() => {
    const tell = (name, value, text) => {
      const old = before.current.get(name);
      before.current.set(name, value);
      if (old !== undefined && old !== value) announce(text);
    };
    for (const one of campaigns?.campaigns || []) tell(`c/${one.id}`, one.state, one.state === 'soldOut' ? `Campaign ${one.id} is sold out.` : `Campaign ${one.id} is now ${one.state}.`);
    for (const topic of topics?.topics || []) {
      for (const one of topic.subscriptions) tell(`s/${topic.name}/${one.name}`, one.paused, `Deliveries to ${one.name} ${one.paused ? 'are paused' : 'go on'}.`);
    }
  }, [campaigns, topics]);
};

const Shell = ({ who, logOut, announcements, announce }) => {
  const here = usePlace();
  useNews(announce);
  const scopes = who.key.scopes;
  const may = (scope) => !scope || scopes.includes('admin') || scopes.includes(scope);
  const view = VIEWS.find(([name]) => name === here.name);
  const [, title, scope, All, One] = view || [];
  const session = { key: who.key, may, announce };
  useEffect(() => {
    if (scrollY) scrollTo(0, 0);
  }, [here.name, here.id]);
  return html`
    <${Session.Provider} value=${session}>
      <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.querySelector('main h1')?.focus())}>Skip to the content</a>
      <div class="shell">
        <header class="side">
          <p class="brand"><img src="admin/assets/icon.svg" alt="" width="28" height="28" /> Tollgate</p>
          <nav aria-label="Views"><ul>
            ${VIEWS.filter(([, , needs]) => may(needs)).map(([name, text]) => html`
              <li key=${name}><a href="#/${name}" aria-current=${name === here.name ? 'page' : undefined}>${text}</a></li>`)}
          </ul></nav>
          <div class="who">
            <${Connection} />
            <p class="note"><span>Key ${who.key.id}</span> <span>${scopes.join(', ')}</span></p>
            <button type="button" onClick=${logOut}>Log out</button>
          </div>
        </header>
        <main id="main">
          ${!view ? html`<${Nowhere} />` : !may(scope) ? html`<${Reach} title=${title} scope=${scope} />` : here.id !== undefined && One ? html`<${One} key=${here.id} id=${here.id} />` : html`<${All} />`}
        </main>
      </div>
      <div class="toasts" role="status" aria-live="polite">${announcements.map(({ id, text, tone }) => html`<p key=${id} class=${tone}>${text}</p>`)}</div>
    <//>`;
};

const App = () => {
  const [who, setWho] = useState(undefined);
  const [note, setNote] = useState('');
  const [problem, setProblem] = useState(null);
  const [announcements, setAnnouncements] = useState([]);
  const count = useRef(0);
  const announce = useCallback((text, tone = '') => {
    const id = ++count.current;
    setAnnouncements((all) => [...all.slice(-2), { id, text, tone }]);
    setTimeout(() => setAnnouncements((all) => all.filter((one) => one.id !== id)), STAYS);
  }, []);
  const leave = (why) => {
    stream.stop();
    setAnnouncements([]);
    setNote(why);
    setWho(null);
  };
  const enter = (someone) => {
    setNote('');
    setWho(someone);
    stream.start(() => leave('Your session has ended. Log in again.'));
  };
  const look = async () => {
    setProblem(null);
    try {
      const someone = await api.session();
      someone ? enter(someone) : setWho(null);
    } catch (caught) {
      setProblem(caught);
    }
  };
  useEffect(() => {
    api.onLoggedOut(() => leave('Your session has ended. Log in again.'));
    look();
  }, []);
  const logOut = async () => {
    await api.logOut();
    leave('You are logged out.');
  };
  if (problem) return html`<main class="login"><h1>Tollgate</h1><${Failure} problem=${problem} again=${look} /></main>`;
  if (who === undefined) return html`<p class="boot" role="status">Loading the dashboard …</p>`;
  if (!who) return html`<${LogIn} done=${enter} note=${note} />`;
  return html`<${Shell} who=${who} logOut=${logOut} announcements=${announcements} announce=${announce} />`;
};

const root = document.getElementById('app');
root.textContent = '';
render(html`<${App} />`, root);
